"""The pictures of a survey with a line scan, or with a map."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.transforms import Transform

from bluesky_em.analysis import elemental_map

EDGES = {"C-K": 284.0, "Ti-L": 456.0, "O-K": 532.0}
"""Onsets in eV of the core-loss edges to label (H. Ahn, EELS Atlas; as in exspy's tables)."""
ELEMENT = "Ti-L"
"""The edge to map."""
CORE_LOSS = 150.0  # eV, where the plots of core losses begin


def draw(
    survey: xarray.DataArray,
    spectra: list[xarray.DataArray],
    line: tuple[tuple[float, float], tuple[float, float]],
    path: Path,
) -> None:
    """Draw the survey with the line, the scan as an image, and four of its spectra.

    Args:
        survey: image with axes `y`, `x` in m.
        spectra: along the line, axis `energy` in eV.
        line: its ends, as fractions of the survey.
        path: the PNG to write.
    """
    figure, axes = plt.subplot_mosaic(
        [["survey", "low"], ["scan", "core"]], figsize=(11, 8), layout="constrained"
    )
    _survey(axes["survey"], survey, line)
    _scan(axes["scan"], spectra)
    chosen = _chosen(spectra)
    _spectra(axes["low"], spectra, chosen, -20.0, 100.0, "Low loss")
    _spectra(axes["core"], spectra, chosen, CORE_LOSS, np.inf, "Core loss")
    _label_edges(axes["core"])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_map(
    survey: xarray.DataArray, spectra: xarray.DataArray, adf: xarray.DataArray, path: Path
) -> None:
    """Draw a survey and, from a map, its dark field, an element, and mean spectra.

    Args:
        survey: image with axes `y`, `x` in m.
        spectra: axes `y`, `x` in m and `energy` in eV.
        adf: axes `y`, `x` in m.
        path: the PNG to write.
    """
    figure, axes = plt.subplot_mosaic(
        [["survey", "adf"], ["element", "spectra"]], figsize=(11, 9), layout="constrained"
    )
    energy, counts = spectra.energy.values, _mean_of_neighbours(spectra.values)
    element = elemental_map(counts, energy, EDGES[ELEMENT])
    _image(axes["survey"], survey, survey.values, "HAADF survey", "gray")
    _image(axes["adf"], adf, adf.values, "Dark field of the map", "gray")
    _image(axes["element"], adf, element, f"{ELEMENT} edge, 3 x 3 mean", "viridis")
    rich = element >= np.quantile(element, 0.9)
    poor = element <= np.quantile(element, 0.1)
    shown = energy > CORE_LOSS
    for where, label in ((rich, f"richest in {ELEMENT}"), (poor, "poorest")):
        mean = counts[where][:, shown].mean(axis=0)
        axes["spectra"].plot(energy[shown], mean, lw=0.9, label=label)
    axes["spectra"].set(
        title="Mean spectra", xlabel="energy loss / eV", ylabel="counts", yscale="log"
    )
    axes["spectra"].set_ylim(bottom=0.1)
    axes["spectra"].legend(fontsize="small")
    _label_edges(axes["spectra"])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mean_of_neighbours(counts: np.ndarray) -> np.ndarray:
    """Return the mean of each point and its neighbours: single spectra are too noisy to fit."""
    lines, points = counts.shape[:2]
    padded = np.pad(counts, ((1, 1), (1, 1), (0, 0)), mode="edge")
    total = np.zeros_like(counts)
    for down, right in itertools.product(range(3), repeat=2):
        total += padded[down : down + lines, right : right + points]
    return total / 9


def _image(
    axes: Axes, place: xarray.DataArray, values: np.ndarray, title: str, colours: str
) -> None:
    x, y = 1e9 * place.x.values, 1e9 * place.y.values
    axes.imshow(values, cmap=colours, extent=(x[0], x[-1], y[-1], y[0]))
    axes.set(title=title, xlabel="x / nm", ylabel="y / nm")


def _label_edges(axes: Axes) -> None:
    for name, onset in EDGES.items():
        axes.axvline(onset, color="0.6", lw=0.8, ls=":")
        axes.text(onset, 0.98, f" {name}", transform=_x_data(axes), va="top")


def _survey(
    axes: Axes, survey: xarray.DataArray, line: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    _image(axes, survey, survey.values, "HAADF survey", "gray")
    x, y = 1e9 * survey.x.values, 1e9 * survey.y.values
    (x0, y0), (x1, y1) = line
    ends = [[left + f * (right - left) for f in fs] for left, right, fs in (
        (x[0], x[-1], (x0, x1)), (y[0], y[-1], (y0, y1)))]  # fmt: skip
    axes.plot(*ends, color="tab:red", lw=1.5)
    axes.annotate("start", (ends[0][0], ends[1][0]), color="tab:red", va="bottom")


def _scan(axes: Axes, spectra: list[xarray.DataArray]) -> None:
    energy = spectra[0].energy.values
    shown = energy > CORE_LOSS if energy[-1] > CORE_LOSS else slice(None)
    stack = np.stack([s.values[shown] for s in spectra])
    axes.imshow(
        np.log10(np.clip(stack, 1, None)), aspect="auto", origin="lower", cmap="magma",
        extent=(energy[shown][0], energy[shown][-1], -0.5, len(spectra) - 0.5),
    )  # fmt: skip
    axes.set(title="Line scan, log10 counts", xlabel="energy loss / eV", ylabel="point")


def _spectra(
    axes: Axes, spectra: list[xarray.DataArray], chosen: list[int], low: float, high: float,
    title: str,
) -> None:  # fmt: skip
    for index in chosen:
        spectrum = spectra[index]
        inside = (spectrum.energy > low) & (spectrum.energy < high)
        if inside.any():
            axes.plot(spectrum.energy[inside], spectrum[inside], lw=0.9, label=f"point {index}")
        else:
            axes.set_axis_off()  # e.g. a recorded spectrum of another range
    axes.set(title=title, xlabel="energy loss / eV", ylabel="counts", yscale="log")
    if axes.get_lines():
        axes.set_ylim(bottom=1)
        axes.legend(fontsize="small")


def _chosen(spectra: list[xarray.DataArray]) -> list[int]:
    """Return up to four points that differ, evenly spread over the order of total counts."""
    order = np.argsort([float(s.sum()) for s in spectra])
    places = np.linspace(0, len(order) - 1, min(4, len(order)))
    return sorted({int(order[int(place)]) for place in places})


def _x_data(axes: Axes) -> Transform:
    return axes.get_xaxis_transform()
