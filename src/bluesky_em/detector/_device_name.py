"""Names that a detector can have: they become data keys, files, columns and parts of references."""

from __future__ import annotations

import re

_RESERVED = re.compile(r"time|seq_num|internal(_(text|later|\d+))*", re.IGNORECASE)
"""Names in each stream of a catalog: two columns of the events, and their tables."""
_FORBIDDEN = re.compile(r"[./\\?#%\x00-\x1f\x7f]")
"""Characters that data keys, files or addresses cannot have."""


def check_device_name(name: str) -> None:
    """Refuse a name under which frames could not be catalogued; an empty one is not given yet.

    Raises:
        ValueError: another name is needed; the message says why.
    """
    if _RESERVED.fullmatch(name):
        raise ValueError(
            f"a detector cannot be named {name!r}, since each stream of a catalog has a {name!r} "
            "already: give it another name, e.g. 'eels'"
        )
    if found := _FORBIDDEN.search(name):
        raise ValueError(
            f"a detector cannot be named {name!r}, since neither data keys nor addresses can have "
            f"{found.group()!r}: give it another name, e.g. 'eels' or 'eels_main'"
        )
