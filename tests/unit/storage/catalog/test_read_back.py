"""Frames that are read back through Tiled before they are called catalogued."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bluesky_em.files.hdf5 import FramesFile
from bluesky_em.frame import Frame
from bluesky_em.storage.catalog import _read_back
from bluesky_em.storage.catalog._read_back import ReadBackError, check
from tests.support.simple_frames import frame, pixels


class FakeArray:
    """An array's node in Tiled, whose server answers every request with the same bytes."""

    def __init__(self, content: bytes, status: int = 200):
        self.requests: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return httpx.Response(status, content=content)

        self.item = {"links": {"full": "http://tiled/array/full/run/haadf"}}
        self.context = type("", (), {"http_client": httpx.Client(transport=_transport(answer))})

    @property
    def asked(self) -> list[str]:
        return [request.url.params["slice"] for request in self.requests]


def _transport(answer: Any) -> httpx.MockTransport:
    return httpx.MockTransport(answer)


@pytest.fixture
def stored(tmp_path: Path) -> Frame:
    """The second frame of a file."""
    second = frame(1)
    file = FramesFile(tmp_path / second.path, second)
    for number in range(2):
        file.extend(number + 1)
        file.write(frame(number), pixels(number))
    file.close()
    return second


def test_a_frame_that_tiled_gives_as_it_was_exposed_takes_one_request(
    stored: Frame, tmp_path: Path
) -> None:
    array = FakeArray(pixels(1).tobytes())
    check(array, stored, tmp_path)
    assert array.asked == ["1:2,0:3,0:4"]


def test_other_values_are_an_error_with_reference_and_file(stored: Frame, tmp_path: Path) -> None:
    with pytest.raises(ReadBackError) as caught:
        check(FakeArray(pixels(0).tobytes()), stored, tmp_path)
    assert str(caught.value).startswith(
        f"Tiled cannot read back run.haadf/1 (it gives other values than the file has); the data "
        f"are safe in {tmp_path / 'haadf.h5'}"
    )


@pytest.mark.parametrize("status", [404, 422, 500, 503])
def test_a_refusal_is_an_error_with_the_words_of_tiled(
    stored: Frame, tmp_path: Path, status: int
) -> None:
    with pytest.raises(ReadBackError, match=f"HTTP {status}, no such file"):
        check(FakeArray(b"no such file", status), stored, tmp_path)


@pytest.mark.parametrize("status", [401, 429, 502])
def test_a_server_that_refuses_everything_is_not_charged_to_the_frame(
    stored: Frame, tmp_path: Path, status: int
) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        check(FakeArray(b"", status), stored, tmp_path)


def test_a_part_of_a_block_whose_checksum_is_that_of_the_block_is_compared_with_the_file(
    stored: Frame, tmp_path: Path
) -> None:
    check(FakeArray(pixels(1).tobytes()), replace(stored, checksum=4711), tmp_path)


def test_of_a_large_frame_some_lines_are_compared_with_the_file(
    stored: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_read_back, "WHOLE_BYTES", 47)
    monkeypatch.setattr(_read_back, "PART_BYTES", 32)
    array = FakeArray(pixels(1)[:2].tobytes())
    check(array, stored, tmp_path)
    assert array.asked == ["1:2,0:2,0:4"]
    with pytest.raises(ReadBackError, match="other values"):
        check(FakeArray(np.zeros(8, "<f4").tobytes()), stored, tmp_path)


def test_of_an_array_that_updates_change_the_newest_part_is_compared(
    stored: Frame, tmp_path: Path
) -> None:
    update = {"mode": "add_slice", "shape": [2, 3, 4], "dtype": "<f4"}
    line = replace(stored, update=update, index=(1, 0, 0), row=7)
    array = FakeArray(pixels(1).tobytes())
    check(array, line, tmp_path)
    assert array.asked == ["1:2,0:3,0:4"]
    with pytest.raises(ReadBackError, match="other values"):
        check(FakeArray(pixels(0).tobytes()), line, tmp_path)


@pytest.mark.parametrize(("looks", "is_right"), [((b"a", b"c"), True), ((b"a", b"a"), False)])
def test_a_value_that_came_between_two_looks_at_a_changing_file_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, looks: tuple[bytes, bytes], is_right: bool
) -> None:
    monkeypatch.setattr(_read_back, "_in_file", lambda *_, left=[*looks]: left.pop(0))
    update = {"mode": "replace", "shape": [3, 4], "dtype": "<f4", "keep_versions": 1}
    live = replace(frame(1), update=update)
    if is_right:
        check(FakeArray(b"b"), live, tmp_path)
        return
    with pytest.raises(ReadBackError, match="other values"):
        check(FakeArray(b"b"), live, tmp_path)


def test_a_changing_file_is_no_excuse_for_fewer_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_read_back, "_in_file", lambda *_, left=[b"aa", b"cc"]: left.pop(0))
    update = {"mode": "replace", "shape": [3, 4], "dtype": "<f4", "keep_versions": 1}
    with pytest.raises(ReadBackError, match="other values"):
        check(FakeArray(b"b"), replace(frame(1), update=update), tmp_path)
