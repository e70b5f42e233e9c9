"""The laboratory's own folders: `devices/` (which instruments are here) and `plans/`."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import bluesky_em
from bluesky_em.detector import RunPaths

TEMPLATE = Path(bluesky_em.__file__).parent / "lab_template"
"""Where an installed wheel has its copy of `devices/` and `plans/`."""


def load_devices(
    name: str, lab: Path, *, path_provider: RunPaths, **addresses: str
) -> dict[str, Any]:
    """Make the devices that `devices/<name>.py` declares; connects nothing.

    Args:
        name: e.g. `simulated`, `two_pc`.
        lab: the folder that holds `devices/`.
        path_provider: a Storage's `path_provider`.
        addresses: passed on to the file's `devices` function.

    Raises:
        FileNotFoundError: no such file; the message lists those there are.
    """
    module = _load(_find(lab / "devices", name))
    return module.devices(path_provider=path_provider, **addresses)


def load_plans(lab: Path) -> tuple[dict[str, Callable[..., Any]], dict[str, Exception]]:
    """Load every plan in `plans/`: from each file the function that bears its name.

    Returns:
        The plans, and for each file that could not be loaded its error: one typing mistake must
        not take all plans away.
    """
    plans: dict[str, Callable[..., Any]] = {}
    broken: dict[str, Exception] = {}
    for path in sorted((lab / "plans").glob("*.py")):
        if path.stem.startswith("_"):
            continue
        try:
            plans[path.stem] = getattr(_load(path), path.stem)
        except Exception as exc:  # whatever somebody wrote there
            broken[path.name] = exc
    return plans, broken


def find_lab() -> Path:
    """Give the folder with `devices/` and `plans/`: here, or the package's own."""
    here = Path.cwd()
    if (here / "devices").is_dir() and (here / "plans").is_dir():
        return here
    checkout = Path(bluesky_em.__file__).parents[2]
    return checkout if (checkout / "devices").is_dir() else TEMPLATE


def init(folder: Path) -> list[Path]:
    """Copy `devices/` and `plans/` into `folder`, to be edited there; overwrites nothing.

    Raises:
        FileExistsError: one of them is there already.
    """
    source = find_lab()
    targets = [folder / "devices", folder / "plans"]
    for target in targets:
        if target.exists():
            raise FileExistsError(
                f"{target} is there already and stays as it is. Choose another folder, or move it"
            )
    for target in targets:
        shutil.copytree(source / target.name, target, ignore=shutil.ignore_patterns("__pycache__"))
    return targets


def _find(folder: Path, name: str) -> Path:
    path = folder / f"{name}.py"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("[!_]*.py"))) or "nothing"
        raise FileNotFoundError(f"no {path}; in that folder there is: {there}")
    return path


def _load(path: Path) -> ModuleType:
    name = f"{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
