import json
from typing import Any

import pytest

from bluesky_em.files.hdf5.updates import UpdateDeclaration, UpdateMode
from tests.support.update_streams import STREAMS

IMAGES = {"mode": "add_slice", "shape": [None, 4, 5], "dtype": "<u2"}


@pytest.mark.parametrize("name", STREAMS)
def test_a_declaration_travels_as_json(name: str):
    declared = STREAMS[name].declared
    assert UpdateDeclaration.load(json.loads(json.dumps(declared.dump()))) == declared


def test_fields_that_are_left_out_have_their_defaults():
    declared = UpdateDeclaration.load(IMAGES)
    assert declared == UpdateDeclaration(mode=UpdateMode.ADD_SLICE, shape=(None, 4, 5), dtype="<u2")
    assert declared.keep_versions == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "append"}, "'append' as 'mode': give one of add_slice, replace, accumulate"),
        ({"mode": None}, "None as 'mode': give one of add_slice"),
        ({"mode": "add"}, "'add' as 'mode': .* or leave 'update' out: .* frames are rows of their"),
        ({"max_shape": [1]}, r"with \['max_shape'\]; there are only \['mode', 'shape', 'dtype'"),
        ({"shape": 3}, r"3 as 'shape': give a list such as \[null, 2048\]"),
        ({"shape": []}, r"\[\] as 'shape': give positive integers, .* and \[1\] for a scalar"),
        ({"shape": [None, 0]}, r"\[None, 0\] as 'shape': give positive"),
        ({"shape": [None, True]}, "as 'shape': give positive"),
        ({"shape": [None, 2.0]}, "as 'shape': give positive"),
        ({"rows": "padded"}, r"with \['rows'\]; there are only \['mode', 'shape', 'dtype'"),
        ({"dtype": "float"}, None),
        ({"dtype": "nonsense"}, "'nonsense' as 'dtype': give the numpy string of a number"),
        ({"dtype": "<U8"}, "'<U8' as 'dtype': give the numpy string"),
        ({"dtype": 4}, "4 as 'dtype': give the numpy string"),
        ({"keep_versions": 2}, "2 as 'keep_versions': leave it out: it is for `replace`"),
        ({"mode": "replace", "keep_versions": 0}, "0 as 'keep_versions': give a number from 1"),
        ({"mode": "replace", "keep_versions": "many"}, 'a number from 1 on, or "all"'),
        ({"mode": "accumulate"}, "as 'shape': a sum needs all its sizes"),
        (
            {"mode": "accumulate", "shape": [4], "dtype": "<i8"},
            "'<i8' as 'dtype': their sum could overflow: give integers of 4 bytes, or '<f8'",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_would_be_right(wrong: dict[str, Any], words: str):
    if words is None:  # numpy accepts this name, too
        assert UpdateDeclaration.load(IMAGES | wrong).fill != UpdateDeclaration.load(IMAGES).fill
        return
    with pytest.raises(ValueError, match=words):
        UpdateDeclaration.load(IMAGES | wrong)


@pytest.mark.parametrize("field", ["mode", "shape", "dtype"])
def test_missing_fields_are_named(field: str):
    plain = {key: value for key, value in IMAGES.items() if key != field}
    with pytest.raises(ValueError, match=rf"declared without \['{field}'\]"):
        UpdateDeclaration.load(plain)
