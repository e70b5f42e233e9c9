"""The master file: one file per run that tells all of it, and links to the frames.

Journal, ledger and manifest come in; a file beside the run's others goes out, from the writer, just
before the run is complete. It is made anew whenever a run is completed anew (`bluesky-em retry`).
Should that fail, the manifest says so under `master`, and nothing else changes: nothing is in it
that is not elsewhere.

A package adds a format of its own with an entry point of the group `bluesky_em.master_formats`:
a name, and a function that takes a `CompleteRun` and a path, writes the file there, and returns
the suffix it is to have, e.g. `.nxs`. The writer's environment names the format to be used
(BLUESKY_EM_MASTER_FORMAT, default `nexus`).

Why `NXentry` without a definition: `NXem` demands facts about the specimen that no plan knows;
who claims it without them is found out by every validator.
"""

from ._formats import CompleteRun, Format, write

__all__ = ["write", "CompleteRun", "Format"]
