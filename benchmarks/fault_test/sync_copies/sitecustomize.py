"""Copies each file of a folder when it is synced; Python imports this at its start.

`BLUESKY_EM_SYNCED=FOLDER:COPIES`; what `power.py` takes for the content of the disk. A copy begins
before its fsync, so it has nothing that this fsync may not have brought to the disk; a lock keeps
an older copy from replacing a newer one. A second link keeps the file's inode number from being
used again.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from pathlib import Path

FOLDER, COPIES = map(Path, os.environ["BLUESKY_EM_SYNCED"].split(":"))
_fsync = os.fsync
_known: dict[Path, int] = {}


def _note_name(path: Path, inode: int) -> None:
    if _known.get(path) != inode and _has_link(path, inode):
        name = COPIES / "names" / path.relative_to(FOLDER)
        name.parent.mkdir(parents=True, exist_ok=True)
        part = _own_file("name")
        part.write_text(str(inode))
        part.replace(name)
        _known[path] = inode


def _has_link(path: Path, inode: int) -> bool:
    """Check for a file's second link; create it, unless the file has been removed meanwhile."""
    link = COPIES / f"{inode}.file"
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(path, link)
    return link.exists() and link.stat().st_ino == inode


def _own_file(suffix: str) -> Path:
    return COPIES / f"{os.getpid()}-{threading.get_ident()}.{suffix}"


def _sync_folder(descriptor: int, folder: Path) -> None:
    with os.scandir(folder) as entries:
        names = [(Path(each.path), each.inode()) for each in entries if each.is_file()]
    _fsync(descriptor)
    for path, inode in names:
        _note_name(path, inode)


def _sync_file(descriptor: int, path: Path) -> None:
    inode = os.fstat(descriptor).st_ino
    with open(COPIES / f"{inode}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy = _own_file("content")
        shutil.copyfile(f"/proc/self/fd/{descriptor}", copy)
        _fsync(descriptor)
        if _has_link(path, inode):
            copy.replace(COPIES / f"{inode}.content")
            _note_name(path, inode)


def fsync(file):
    """Sync a file or folder, and record what is on the disk now."""
    descriptor = file if isinstance(file, int) else file.fileno()
    path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    if FOLDER not in path.parents:
        _fsync(descriptor)
    elif path.is_dir():
        _sync_folder(descriptor, path)
    else:
        _sync_file(descriptor, path)


os.fsync = fsync
