"""A run to follow, and the points that a follower of it must receive."""

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.app.session import Session
from bluesky_em.files import journal_reader
from bluesky_em.plan_stubs import per_shot
from tests.support.follower_process import Line, numbers

EXPOSURE = 0.05  # seconds
REASON = "the sample is known well enough"


def spectra(session: Session, num: int, *streams: str, exposure: float = EXPOSURE) -> MsgGenerator:
    """Take spectra, each with a scalar value, and give the reason of the run's end."""
    eels, beam_x = session.devices["eels"], session.devices["microscope"].beam_x

    @bpp.stage_decorator([eels])
    def inner() -> MsgGenerator[None]:
        yield from bps.open_run()
        for n in range(num):
            yield from bps.mv(beam_x, n / num)
            for stream in streams or ("primary",):
                yield from per_shot([eels, beam_x], stream)
        yield from bps.close_run(reason=REASON)

    yield from bps.mv(eels.exposure, exposure, eels.frames, 1)
    yield from inner()


def documented(session: Session, uid: str) -> list[Line]:
    """Return the expected points from the documents, with the checksums of the exposures."""
    documents = journal_reader.read(session.storage.layout.journal_of(uid))
    datums = {d["datum_id"]: d["datum_kwargs"] for name, d in documents if name == "datum"}
    names = {d["uid"]: d["name"] for name, d in documents if name == "descriptor"}
    events = [d for name, d in documents if name == "event"]
    return [
        {
            "stream": names[event["descriptor"]],
            "index": event["seq_num"] - 1,
            "seq_num": event["seq_num"],
            "time": event["time"],
            "data": numbers(event["data"]),
            "references": {"eels": event["data"]["eels"]},
            "checksum": datums[event["data"]["eels"]]["checksum"],
            "skipped": 0,
            "reason": "",
        }
        for event in events
    ]  # fmt: skip
