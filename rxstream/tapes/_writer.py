"""The thread that writes tapes, and what one tape has waiting for it.

Rules of this module:

* No file is opened, written or closed on a stream's loop: a disk may stand still.
* One thread writes all tapes; it begins when there is something to write, and ends when there was nothing for a second.
* What waits is bounded. What cannot be written ends the tape, never the stream: it is told once.
* What is no tape is neither written over, nor moved, nor deleted; nor is a file written that is no more at its place.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rxstream.tapes.format import HEAD, may_be_tape

__all__ = ["TapeFile", "flush"]

_WAITING: Final = 8 * 1024 * 1024
"""Bytes of one tape that may wait for the disk."""
_IDLE: Final = 1.0
_LAST: Final = 5.0
"""Seconds that the end of the process waits for its tapes."""


class _Clerk:
    """Does what it is given, one thing after another, in a thread of its own."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._running = False
        self._busy = False
        self._thread = 0

    def give(self, job: Callable[[], None]) -> None:
        with self._change:
            self._jobs.append(job)
            self._change.notify()
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._work, args=(_IDLE,), name="rxstream-tapes", daemon=True).start()
        except RuntimeError:  # there are too many, or the process ends
            self._work(0)

    def settle(self, seconds: float) -> bool:
        """Wait until all is done that was given by now; whether it is."""
        with self._change:
            if not self._jobs and not self._busy:
                return True
            if self._thread == threading.get_ident():  # who is told in the midst of a job would wait for himself
                return False
        done = threading.Event()
        self.give(done.set)
        return done.wait(seconds)

    def _work(self, idle: float) -> None:
        self._thread = threading.get_ident()
        while True:
            with self._change:
                self._busy = False
                if not self._jobs and not self._change.wait_for(lambda: bool(self._jobs), idle):
                    self._running, self._thread = False, 0
                    return
                job = self._jobs.popleft()
                self._busy = True
            try:
                job()
            except Exception:  # noqa: BLE001 - a log handler's own, for one: told, and the other tapes are written
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


_clerk = _Clerk()


def _begin_anew() -> None:
    """A process that was forked has no thread, and must not write what its parent writes."""
    global _clerk  # noqa: PLW0603 - the one of this process
    _clerk = _Clerk()


def flush(timeout: float = 5.0) -> bool:
    """Wait until all that this process has recorded by now is in its files; whether it is.

    Args:
        timeout: Seconds to wait at most.
    """
    return _clerk.settle(timeout)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
atexit.register(flush, _LAST)


class TapeFile:
    """One recording's file, or files. All methods but those of the thread are called on one loop, and never wait.

    Args:
        path: The newest file; those before it are ``path.1``, ``path.2`` …
        files: How many there may be; the oldest is deleted for the next.
        failed: Called, in the thread, when the file cannot be written: at most once.
    """

    def __init__(self, path: Path, *, files: int, failed: Callable[[Exception], None]) -> None:
        self._path = path
        self._files = files
        self._failed = failed
        self._lock = threading.Lock()
        self._waiting: list[bytes | None] = []
        self._bytes = 0
        self._over = False
        self._then: Callable[[], None] | None = None
        self._file = -1
        self._linked = False
        self.broken = False
        """Whether the file cannot be written any more."""

    def begin(self, header: bytes) -> None:
        """A new file, which begins with `header`."""
        self._put(None, header)

    def write(self, line: bytes) -> bool:
        """Write `line`, soon; whether there is room for it."""
        if self._bytes and self._bytes + len(line) > _WAITING:
            return False
        with self._lock:  # `_put`, for the one case that is there for every event
            wake = not self._waiting
            self._waiting.append(line)
            self._bytes += len(line)
        if wake:
            _clerk.give(self._write)
        return True

    def close(self, last: bytes, then: Callable[[], None] | None = None) -> None:
        """Write `last`, then close the file; `then` is called, in the thread, unless that failed."""
        self._then = then
        self._put(last, over=True)

    def _put(self, *pieces: bytes | None, over: bool = False) -> None:
        with self._lock:
            wake = not self._waiting
            self._over |= over
            for piece in pieces:
                self._waiting.append(piece)
                self._bytes += len(piece or b"")
        if wake:
            _clerk.give(self._write)

    # --- in the thread ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        with self._lock:
            pieces, self._waiting, self._bytes = self._waiting, [], 0
            over = self._over
        try:
            while pieces and not self.broken:
                if pieces[0] is None:
                    self._next_file()
                    del pieces[0]
                stop = pieces.index(None) if None in pieces else len(pieces)
                self._append(b"".join(piece for piece in pieces[:stop] if piece))
                del pieces[:stop]
            if over:
                self._close()  # a disk may say only now that it is full
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be written behind a gap
            self.broken = True
            with contextlib.suppress(OSError):
                self._close()
            self._failed(error)
        if over and self._then is not None and not self.broken:
            self._then()

    def _next_file(self) -> None:
        for number in range(self._files):
            _check(_numbered(self._path, number))
        if self._file >= 0 and self._path.exists() and not os.path.samestat(self._path.stat(), os.fstat(self._file)):
            raise _replaced()
        self._close()
        for number in range(self._files - 1, 0, -1):
            older = _numbered(self._path, number - 1)
            if older.exists():
                older.replace(_numbered(self._path, number))
        self._path.unlink(missing_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._linked = os.fstat(self._file).st_nlink > 0  # not every file system counts

    def _append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
        if self._linked and not os.fstat(self._file).st_nlink:
            raise _replaced()

    def _close(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)


def _numbered(path: Path, number: int) -> Path:
    """The file that was the newest so many files ago."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _check(path: Path) -> None:
    if path.exists():
        if not path.is_file():
            raise OSError(errno.EEXIST, f"{path} is no file")
        with path.open("rb") as file:
            if not may_be_tape(file.read(HEAD)):
                raise OSError(errno.EEXIST, f"{path} is no tape")


def _replaced() -> OSError:
    return OSError(errno.ENOENT, "its file was deleted, or another recording took its place")
