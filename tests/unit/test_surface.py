import pytest

import bluesky_em
from bluesky_em import autoscript, gatan


def test_the_surface_is_ten_names_at_most():
    assert len(bluesky_em.__all__) <= 10
    assert len(set(bluesky_em.__all__)) == len(bluesky_em.__all__)


@pytest.mark.parametrize("package", [bluesky_em, gatan, autoscript], ids=lambda p: p.__name__)
def test_every_public_name_can_be_imported_and_has_this_name(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert getattr(package, name).__doc__


def test_all_lists_every_name_that_can_be_loaded():
    assert set(bluesky_em.__all__) == set(bluesky_em._HOMES)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'bluesky_em' has no attribute 'Nonsense'"):
        bluesky_em.Nonsense  # noqa: B018
