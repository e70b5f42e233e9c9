"""The master file: one file per run that describes all of it, and links to the frames.

The writer composes it from journal, ledger and manifest just before the run is complete, beside the
run's other files, and again whenever the run is completed again (`bluesky-em retry`). If that
fails, the manifest says so under `master`, and nothing else changes: the file holds nothing that is
not stored elsewhere.

A package adds a format of its own with an entry point of the group `bluesky_em.master_formats`:
a name, and a function that takes a `CompleteRun` and a path, writes the file there, and returns
the suffix of the final name, e.g. `.nxs`. The writer's environment selects the format
(BLUESKY_EM_MASTER_FORMAT, default `nexus`).

Why `NXentry` without a definition: `NXem` demands facts about the specimen that no plan knows; a
file that claims it without them fails in every validator.
"""

from ._formats import CompleteRun, Format, write

__all__ = ["write", "CompleteRun", "Format"]
