"""Runs the Python code of these pages in a session on the simulated microscope."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from bluesky_em.app.session import Session
from bluesky_em.reference import run_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names of `bluesky-em shell`, and of a reader who has gone through the tutorials."""
    matplotlib.use("agg")
    folder = tmp_path_factory.mktemp("storage")
    with Session(folder, root=ROOT) as session:
        names = session.namespace()
        reference = session.acquire_eels(exposure=0.02)
        session.data.wait(reference, until="stored")
        assert session.data.catalog is not None  # Tiled has started
        names |= {
            "folder": folder, "reference": reference, "run_uid": run_of(reference),
        }  # fmt: skip
        yield names
        session.storage.close(wait=True)


@pytest.fixture
def page(names: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Add these names to the namespace of a page, which keeps what its code defines."""
    namespace = request.node.example.namespace
    for name, value in names.items():
        namespace.setdefault(name, value)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["**/*.md"], fixtures=["page"]
).pytest()
