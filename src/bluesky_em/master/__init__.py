"""The master file: one file per run that tells all of it, and links to the frames.

Comes from the journal, the ledger and the manifest; goes beside the run's files, by the writer,
when the run is complete. It is made anew whenever the run is completed anew, and can always be
made again: should it fail, the manifest says so, and nothing else changes.

A package adds a format of its own with an entry point of the group `bluesky_em.master_formats`:
a name, and a function that takes a `CompleteRun` and a path, writes the file there, and returns
the suffix it is to have, e.g. `.nxs`. The writer's environment names the format to be used
(BLUESKY_EM_MASTER_FORMAT, default `nexus`).

Why `NXentry` without a definition: `NXem` demands facts about the specimen that no plan knows;
who claims it without them is found out by every validator.
"""

from ._formats import CompleteRun, Format, write

__all__ = ["write", "CompleteRun", "Format"]
