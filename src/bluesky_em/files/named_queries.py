"""Named SQL queries of a `.sql` file of this package."""

from __future__ import annotations

import re
from importlib.resources import files


def load(file: str) -> dict[str, str]:
    """Return the statements of a file by name, without comments.

    A line `-- name: <name>` begins each; the comment lines that follow describe it.
    """
    text = files("bluesky_em.files").joinpath(file).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {
        name: re.sub(r"^--.*\n", "", statement, flags=re.MULTILINE).strip()
        for name, statement in zip(parts[::2], parts[1::2], strict=True)
    }
