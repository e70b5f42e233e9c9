"""Docstrings, comments, errors, names and pages are in plain English."""

import pytest

from tests.support.plain_english import ROOT, faults, files

PLACES = [
    "src",
    "tests",
    "docs",
    "plans",
    "devices",
    "queue_server",
    "examples",
    "benchmarks",
    "README.md",
]


@pytest.mark.parametrize("place", PLACES)
def test_no_word_is_used_that_has_a_plainer_one(place: str):
    assert [fault.removeprefix(f"{ROOT}/") for p in files(place) for fault in faults(p)] == []
