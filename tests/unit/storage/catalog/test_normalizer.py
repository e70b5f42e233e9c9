from typing import Any

from event_model import compose_run

from bluesky_em.storage.catalog._fallback import Fallback
from bluesky_em.storage.catalog._normalizer import Normalizer


def test_a_run_ends_even_if_an_event_refers_to_data_without_a_document():
    run = compose_run()
    key: Any = {"source": "camera", "dtype": "array", "shape": [4, 4], "external": "FILESTORE:"}
    described = run.compose_descriptor(name="primary", data_keys={"camera": key})
    event = described.compose_event(
        data={"camera": "unknown"}, timestamps={"camera": 0.0}, filled={"camera": False}
    )
    given: list[tuple[str, Any]] = []
    normalizer = Normalizer()
    normalizer.subscribe(lambda name, document: given.append((name, document)))
    normalizer("start", run.start_doc)
    normalizer("descriptor", described.descriptor_doc)
    normalizer("event", event)
    normalizer("stop", run.compose_stop())
    assert [name for name, _ in given] == ["start", "descriptor", "event", "stop"]
    assert given[-1][1]["_run_normalizer_notes"] == [
        "camera of event 1 refers to 'unknown', for which no datum document came"
    ]


def test_a_later_descriptor_leaves_the_columns_of_the_stream_as_they_are():
    given: list[tuple[str, Any]] = []
    normalizer = Normalizer()
    normalizer.subscribe(lambda name, document: given.append((name, document)))
    number = {"source": "", "dtype": "number", "shape": []}
    for uid, keys in (("first", ["x", "time"]), ("second", ["X", "x"])):
        descriptor = {"uid": uid, "name": "primary", "run_start": "run", "time": 0.0}
        descriptor |= {"data_keys": dict.fromkeys(keys, number), "hints": {}, "configuration": {}}
        normalizer("descriptor", descriptor)
    first, second = (document for _, document in given)
    (renamed,) = set(first["data_keys"]) - {"x"}
    assert first["bluesky_em"] == {"columns": {"time": renamed}}
    assert set(second["data_keys"]) == {"x", "X_"}
    assert second["bluesky_em"] == {"columns": {"time": renamed, "X": "X_"}}


def test_a_refused_column_keeps_its_name_when_a_later_key_is_called_like_its_text():
    fallback = Fallback()
    fallback.text, fallback.why = {("primary", "x")}, "no such type"
    given: list[tuple[str, Any]] = []
    normalizer = Normalizer(fallback)
    normalizer.subscribe(lambda name, document: given.append((name, document)))
    number = {"source": "", "dtype": "number", "shape": []}
    for uid, keys in (("first", ["x"]), ("second", ["x_text", "x"])):
        descriptor = {"uid": uid, "name": "primary", "run_start": "run", "time": 0.0}
        descriptor |= {"data_keys": dict.fromkeys(keys, number), "hints": {}, "configuration": {}}
        normalizer("descriptor", descriptor)
    event = {"uid": "e", "descriptor": "second", "seq_num": 1, "time": 0.0, "filled": {}}
    event |= {"data": {"x": 0.5, "x_text": 2}, "timestamps": {"x": 0.0, "x_text": 0.0}}
    normalizer("event", event)
    *descriptors, stored = (document for _, document in given)
    assert [list(each["data_keys"]) for each in descriptors] == [["x_text"], ["x_text_", "x_text"]]
    about = {"columns": {"x": "x_text", "x_text": "x_text_"}, "refused": {"x_text": number}}
    assert descriptors[1]["bluesky_em"] == about
    assert stored["data"] == {"x_text": "0.5", "x_text_": 2.0}
    assert (
        normalizer.notes[0] == ("'x' of stream 'primary' is column 'x_text' here")
        and "is JSON text here, since Tiled refused it: no such type" in normalizer.notes[1]
    )
