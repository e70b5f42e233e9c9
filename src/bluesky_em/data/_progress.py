"""The progress bar of `Data.wait`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress


@contextmanager
def progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar for `total` references; yield the function that sets how many are done."""
    if not shown:
        yield lambda done: None
        return
    with Progress() as progress:
        task = progress.add_task("references", total=total)
        yield lambda done: progress.update(task, completed=done)
