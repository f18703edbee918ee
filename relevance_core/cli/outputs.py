"""Paths that a command is to write to, tried before its work begins: an error at its end would cost the work."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from relevance_core.errors import SettingsError


def output_file(text: str) -> str:
    """The path of a file to write. Raises SettingsError where it can't be written; leaves nothing behind."""
    return _tried(text, "file")


def output_folder(text: str) -> str:
    """The path of a folder to write into. Raises SettingsError where it can't be written to; leaves nothing behind."""
    return _tried(text, "folder")


def _tried(text: str, kind: str) -> str:
    expected = f"the path of a {kind} on this machine that this user may write"
    if not text or "://" in text:
        raise SettingsError(f"{text!r} is no path", expected=expected)
    try:
        _try_to_write(Path(text).absolute(), kind)
    except OSError as error:
        raise SettingsError(f"{text!r} can't be written: {error.strerror}", expected=expected) from error
    return text


def _try_to_write(path: Path, kind: str) -> None:
    """Raises OSError where a file can't be written, or a folder can't be made or written to."""
    there = next(above for above in (path, *path.parents) if _is_there(above))
    if there == path and not path.is_dir() and kind == "file":
        if path.is_file():  # opening a pipe would wait for its reader
            os.close(os.open(path, os.O_WRONLY))
        return
    if there == path and kind == "file":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with tempfile.TemporaryFile(dir=there):
        for name in path.relative_to(there).parts:
            _is_there(there / name)  # raises for a name that is too long


def _is_there(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.stat()
        return True
    return False
