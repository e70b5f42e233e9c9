import json
from typing import Any

from bluesky_em.storage.catalog._fallback import Fallback

COLUMNS: dict[tuple[str, str], Any] = {
    ("primary", "x"): {"dtype": "number", "shape": []},
    ("primary", "image"): {"dtype": "array", "shape": [2]},
    ("primary", "mask"): {"dtype": "integer", "shape": [], "dtype_numpy": "<u8"},
}


def test_known_columns_become_text_first_then_unusual_ones_then_all_then_only_frames_are_left():
    fallback, exc = Fallback(), ValueError("no such type\nand more")
    assert not fallback.is_needed
    assert fallback.simplify(exc, COLUMNS, [("primary", "image")])
    assert fallback.text == {("primary", "image")} and fallback.why == "no such type"
    assert fallback.simplify(exc, COLUMNS, [])
    assert fallback.text == {("primary", "image"), ("primary", "mask")}
    assert fallback.simplify(exc, COLUMNS, [])
    assert fallback.text == set(COLUMNS) and not fallback.frames_only
    assert str(fallback) == "with ['image', 'mask', 'x'] as text"
    assert fallback.simplify(exc, COLUMNS, [])
    assert fallback.frames_only and str(fallback) == "with its frames only"
    assert not fallback.simplify(exc, COLUMNS, [])


def test_a_column_that_the_error_names_becomes_text_alone():
    fallback = Fallback()
    fallback.simplify(ValueError("column 'x' is odd"), COLUMNS, [])
    assert fallback.text == {("primary", "x")}
    assert fallback.leaves_out(("primary", "x")) and not fallback.leaves_out(("primary", "mask"))


def test_an_error_outside_all_columns_leaves_only_frames():
    fallback = Fallback()
    assert fallback.simplify(TypeError("metadata"), {}, [])
    assert fallback.frames_only and fallback.leaves_out(("primary", "x"))


def test_a_fallback_is_the_same_after_it_was_written_into_a_manifest():
    fallback = Fallback()
    assert fallback.dump() == {}
    fallback.text, fallback.why = {("primary", "x")}, "refused"
    loaded = Fallback.load(json.loads(json.dumps(fallback.dump())))
    assert vars(loaded) == vars(fallback)
