import logging
import threading

import pytest

from bluesky_em.storage._periodic import PeriodicThread

PATIENCE = 60.0  # seconds
LONG = 1000.0  # seconds; an interval that never ends here


class Attempts:
    """An action that fails as it is instructed, and reports when it has done so for the last time.

    Args:
        errors: by call; None: that call succeeds.
    """

    def __init__(self, *errors: Exception | None):
        self._errors = list(errors)
        self.count = 0
        self.done = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        error = self._errors.pop(0) if self._errors else None
        if not self._errors:
            self.done.set()
        if error is not None:
            raise error


def run(attempts: Attempts) -> None:
    thread = PeriodicThread("test", 0.0, attempts)
    thread.start()
    assert attempts.done.wait(PATIENCE)
    thread.stop()
    assert not thread.is_alive()


def test_an_action_is_repeated_until_the_thread_is_stopped() -> None:
    attempts = Attempts(None, None, None)
    run(attempts)
    assert attempts.count >= 3


def test_an_error_is_logged_once_while_its_text_stays_and_the_action_is_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(Attempts(OSError("full"), OSError("full"), OSError("away"), None))
    assert [record.getMessage() for record in caplog.records] == [
        "test: failed, and tried again every 0 s: full",
        "test: failed, and tried again every 0 s: away",
    ]


def test_an_error_that_comes_back_after_a_success_is_logged_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(Attempts(OSError("full"), None, OSError("full"), None))
    assert len(caplog.records) == 2


def test_only_an_unexpected_error_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(Attempts(OSError("full"), KeyError("a fault of ours"), None))
    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_an_action_that_is_due_at_once_is_called_even_if_the_thread_is_stopped_at_once() -> None:
    attempts = Attempts()
    thread = PeriodicThread("test", LONG, attempts, at_once=True)
    thread.start()
    thread.stop()
    assert attempts.count == 1


def test_stopping_ends_a_pause_within_the_action_and_may_be_repeated() -> None:
    pausing = threading.Event()

    def action() -> None:
        pausing.set()
        thread.pause(LONG)

    thread = PeriodicThread("test", LONG, action, at_once=True)
    thread.start()
    assert pausing.wait(PATIENCE)
    thread.stop(PATIENCE)
    thread.stop(PATIENCE)
    assert not thread.is_alive()
