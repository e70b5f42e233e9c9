"""Repair of an HDF5 file whose SWMR writer was killed.

A killed writer leaves the "open for SWMR writing" flags and a stale end-of-file address in the
superblock; then only SWMR readers can open the file. Setting the flags to 0, the end of file to the
real size of the file and the checksum to match repairs it in place; every flushed row is there.
Layout and checksum: HDF5 File Format Specification 3.0, "Disk Format: Level 0A - Format Signature
and Superblock" (version 3) and Jenkins' lookup3.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION = 8  # byte offsets in the superblock
_FLAGS = 11
_END_OF_FILE = 28
_CHECKSUM = 44
_MASK = 0xFFFFFFFF


def repair(path: Path, *, always: bool = False) -> bool:
    """Repair `path` if its writer was killed; return whether that was necessary.

    Only the writer of the file may call this: no other process may have it open for writing.

    Args:
        path: of the file.
        always: set the end of the file also if it was closed; part of it may have been lost since.

    Raises:
        ValueError: not an HDF5 file with a version 3 superblock, as this package writes them.
    """
    with open(path, "r+b") as file:
        block = _superblock(file)
        if not (block[_FLAGS] or always):
            return False
        block[_FLAGS] = 0
        struct.pack_into("<Q", block, _END_OF_FILE, path.stat().st_size)
        struct.pack_into("<I", block, _CHECKSUM, lookup3(bytes(block[:_CHECKSUM])))
        file.seek(0)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return True


def is_torn(path: Path) -> bool:
    """Check whether `path` is open for writing, or was when its writer was killed.

    Raises:
        ValueError: as in `repair`.
    """
    with open(path, "rb") as file:
        return bool(_superblock(file)[_FLAGS])


def _superblock(file: BinaryIO) -> bytearray:
    block = bytearray(file.read(_CHECKSUM + 4))
    if len(block) < _CHECKSUM + 4 or block[:8] != _SIGNATURE or block[_VERSION] != 3:
        raise ValueError(f"{file.name} is not an HDF5 file with a version 3 superblock")
    return block


def lookup3(data: bytes) -> int:
    """Return the hash of Bob Jenkins' `hashlittle` with initial value 0.

    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    while len(data) > 12:
        x, y, z = struct.unpack("<III", data[:12])
        a, b, c = _mix((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
        data = data[12:]
    if data:
        x, y, z = struct.unpack("<III", data.ljust(12, b"\0"))
        a, b, c = _final((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
    return c


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for shift_a, shift_b, shift_c in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & _MASK) ^ _rotate(c, shift_a)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotate(a, shift_b)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotate(b, shift_c)
        b = (b + a) & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int, int]:
    c = ((c ^ b) - _rotate(b, 14)) & _MASK
    a = ((a ^ c) - _rotate(c, 11)) & _MASK
    b = ((b ^ a) - _rotate(a, 25)) & _MASK
    c = ((c ^ b) - _rotate(b, 16)) & _MASK
    a = ((a ^ c) - _rotate(c, 4)) & _MASK
    b = ((b ^ a) - _rotate(a, 14)) & _MASK
    c = ((c ^ b) - _rotate(b, 24)) & _MASK
    return a, b, c
