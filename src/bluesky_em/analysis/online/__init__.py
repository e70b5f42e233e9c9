"""Online analysis: a function on frames as they become readable, in a process of its own.

`bluesky-em analyse` runs it on new runs or on a finished one, with the same results. The input is
followed (`data.follow`); the results are a run of their own, with `input` and `analysis` in its
start document. It can be slow, fail or be killed without any effect on the plan.
"""

from ._function import FrameFunction
from ._process import ProcessingResult, process, process_all

__all__ = ["FrameFunction", "ProcessingResult", "process", "process_all"]
