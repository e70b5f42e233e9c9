"""Watching runs: tables and plots made by followers, which no plan waits for."""

from ._desk import Desk
from ._table import tabulate

__all__ = ["Desk", "tabulate"]
