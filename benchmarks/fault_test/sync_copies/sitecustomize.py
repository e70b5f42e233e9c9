"""Copies each file of a folder when it is synced; Python imports this at its start.

`BLUESKY_EM_SYNCED=FOLDER:COPIES`; what `power.py` takes for the content of the disk. A copy begins
before its fsync, so it has nothing that this fsync may not have brought to the disk. A second link
keeps the file's inode number from being used again.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path

FOLDER, COPIES = map(Path, os.environ["BLUESKY_EM_SYNCED"].split(":"))
_fsync = os.fsync
_known: dict[Path, int] = {}


def _note_name(path: Path, inode: int) -> None:
    if _known.get(path) != inode:
        name = COPIES / "names" / path.relative_to(FOLDER)
        name.parent.mkdir(parents=True, exist_ok=True)
        _replace(name, str(inode))
        _known[path] = inode


def _replace(target: Path, text: str) -> None:
    part = COPIES / f"{os.getpid()}-{threading.get_ident()}.name"
    part.write_text(text)
    part.replace(target)


def _sync_folder(descriptor: int, folder: Path) -> None:
    with os.scandir(folder) as entries:
        names = [(Path(each.path), each.inode()) for each in entries if each.is_file()]
    _fsync(descriptor)
    for path, inode in names:
        _note_name(path, inode)


def _sync_file(descriptor: int, path: Path) -> None:
    inode = os.fstat(descriptor).st_ino
    part = COPIES / f"{os.getpid()}-{threading.get_ident()}.content"
    shutil.copyfile(f"/proc/self/fd/{descriptor}", part)
    _fsync(descriptor)
    link = COPIES / f"{inode}.file"
    with contextlib.suppress(FileExistsError, FileNotFoundError):  # it may have been removed
        os.link(path, link)
    if link.exists() and link.stat().st_ino == inode:
        part.replace(COPIES / f"{inode}.content")
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
