"""What this process holds, as the operating system counts it."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

__all__ = ["needs_proc", "sockets", "threads"]

_FDS: Final = Path("/proc/self/fd")

needs_proc = pytest.mark.skipif(not _FDS.exists(), reason="open files are counted in /proc")


def sockets() -> int:
    """Open sockets."""
    count = 0
    for entry in _FDS.iterdir():
        with suppress(FileNotFoundError):  # the one by which we read the directory
            count += str(entry.readlink()).startswith("socket:")
    return count


def threads() -> int:
    """Threads, but for those that come and go on their own: a loop's executor, and the writer of tapes that another test made."""
    return sum(not thread.name.startswith(("asyncio_", "rxstream-tapes")) for thread in threading.enumerate())
