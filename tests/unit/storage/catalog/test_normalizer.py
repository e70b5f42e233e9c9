from typing import Any

from event_model import compose_run

from bluesky_em.storage.catalog._normalizer import Normalizer


def test_a_run_ends_though_an_event_refers_to_data_of_which_nothing_was_told():
    run = compose_run()
    key: Any = {"source": "camera", "dtype": "array", "shape": [4, 4], "external": "FILESTORE:"}
    described = run.compose_descriptor(name="primary", data_keys={"camera": key})
    event = described.compose_event(
        data={"camera": "nobody's"}, timestamps={"camera": 0.0}, filled={"camera": False}
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
        'camera of event 1 refers to "nobody\'s", for which no datum document came'
    ]
