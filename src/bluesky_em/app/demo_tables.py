"""The tables of the demonstration: when each reference was stored and catalogued."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table

from bluesky_em.files.ledger import Entry

MAX_ROWS = 24


def table_of_references(entries: list[Entry], latencies: list[float]) -> Table:
    """Return a table with a row for each reference of a step scan.

    Args:
        entries: of the ledger, one for each reference.
        latencies: from the end of each exposure to its reference in the plan, in s.
    """
    table = Table("reference", "exposure end", "reference", "stored", "catalogued", "stage")
    for entry, latency in zip(entries, latencies, strict=True):
        name = f"….{entry.frame.detector}/{entry.frame.number}"
        end, *progress = _progress(entry)
        table.add_row(name, end, f"+{1e3 * latency:.1f} ms", *progress)
    return table


def table_of_blocks(entries: list[Entry]) -> Table:
    """Return a table with a row for each block of frames of a fly scan, `MAX_ROWS` at most."""
    table = Table("frames", "last exposure end", "stored", "catalogued", "stage")
    for entry in entries[:MAX_ROWS]:
        frame = entry.frame
        last = frame.number + frame.count - 1
        table.add_row(f"….{frame.detector}/{frame.number} to {last}", *_progress(entry))
    if len(entries) > MAX_ROWS:
        table.add_row(f"and {len(entries) - MAX_ROWS} more")
    return table


def _progress(entry: Entry) -> list[str]:
    ended = entry.frame.ended
    return [
        datetime.fromtimestamp(ended).time().isoformat("milliseconds"),
        *(
            "-" if at is None else f"+{at - ended:.2f} s"
            for at in (entry.stored_at, entry.catalogued_at)
        ),
        entry.stage.value,
    ]
