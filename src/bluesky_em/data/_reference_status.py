"""The status of a reference, in words that a user can act on."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bluesky_em.reference import ReferenceState


@dataclass(frozen=True, kw_only=True)
class ReferenceStatus:
    """The position of a reference on the way from the spool to the catalog."""

    reference: str
    stage: ReferenceState | None
    """None: not known (yet) in the folder or catalog that was searched."""
    reason: str = ""
    """The reason for which it failed."""
    remark: str = ""
    """A note, e.g. `complete` for a run."""

    def _repr_html_(self) -> str:
        """Return the status for notebooks."""
        return f"<code>{escape(str(self))}</code>"

    def __str__(self) -> str:
        stage = self.stage.value if self.stage else "not known here"
        return f"{self.reference}: {stage}" + "".join(
            f"; {text}" for text in (self.reason, self.remark) if text
        )
