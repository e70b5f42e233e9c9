import pytest

from bluesky_em import Reference, ReferenceState

RUN = "0b5c2d7e-1111-4222-8333-444455556666"


@pytest.mark.parametrize("detector", ["eels", "haadf-left", "caméra 1", "-"])
def test_a_reference_can_be_restored_from_its_string(detector: str):
    reference = Reference(run=RUN, detector=detector, number=17)
    assert str(reference) == f"{RUN}.{detector}/17"
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "eels", "run.eels", "run.eels/", "run./3", ".eels/3", "run.eels/-1", "run/eels/3"]
)
def test_a_string_that_is_not_a_reference_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError) as caught:
        Reference.parse(text)
    message = str(caught.value)
    assert message.startswith(f"{text!r} is not a reference: expected '<run uid>.<detector>/")
    assert "storage.references[-1]" in message


@pytest.mark.parametrize("detector", ["", "a/b", "a.b"])
def test_a_name_that_would_make_a_reference_ambiguous_is_refused(detector: str):
    with pytest.raises(ValueError, match="cannot be the detector of a reference: give the device"):
        Reference(run=RUN, detector=detector, number=0)


def test_a_run_uid_may_have_points():
    reference = Reference(run="2026.11.28", detector="eels", number=3)
    assert Reference.parse(str(reference)) == reference


def test_a_reference_cannot_be_changed():
    reference = Reference(run=RUN, detector="eels", number=0)
    with pytest.raises(AttributeError, match="number"):
        reference.number = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("stage", "reached"),
    [
        (ReferenceState.CAPTURED, {ReferenceState.CAPTURED}),
        (ReferenceState.STORED, {ReferenceState.CAPTURED, ReferenceState.STORED}),
        (
            ReferenceState.CATALOGUED,
            {ReferenceState.CAPTURED, ReferenceState.STORED, ReferenceState.CATALOGUED},
        ),
        (ReferenceState.FAILED, {ReferenceState.FAILED}),
    ],
)
def test_a_state_has_reached_itself_and_the_earlier_ones(
    stage: ReferenceState, reached: set[ReferenceState]
):
    assert {other for other in ReferenceState if stage.reached(other)} == reached


def test_a_state_is_written_as_its_name():
    assert [str(stage) for stage in ReferenceState] == [
        "captured",
        "stored",
        "catalogued",
        "failed",
    ]
