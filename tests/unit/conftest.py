"""A unit test starts no process."""

import subprocess
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, command: Any, *args: Any, **options: Any) -> None:
        raise AssertionError(f"a unit test starts {command}: it belongs in tests/system")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
