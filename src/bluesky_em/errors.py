"""The errors of bluesky-em.

BlueskyEMError
├── UnknownReference      (LookupError)      no run known here handed out this reference
├── NotReady              (TimeoutError)     the reference exists, but has not reached this state
├── ReferenceFailed                          the frame is lost; the message gives the reason
├── FrameMismatch         (ValueError)       a frame does not fit the run's descriptor
├── DuplicateReference    (ValueError)       two devices have handed out the same reference
├── ServerUnreachable     (ConnectionError)  an acquisition server does not answer
├── TiledUnreachable      (ConnectionError)  Tiled does not answer, or what answers is not Tiled
├── TiledFailed           (RuntimeError)     Tiled answers with an error of its own
├── TiledRefused          (PermissionError)  Tiled refuses the key, or needs one
├── SpoolFull             (TimeoutError)     a trigger waited, and the spool is still full
├── NotEnoughSpace        (OSError)          the storage disk is too small for a run's frames
├── StorageBusy           (RuntimeError)     another writer works on this storage folder
├── OtherFormat           (ValueError)       another version has written this storage folder
├── StorageFailed         (RuntimeError)     storage has failed permanently, so the plan ends
├── QueueUnreachable      (ConnectionError)  no queue server answers
├── QueueRefused          (RuntimeError)     a queue server does not run this plan, or not now
├── PlanFailed            (RuntimeError)     a plan that a queue server ran has not succeeded
├── PlanNotDone           (TimeoutError)     a plan that a queue server runs has not ended yet
└── ExtraMissing          (ImportError)      this part of bluesky-em needs an extra's packages

Wrong arguments raise ValueError, TypeError or RuntimeError where they are given.
"""

from importlib.util import find_spec


class BlueskyEMError(Exception):
    """The base class of all errors that are bluesky-em's own."""


class UnknownReference(BlueskyEMError, LookupError):
    """No run known here handed out this reference."""


class NotReady(BlueskyEMError, TimeoutError):
    """The reference exists, but has not reached the requested state."""


class ReferenceFailed(BlueskyEMError):
    """The frame of the reference is lost; the message gives the reason."""


class FrameMismatch(BlueskyEMError, ValueError):
    """The frame's shape, dtype or thumbnail differs from the run's descriptor."""


class DuplicateReference(BlueskyEMError, ValueError):
    """Two devices have handed out the same reference, usually since they have the same name."""


class ServerUnreachable(BlueskyEMError, ConnectionError):
    """An acquisition server does not answer."""


class TiledUnreachable(BlueskyEMError, ConnectionError):
    """Tiled does not answer in time, or what answers is not Tiled."""


class TiledFailed(BlueskyEMError, RuntimeError):
    """Tiled answers with an error of its own, a status of 500 or more."""


class TiledRefused(BlueskyEMError, PermissionError):
    """Tiled refuses the key, or needs one."""


class SpoolFull(BlueskyEMError, TimeoutError):
    """The spool had no room for a frame until the trigger's timeout; nothing was exposed."""


class NotEnoughSpace(BlueskyEMError, OSError):
    """The storage disk has no room for a run's frames, or cannot be written at all."""


class StorageBusy(BlueskyEMError, RuntimeError):
    """Another writer already works on this storage folder."""


class OtherFormat(BlueskyEMError, ValueError):
    """The storage folder has a format that this version cannot read."""


class StorageFailed(BlueskyEMError, RuntimeError):
    """Storage has failed permanently, and its policy is that plans end then."""


class QueueUnreachable(BlueskyEMError, ConnectionError):
    """No queue server answers in time."""


class QueueRefused(BlueskyEMError, RuntimeError):
    """A queue server does not run this plan, or not now; nothing was done."""


class PlanFailed(BlueskyEMError, RuntimeError):
    """A plan that a queue server ran has not succeeded; the message gives the reason."""


class PlanNotDone(BlueskyEMError, TimeoutError):
    """A plan that a queue server runs has not ended within the timeout; it continues."""


class ExtraMissing(BlueskyEMError, ImportError):
    """This part of bluesky-em needs packages of an extra that is not installed."""


_EXTRAS = {
    "control": ("bluesky", "ophyd", "ophyd_async", "Pyro5", "pydantic_settings", "fastapi",
                "uvicorn", "IPython"),
    "queue": ("bluesky_queueserver", "bluesky_queueserver_api"),
    "blueapi": ("blueapi",),
    "plot": ("matplotlib",),
    "export": ("rsciio", "zarr"),
    "analysis": ("hyperspy", "exspy"),
}  # fmt: skip


def require(*modules: str) -> None:
    """Raise `ExtraMissing`, with what to install, unless all these modules can be imported."""
    for module in modules:
        if find_spec(module) is None:
            raise extra_missing(module)


def extra_missing(module: str) -> ExtraMissing:
    """Return the error that names the extra with this module."""
    package = module.partition(".")[0]
    extra = next((name for name, modules in _EXTRAS.items() if package in modules), "all")
    return ExtraMissing(
        f"this needs the package {package!r}, which is not installed here: "
        f"pip install 'bluesky-em[{extra}]'"
    )
