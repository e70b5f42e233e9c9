from typing import Any

import pytest

from bluesky_em.acquisition.sim._dm_script import ScriptError, run


@pytest.fixture
def kept() -> dict[str, Any]:
    return {}


def functions(kept: dict[str, Any]) -> dict[str, Any]:
    return {
        "Group": lambda: kept,
        "Set": lambda group, key, value: group.__setitem__(key, value),
        "Half": lambda value: value / 2,
    }


@pytest.mark.parametrize(
    "script",
    [
        'Group().Set("a", 2.5)',
        'Set(Group(), "a", 2.5);',
        'number x = 2.5; Group().Set("a", x)',
        'x = 5\n\nGroup().Set("a", Half(x))',
    ],
)
def test_calls_and_assignments_run(script: str, kept: dict[str, Any]):
    run(script, functions(kept))
    assert kept == {"a": 2.5}


def test_separators_inside_strings_are_text(kept: dict[str, Any]):
    run('Group().Set("a;b", -1e-3)', functions(kept))
    assert kept == {"a;b": -1e-3}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("Missing(1)", "function 'Missing' is not known"),
        ("Half(y)", "variable 'y' has not been declared"),
        ("Half(1, 2)", "with these arguments"),
        ("Half(1", "expected"),
        ("if (1) Half(2)", "'if' is not known"),
        ("x = 1 + 2", "unexpected"),
        ("x =", "ends too early"),
    ],
)
def test_anything_else_is_an_error_that_quotes_it(script: str, words: str, kept: dict[str, Any]):
    with pytest.raises(ScriptError, match=words):
        run(script, functions(kept))
