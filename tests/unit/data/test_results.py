"""Results published in a storage folder reach each `Data.results`, and nothing else does."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em import Data, UnknownReference

RUN = "0b5c2d7e-1111-4222-8333-444455556666"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Data]:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / f"{RUN}.msgpack").touch()
    data = Data(storage=tmp_path)
    yield data
    data.close()


@pytest.mark.parametrize("value, received", [
    (True, True), (0.25, 0.25), (np.float32(0.25), 0.25), (np.arange(3), [0, 1, 2]),
    ({"x": [1, None]}, {"x": [1, None]}), ("Ti-L", "Ti-L"),
])  # fmt: skip
def test_a_value_is_received_as_it_was_published(data: Data, value: Any, received: Any) -> None:
    results = data.results(RUN)
    data.publish(RUN, "found", value)
    assert results.wait(RUN, "found", 5.0)
    assert results.get(RUN, "found") == received and results.latest == {"found": received}


def test_a_result_of_a_reference_is_not_a_result_of_its_run(data: Data) -> None:
    results = data.results(RUN)
    data.publish(f"{RUN}.eels/3", "edge", False)
    assert results.wait(f"{RUN}.eels/3", "edge", 5.0)
    assert results.get(f"{RUN}.eels/3", "edge") is False
    assert results.latest == {} and results.get(RUN, "edge", "none") == "none"


def test_results_that_are_requested_late_are_complete_and_hold_the_newest_values(
    data: Data,
) -> None:
    for n in range(3):
        data.publish(RUN, "n", n)
    data.publish(RUN, "last", True)
    results = data.results(RUN)
    assert results.wait(RUN, "last", 5.0) and results.get(RUN, "n") == 2


def test_publishing_an_unsuitable_value_raises_an_error_that_explains_it(data: Data) -> None:
    with pytest.raises(TypeError, match="object.* cannot be published: give a number"):
        data.publish(RUN, "found", object())
    with pytest.raises(ValueError, match="cannot publish 1 as '' of"):
        data.publish(RUN, "", 1)
    with pytest.raises(UnknownReference, match="there is no run 'nowhere' here"):
        data.publish("nowhere", "found", 1)


def test_a_line_that_is_not_a_result_is_skipped(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data.publish(RUN, "before", 1)
    with open(tmp_path / "results" / f"{RUN}.jsonl", "a") as file:
        file.write('{"of": 1}\nnonsense\n')
    with caplog.at_level(logging.WARNING):
        results = data.results(RUN)
        data.publish(RUN, "after", 2)
        assert results.wait(RUN, "after", 5.0)
    assert results.latest == {"before": 1, "after": 2}
    assert "is not a result" in caplog.text
