"""The reference pages name what there is: commands, environment variables, import paths."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from bluesky_em.app.command_line import app

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = [
    str(command.name or command.callback.__name__).replace("_", "-")  # type: ignore
    for command in app.registered_commands
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference(command: str) -> None:
    text = (REFERENCE / "command-line.md").read_text("utf-8")
    assert re.search(rf"`{command}( \w+)?`", text)


def test_every_environment_variable_is_in_the_reference() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r"BLUESKY_EM_[A-Z]+(?:_[A-Z]+)*\b", source))
    listed = set(
        re.findall(r"^\| `(\w+)`", (REFERENCE / "environment.md").read_text("utf-8"), re.M)
    )
    assert {name for name in used if name != "BLUESKY_EM_FAULTS"} <= listed


def test_every_module_of_the_api_page_can_be_imported() -> None:
    names = re.findall(r"^::: (\S+)", (REFERENCE / "api.md").read_text("utf-8"), re.M)
    assert len(names) > 8
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute) or import_module(name)
