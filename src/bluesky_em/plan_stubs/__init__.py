"""Plan stubs: the yields that plans share."""

from bluesky_em.errors import require

require("bluesky", "ophyd_async")

from ._beam import beam_on
from ._events import per_shot, per_step, trigger_and_refer
from ._fly import fly
from ._steering import stop_when, wait_for_result
from ._storage import preflight, wait_for

__all__ = [
    "per_shot", "per_step", "trigger_and_refer", "fly", "beam_on", "preflight", "wait_for",
    "stop_when", "wait_for_result",
]  # fmt: skip
