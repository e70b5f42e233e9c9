"""The progress bar of `Data.wait`, in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar for `total` references; yield the function that sets how many are done."""
    if not shown:
        yield lambda done: None
        return
    with tqdm(total=total, desc="references", file=sys.stdout) as bar:
        yield lambda done: _set(bar, done)


def _set(bar: tqdm, done: int) -> None:
    if done != bar.n:  # else a notebook would keep the same line many times
        bar.update(done - bar.n)
