"""Everything bluesky-em raises of its own.

BlueskyEMError
├── UnknownReference      (LookupError)     nobody handed this reference out
├── NotReady              (TimeoutError)    it exists, but has not got as far as asked
├── ReferenceFailed                         it never will: the reason is in the message
├── FrameMismatch         (ValueError)      a frame that does not fit the run's descriptor
├── ServerUnreachable     (ConnectionError) an acquisition server does not answer
├── SpoolFull             (TimeoutError)    no room for a frame, however long a trigger waited
├── NotEnoughSpace        (OSError)         a run's frames would not fit on the storage disk
├── StorageBusy           (RuntimeError)    another writer owns this storage folder
├── StorageFailed         (RuntimeError)    storage has failed, and the plan was to notice
└── ExtraMissing          (ImportError)     a part of this package needs packages of an extra
"""

from importlib.util import find_spec


class BlueskyEMError(Exception):
    """The root of bluesky-em's own errors."""


class UnknownReference(BlueskyEMError, LookupError):
    """No run known here handed out this reference."""


class NotReady(BlueskyEMError, TimeoutError):
    """The reference exists but has not reached the stage asked for."""


class ReferenceFailed(BlueskyEMError):
    """The frame behind the reference is lost; the message tells why."""


class FrameMismatch(BlueskyEMError, ValueError):
    """The frame's shape, dtype or thumbnail differs from what the run's descriptor promised."""


class ServerUnreachable(BlueskyEMError, ConnectionError):
    """An acquisition server does not answer."""


class SpoolFull(BlueskyEMError, TimeoutError):
    """There was no room for a frame, however long its trigger waited; nothing was exposed."""


class NotEnoughSpace(BlueskyEMError, OSError):
    """A run's frames would not fit on the storage disk, or it cannot be written at all."""


class StorageBusy(BlueskyEMError, RuntimeError):
    """Another writer already works on this storage folder."""


class StorageFailed(BlueskyEMError, RuntimeError):
    """Storage has failed for good, and its policy is that plans end then."""


class ExtraMissing(BlueskyEMError, ImportError):
    """This part of bluesky-em needs packages that are not installed; an extra brings them."""


_EXTRAS = {
    "control": ("bluesky", "ophyd", "ophyd_async", "Pyro5", "pydantic_settings", "fastapi",
                "uvicorn", "IPython"),
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
    """Return the error that says which extra brings a module."""
    package = module.partition(".")[0]
    extra = next((name for name, modules in _EXTRAS.items() if package in modules), "all")
    return ExtraMissing(
        f"this needs the package {package!r}, which is not installed here: "
        f"pip install 'bluesky-em[{extra}]'"
    )
