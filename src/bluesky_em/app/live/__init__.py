"""Watching runs: tables and plots made by followers, which no plan waits for."""

from ._desk import LiveView
from ._plot import plot
from ._table import tabulate

__all__ = ["LiveView", "tabulate", "plot"]
