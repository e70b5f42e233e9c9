"""A function to run on frames, and its provenance."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from bluesky_em import analysis
from bluesky_em.axes import Axis
from bluesky_em.data import Data
from bluesky_em.files import result_columns
from bluesky_em.reference import Reference


@dataclass(frozen=True, kw_only=True)
class FrameFunction:
    """A function of frames: numpy in, numpy out, live or on a finished run.

    It is called as those of `bluesky_em.analysis`: first frames of shape `(frames, *frame)`; then,
    by name, the axes of a frame among its arguments (`energy` in eV, `y`, `x` in m), and its
    parameters. It returns one value or one array for each frame: shape `(frames, ...)`.
    """

    name: str
    """e.g. `bluesky_em.analysis:thickness`"""
    call: Callable[..., Any]
    parameters: Mapping[str, Any]
    """by name; a reference is replaced by its frame"""

    @classmethod
    def named(cls, name: str, parameters: Mapping[str, Any] | None = None) -> FrameFunction:
        """Find a function by its name.

        Args:
            name: one of `bluesky_em.analysis`; otherwise `module:function` or `file.py:function`.
            parameters: of the function.

        Raises:
            ValueError: there is no such function, or it has no such parameter.
        """
        place, _, function = name.rpartition(":")
        module = _load(place) if place else analysis
        call = getattr(module, function, None)
        if not inspect.isfunction(call):
            known = [n for n in analysis.__all__ if inspect.isfunction(getattr(analysis, n))]
            raise ValueError(
                f"there is no function {function!r} in {module.__name__}; bluesky_em.analysis has "
                f"{', '.join(known)}; name others as module:function or file.py:function"
            )
        found = cls(
            name=f"{place or analysis.__name__}:{function}", call=call,
            parameters=dict(parameters or {}),
        )  # fmt: skip
        if function in result_columns.NAMES:
            raise ValueError(
                f"a function cannot have the name {function!r}, which a column beside its results "
                "has: rename it"
            )
        if unknown := found.parameters.keys() - inspect.signature(call).parameters.keys():
            raise ValueError(
                f"{found.name} takes no {sorted(unknown)}, only "
                f"{[*inspect.signature(call).parameters][1:]}"
            )
        for parameter in _frame_parameters(call) & found.parameters.keys():
            value = found.parameters[parameter]
            if not (isinstance(value, np.ndarray) or _is_reference(value)):
                raise ValueError(
                    f"{found.name}: {parameter}={value!r} is no frame; give a reference, e.g. "
                    f"{parameter}=<run uid>.eels/0"
                )
        return found

    @property
    def label(self) -> str:
        """The name without its module, e.g. `thickness`."""
        return self.name.rpartition(":")[2]

    @property
    def references(self) -> list[str]:
        """The references among its parameters."""
        return [value for value in self.parameters.values() if _is_reference(value)]

    def provenance(self) -> dict[str, Any]:
        """Return its name, version, source hash and parameters, which identify it later."""
        top = self.call.__module__.partition(".")[0]
        distributions = _distributions().get(top, [])
        source = ""
        with suppress(OSError, TypeError):
            source = hashlib.sha256(inspect.getsource(self.call).encode()).hexdigest()[:16]
        return {
            "function": self.name,
            "version": " ".join(f"{name} {version(name)}" for name in distributions[:1]),
            "source": source,
            "parameters": {name: _plain(value) for name, value in self.parameters.items()},
            "references": self.references,
        }

    def resolved(self, data: Data) -> FrameFunction:
        """Return the same function with complete references; wait for them.

        Raises:
            NotReady, ReferenceFailed, UnknownReference: as `Data.wait` does.
        """
        given = self.references
        done = data.wait(given) if given else []
        full = dict(zip(given, [status.reference for status in done], strict=True))
        parameters = {
            name: full[value] if _is_reference(value) else value
            for name, value in self.parameters.items()
        }
        return replace(self, parameters=parameters)

    def opened(self, data: Data) -> FrameFunction:
        """Return the same function with frames instead of references, which can be opened."""
        frames = {
            name: data.open(value).read() if _is_reference(value) else value
            for name, value in self.parameters.items()
        }
        return replace(self, parameters=frames)

    def __call__(self, frames: NDArray, axes: Sequence[Axis]) -> NDArray:
        """Run the function.

        Args:
            frames: shape `(frames, *frame)`.
            axes: of one frame.

        Raises:
            ValueError: a parameter is missing, or there is not one value for each frame.
            Exception: any error of the function.
        """
        wanted = inspect.signature(self.call).parameters
        by_axis = {axis.name: axis.values for axis in axes if axis.name in wanted}
        given = {**by_axis, **self.parameters}
        missing = [
            name
            for name, parameter in [*wanted.items()][1:]
            if parameter.default is parameter.empty and name not in given
        ]
        if missing:
            of_frames = sorted(_frame_parameters(self.call) & {*missing})
            example = f", e.g. --parameter {of_frames[0]}=<run uid>.eels/0" if of_frames else ""
            raise ValueError(
                f"{self.name} needs {', '.join(missing)} as a parameter{example}; the frames have "
                f"the axes {[axis.name for axis in axes]}"
            )
        values = np.asarray(self.call(frames, **given))
        if values.shape[:1] != frames.shape[:1]:
            raise ValueError(
                f"{self.name} returned shape {values.shape} for {len(frames)} frames; it must "
                f"return one value or one array for each: ({len(frames)}, ...)"
            )
        return values


def _load(place: str) -> Any:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as exc:
            raise ValueError(f"{place} cannot be imported: {exc}") from exc
    path = Path(place)
    spec = importlib.util.spec_from_file_location(f"bluesky_em_function.{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ValueError(f"{path.absolute()} does not exist")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return the installed distributions by package; reading them takes up to a second."""
    return packages_distributions()


def _frame_parameters(call: Callable[..., Any]) -> set[str]:
    """Return the parameters that are annotated as arrays: neither the frames, nor their axes."""
    annotations: dict[str, Any] = {}
    with suppress(NameError, TypeError):  # those of a user's function may not resolve
        annotations = get_type_hints(call)
    names = {*[*inspect.signature(call).parameters][1:]} - {"energy", "y", "x"}
    return {name for name in names if get_origin(annotations.get(name)) is np.ndarray}


def _is_reference(value: Any) -> bool:
    if isinstance(value, str):
        with suppress(ValueError):
            return bool(Reference.parse(value))
    return False


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
