"""On-line processing: a function on frames as they become readable, in a process of its own.

`bluesky-em analyse` runs it, on runs as they come or on one that is finished: it is the same. Its
input is followed (`data.follow`), its results are a run of their own, with `input` and `analysis`
in the start document. It can be slow, wrong or killed: the plan it looks at does not notice.
"""

from ._function import FrameFunction
from ._process import ProcessingResult, process, process_all

__all__ = ["FrameFunction", "ProcessingResult", "process", "process_all"]
