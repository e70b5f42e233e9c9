"""The laboratory's folders: `devices/`, `plans/`, and `queue_server/`, its start-up files."""

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
"""The copy of these folders in an installed wheel."""
FOLDERS = ("devices", "plans", "queue_server")


def load_devices(
    name: str, lab: Path, *, path_provider: RunPaths, **addresses: str
) -> dict[str, Any]:
    """Create the devices that `devices/<name>.py` declares; none is connected.

    Args:
        name: e.g. `simulated`, `two_pc`.
        lab: the folder that holds `devices/`.
        path_provider: a Storage's `path_provider`.
        addresses: arguments of the file's `devices` function.

    Raises:
        FileNotFoundError: there is no such file; the message lists the files that exist.
        ValueError: two of the devices have the same name.
    """
    path = _find(lab / "devices", name)
    devices = _load(path).devices(path_provider=path_provider, **addresses)
    _check_names(devices, path)
    return devices


def load_plans(lab: Path) -> tuple[dict[str, Callable[..., Any]], dict[str, Exception]]:
    """Load every plan in `plans/`: from each file the function of the same name.

    Returns:
        The plans, and the error of each file that could not be loaded: one mistake must not
        disable all plans.
    """
    plans: dict[str, Callable[..., Any]] = {}
    broken: dict[str, Exception] = {}
    for path in sorted((lab / "plans").glob("*.py")):
        if path.stem.startswith("_"):
            continue
        try:
            plans[path.stem] = getattr(_load(path), path.stem)
        except Exception as exc:  # of any kind: the file is the user's
            broken[path.name] = exc
    return plans, broken


def find_lab() -> Path:
    """Return the folder with `devices/` and `plans/`: the current one, or the package's own."""
    here = Path.cwd()
    if (here / "devices").is_dir() and (here / "plans").is_dir():
        return here
    return _packaged()


def init(folder: Path) -> list[Path]:
    """Copy the laboratory's folders into `folder`, where they can be edited; overwrite nothing.

    What the current laboratory does not have comes from the package.

    Raises:
        FileExistsError: one of them exists already.
    """
    lab = find_lab()
    targets = [folder / name for name in FOLDERS]
    for target in targets:
        if target.exists():
            raise FileExistsError(
                f"{target} exists already and was not changed. Choose another folder, or move it"
            )
    for target in targets:
        source = lab if (lab / target.name).is_dir() else _packaged()
        shutil.copytree(source / target.name, target, ignore=shutil.ignore_patterns("__pycache__"))
    return targets


def _packaged() -> Path:
    checkout = Path(bluesky_em.__file__).parents[2]
    return checkout if (checkout / "devices").is_dir() else TEMPLATE


def _check_names(devices: dict[str, Any], path: Path) -> None:
    keys: dict[str, str] = {}
    for key, device in devices.items():
        other = keys.setdefault(device.name.lower(), key)
        if other != key:
            raise ValueError(
                f"{path}: devices {other!r} and {key!r} have the same name, {device.name!r}; "
                "their data could not be distinguished. Give each its own `name=`"
            )


def _find(folder: Path, name: str) -> Path:
    path = folder / f"{name}.py"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in folder.glob("[!_]*.py"))) or "nothing"
        raise FileNotFoundError(f"{path} does not exist; that folder has: {there}")
    return path


def _load(path: Path) -> ModuleType:
    name = f"{path.parent.name}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
