"""A backup that is made during a plan is a whole storage folder."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.app.session import Session
from bluesky_em.reference import ReferenceState, run_of
from bluesky_em.storage.callback import Storage
from tests.support.operator_command import operator_command

EVENTS = 40


def test_a_folder_that_is_copied_during_a_plan_and_put_back_has_all_that_was_stored(
    session: Session, tmp_path: Path
) -> None:
    copy, said, stored = tmp_path / "copy", [], []

    def back_up() -> None:
        said.append(operator_command(session, "backup", str(copy)).stdout)

    thread = threading.Thread(target=back_up)

    def at_half(name: str, document: Any) -> None:
        if name == "event" and document["seq_num"] == EVENTS // 2:
            reference = document["data"]["eels"].rpartition("/")[0] + "/5"
            stored.append(session.data.wait(reference, until="stored"))
            thread.start()

    plan = session.plans["spectrum"](session.devices["eels"], exposure=0.02, num=EVENTS)
    references = session.RE(plan, at_half).plan_result
    thread.join()
    assert "files copied to" in said[0]
    shutil.copytree(copy, back := tmp_path / "back")
    uid = run_of(references[0])
    session.data.wait(uid)
    for _ in range(2):
        again = operator_command(session, "backup", str(copy)).stdout
    assert again.startswith("1 files copied")  # the ledger; the other files have not changed

    storage = Storage(back)
    try:
        storage.data.wait(uid, timeout=120)
        states = {each: storage.data.status(each).stage for each in references[: EVENTS // 2]}
        assert list(states.values())[:6] == [ReferenceState.CATALOGUED] * 6
        assert set(states.values()) <= {ReferenceState.CATALOGUED, ReferenceState.FAILED}
        for reference, state in states.items():
            if state is ReferenceState.CATALOGUED:
                there, here = storage.data.open(reference), session.data.open(reference)
                np.testing.assert_array_equal(there.read(), here.read())
    finally:
        storage.close(wait=True)


def test_a_backup_has_a_folder_of_its_own(session: Session, tmp_path: Path) -> None:
    inside = operator_command(session, "backup", str(session.storage.layout.root / "copy"))
    assert inside.exit_code == 1 and "name a folder on another disk" in inside.output
    (tmp_path / "photo.jpg").touch()
    other = operator_command(session, "backup", str(tmp_path))
    assert other.exit_code == 1 and "holds something else" in other.output
