"""The spool: frames waiting at an acquisition server (Python 3.7 syntax).

A frame is stored under its reference, is in a file before that reference is handed out, can be
fetched any number of times, and is removed when the writer has verified it in its file. A server
that is killed and started again finds its frames: the folder is the spool's only state. A frame
that waits for longer than `SYNC_DELAY` is also safe against a power cut of its PC. One that is lost
or torn by a power cut before is recognised by its checksums.

Why a file per frame: each is stored, read and removed on its own, in any order, and an incomplete
write cannot damage another frame.

When the spool has no room, it refuses before anything is exposed; nothing is ever dropped to make
room. No frame is held in memory.
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import struct
import threading
import time
import zlib

import msgpack

_log = logging.getLogger(__name__)

_HEADER_SIZE = struct.Struct("<I")
_SUFFIX = ".frame"
_CHECKSUM = struct.Struct("<I")
SPARE = 256 << 20  # bytes of its disk that a spool leaves free for other programs
SYNC_DELAY = 1.0  # seconds; most frames are stored and removed before, and need no sync


class Spool:
    """The frames of one acquisition server, by reference.

    Args:
        folder: created if absent; complete frames found in it are served again.
        limit: bytes of pixels it may hold; None: all of its disk but `SPARE`.
    """

    def __init__(self, folder, limit=None):
        self.folder = str(folder)
        self.limit = limit
        os.makedirs(self.folder, exist_ok=True)
        self._lock = threading.Lock()
        self._headers = {}
        self._unsynced = []
        self._syncing = False
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            try:
                self._take_up(path)
            except OSError as exc:
                _log.warning("%s is left out of the spool: %s", path, exc)

    def _take_up(self, path):
        """Take up a file of an earlier server, if it is a frame."""
        if path.endswith(_SUFFIX + ".part"):
            os.remove(path)  # never handed out: the server was killed before the rename
        elif path.endswith(_SUFFIX):
            try:
                header = _read_header(path)
                if self._path(header["reference"]) != path:
                    raise ValueError("{} has the frame of another name".format(path))
                self._headers[header["reference"]] = header
            except OSError:
                raise  # it may be whole
            except Exception:  # torn by a power cut: its bytes can raise anything
                os.replace(path, path + ".torn")

    def check_size(self, size):
        """Check that a frame of `size` bytes fits into the empty spool (ValueError)."""
        if self.limit is not None and size > self.limit:
            raise ValueError(
                "a frame of {} does not fit into the spool {}, which may hold {}: serve with a "
                "larger --spool-limit".format(_size(size), self.folder, _size(self.limit))
            )

    def check_new(self, references):
        """Check that the spool holds none of these references (ValueError)."""
        with self._lock:
            held = [reference for reference in references if reference in self._headers]
        if held:
            raise _taken(held[0])

    def check_new_numbers(self, base, numbers):
        """Check that it holds no reference ``<base>/<number>`` of a range (ValueError)."""
        for reference in self.references():  # fewer than a range may have
            start, _, number = reference.rpartition("/")
            if start == base and number.isdecimal() and int(number) in numbers:
                raise _taken(reference)

    def check_room(self, size):
        """Check that there is room for a frame of `size` bytes now.

        Raises:
            OSError: (ENOSPC) there is not; the message says how full the spool is.
            ValueError: there will never be room for it.
        """
        self.check_size(size)
        frames, held = self.fill()
        if held + size > self.capacity():
            raise OSError(
                errno.ENOSPC,
                "the spool {} is full: {} of {} in {} frames that storage has not fetched yet; "
                "its disk has {} free, of which it leaves {} to others".format(
                    self.folder, _size(held), _size(self.capacity()), frames,
                    _size(self._free()), _size(SPARE),
                ),
            )  # fmt: skip

    def put(self, reference, exposure):
        """Store `exposure` on disk under `reference`; a frame with that reference is replaced.

        Returns:
            The header: reference, shape, dtype, nbytes, checksum (CRC-32), axes, metadata,
            started, ended.
        """
        pixels = exposure.array.reshape(-1).view("u1").data
        header = {
            "reference": reference,
            "shape": list(exposure.array.shape),
            "dtype": exposure.array.dtype.str,
            "nbytes": len(pixels),
            "checksum": zlib.crc32(pixels),
            "axes": exposure.axes,
            "metadata": exposure.metadata,
            "started": exposure.started,
            "ended": exposure.ended,
        }
        packed = msgpack.Packer(use_bin_type=True).pack(header)
        path = self._path(reference)
        part = path + ".part"
        try:
            with open(part, "wb") as file:
                file.write(_HEADER_SIZE.pack(len(packed)) + packed)
                file.write(pixels)
                file.write(_CHECKSUM.pack(zlib.crc32(packed)))
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):  # half a frame must not use up the disk
                os.remove(part)
            raise
        with self._lock:
            self._headers[reference] = header
            self._unsynced.append(path)
            must_start, self._syncing = not self._syncing, True
        if must_start:
            threading.Thread(target=self._sync, name="spool sync", daemon=True).start()
        return header

    def _sync(self):
        """Sync the frames that still wait, against a power cut; end when there are none."""
        while True:
            time.sleep(SYNC_DELAY)
            with self._lock:
                self._syncing = bool(self._unsynced)
                if not self._syncing:
                    return
            self._sync_waiting()

    def _sync_waiting(self):
        with self._lock:
            paths, self._unsynced = self._unsynced, []
        for path in paths:
            with contextlib.suppress(OSError):  # it has been removed
                _sync_file(path)
        _sync_folder(self.folder)

    def read(self, reference, start, size):
        """Return `size` bytes of the frame's pixels from byte `start`, fewer at its end.

        The writer finds by their number and checksum that bytes of a damaged file are missing.

        Raises:
            LookupError: no such frame: it was released, or lost with a server that was killed.
            OSError: it cannot be read now.
        """
        size = max(0, min(size, self.header(reference)["nbytes"] - start))
        try:
            with open(self._path(reference), "rb") as file:
                (skip,) = _HEADER_SIZE.unpack(file.read(_HEADER_SIZE.size))
                file.seek(_HEADER_SIZE.size + skip + start)
                return file.read(size)
        except FileNotFoundError:
            raise self._no_such(reference) from None
        except struct.error:  # not even its beginning is there
            return b""

    def header(self, reference):
        """Return the header that `put` returned.

        Raises:
            LookupError: no such frame.
        """
        with self._lock:
            header = self._headers.get(reference)
        if header is None:
            raise self._no_such(reference)
        return header

    def release(self, references):
        """Remove frames; one that is absent has been removed already."""
        for reference in references:
            with self._lock:
                known = self._headers.pop(reference, None)
            if known:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self._path(reference))

    def references(self):
        """Return the references of all frames, sorted."""
        with self._lock:
            return sorted(self._headers)

    def fill(self):
        """Return the number of frames and their bytes of pixels."""
        with self._lock:
            return len(self._headers), sum(h["nbytes"] for h in self._headers.values())

    def capacity(self):
        """Return how many bytes of pixels it can hold now, the present ones included."""
        _, held = self.fill()
        room = held + max(0, self._free() - SPARE)
        return room if self.limit is None else min(room, self.limit)

    def _no_such(self, reference):
        return LookupError(
            "frame {!r} is not in the spool {}: it was released, or its server was killed "
            "before it was on disk".format(reference, self.folder)
        )

    def _free(self):
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return 0  # the disk is gone

    def _path(self, reference):
        # A hash, because a reference comes from the network and must never become a path.
        name = hashlib.sha256(reference.encode("utf-8")).hexdigest()[:40]
        return os.path.join(self.folder, name + _SUFFIX)


def _taken(reference):
    return ValueError(
        "do two devices have the same name? The spool holds a frame {!r} already, and no "
        "other was taken: give each device its own name".format(reference)
    )


def _size(count):
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return "{:.1f} {}".format(count / factor, unit)
    return "{} bytes".format(count)


def _read_header(path):
    """Read the header of a frame; ValueError or struct.error if a power cut has torn it."""
    with open(path, "rb") as file:
        (size,) = _HEADER_SIZE.unpack(file.read(_HEADER_SIZE.size))
        packed = file.read(size)
        header = msgpack.unpackb(packed, raw=False)
        pixels_end = _HEADER_SIZE.size + size + header["nbytes"]
        if os.fstat(file.fileno()).st_size == pixels_end:  # written before there was a checksum
            return header
        file.seek(pixels_end)
        if file.read() != _CHECKSUM.pack(zlib.crc32(packed)):
            raise ValueError("{} has not the checksum of its header".format(path))
        return header


def _sync_file(path):
    with open(path, "r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def _sync_folder(folder):
    """Sync the names in a folder; Windows and some network file systems cannot."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
