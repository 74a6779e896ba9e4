"""No search for garbage while libraries are imported; as usual while work is done."""

import gc

import pytest

from secondary_sinks.cli import garbage


@pytest.fixture(autouse=True)
def as_before():
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)


def test_garbage_waits_for_the_imports_and_no_longer():
    garbage.postpone()
    assert gc.get_threshold()[0] == garbage.OBJECTS
    garbage.resume()
    assert gc.get_threshold() == garbage.AS_USUAL
    assert gc.isenabled()


def test_what_was_imported_is_not_searched_but_new_garbage_is():
    garbage.resume()
    assert gc.get_freeze_count() > 100_000
    ring = []
    ring.append(ring)
    del ring
    assert gc.collect() >= 1


@pytest.mark.parametrize("code", [0, 2, 130])
def test_the_exit_code_is_kept(code):
    with pytest.raises(SystemExit) as stopped:
        garbage.leave(code)
    assert stopped.value.code == code
