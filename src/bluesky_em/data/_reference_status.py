"""How a reference stands, in words a person can act on."""

from __future__ import annotations

from dataclasses import dataclass

from bluesky_em.reference import ReferenceState


@dataclass(frozen=True, kw_only=True)
class ReferenceStatus:
    """Where a reference is on its way from the spool to the catalog."""

    reference: str
    stage: ReferenceState | None
    """None: not known where it was looked for (yet)."""
    reason: str = ""
    """Why it failed."""
    remark: str = ""
    """What it waits for, and whether that is merely slow or stuck."""

    def __str__(self) -> str:
        stage = self.stage.value if self.stage else "not known here"
        return f"{self.reference}: {stage}" + "".join(
            f"; {text}" for text in (self.reason, self.remark) if text
        )
