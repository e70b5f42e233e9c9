"""Tables and plots of runs, drawn by followers; no plan waits for them."""

from ._live_view import LiveView
from ._plot import plot
from ._table import tabulate

__all__ = ["LiveView", "tabulate", "plot"]
