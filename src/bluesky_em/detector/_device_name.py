"""Names that a detector can have: they become data keys, files, columns and parts of references."""

from __future__ import annotations

RESERVED = {"time", "seq_num", "internal"}
"""Names in each stream of a catalog: two columns of the events, and their table."""


def check_device_name(name: str) -> None:
    """Refuse a name under which frames could not be catalogued; an empty one is not given yet.

    Raises:
        ValueError: another name is needed; the message says why.
    """
    if name.lower() in RESERVED:
        raise ValueError(
            f"a detector cannot be named {name!r}, since each stream of a catalog has a {name!r} "
            "already: give it another name, e.g. 'eels'"
        )
    if "." in name or "/" in name:
        raise ValueError(
            f"a detector cannot be named {name!r}, since data keys have no '.' and no '/': give it "
            "another name, e.g. 'eels' or 'eels_main'"
        )
