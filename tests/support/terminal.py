"""A terminal for a command: a pseudo-terminal with an emulator behind it, so that a test sees what a person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pyte

__all__ = ["COMMAND", "Screen", "Terminal", "environment"]

COMMAND = (sys.executable, "-W", "default", "-m", "rxstream")
"""With all warnings: what is not closed, or never awaited, is said on standard error."""
_PROJECT = Path(__file__).parents[2]
_PATIENCE = 60.0
_SWITCH = re.compile(rb"(\x1b\[\?1049[hl])")
_OPEN_ESCAPE = re.compile(rb"(\x1b[^a-zA-Z]*)?$")


def environment(**more: str) -> dict[str, str]:
    """An environment without anybody's keys."""
    kept = ("PATH", "HOME", "SYSTEMROOT", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "COVERAGE_FILE")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": str(_PROJECT),
        "PYTHONUTF8": "1",
        "TERM": "xterm-256color",
        **more,
    }


class Screen:
    """What a person sees of the bytes that a program writes to a terminal.

    The emulator knows no second screen, so there are two of it: `text` is the usual one with its scroll-back, `picture` is
    the one that programs draw on and leave again.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self._usual = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1.0)
        self._other = pyte.Screen(columns, lines)
        self._streams = (pyte.ByteStream(self._usual), pyte.ByteStream(self._other))
        self._on_other = False
        self._held = b""

    @property
    def text(self) -> str:
        """The scroll-back and the usual screen, without the empty rows at the end."""
        above = ["".join(row[x].data for x in range(self._usual.columns)) for row in self._usual.history.top]
        return "\n".join(row.rstrip() for row in [*above, *self._usual.display]).rstrip()

    @property
    def picture(self) -> str:
        """The second screen, as it was drawn last."""
        return "\n".join(row.rstrip() for row in self._other.display).rstrip()

    @property
    def cursor_hidden(self) -> bool:
        """Whether the program left without showing the cursor again."""
        return self._usual.cursor.hidden

    @property
    def on_second(self) -> bool:
        """Whether the second screen is shown."""
        return self._on_other

    def feed(self, data: bytes) -> None:
        """Show what the program wrote; it may be cut anywhere."""
        data = self._held + data
        cut = _OPEN_ESCAPE.search(data)
        whole = cut.start() if cut else len(data)
        self._held = data[whole:]
        for piece in _SWITCH.split(data[:whole]):
            if piece in (b"\x1b[?1049h", b"\x1b[?1049l"):
                self._on_other = piece.endswith(b"h")
            else:
                self._streams[self._on_other].feed(piece)

    def resize(self, columns: int, lines: int) -> None:
        """The window gets another size."""
        self._usual.resize(lines, columns)
        self._other.resize(lines, columns)


class Terminal:
    """A command that runs in a terminal of its own; leaving the context ends it.

    Args:
        arguments: Of the command.
        columns: Its width, in cells.
        lines: Its height.
        env: More of the environment.
    """

    def __init__(
        self, *arguments: str, columns: int = 80, lines: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        self.received = b""
        """All that the command wrote."""
        self.screen = Screen(columns, lines)
        self._arguments = arguments
        self._env = environment(**(env or {}))
        self._size = (lines, columns)

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        self._process = subprocess.Popen(
            [*COMMAND, *self._arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._env,
            cwd=_PROJECT,
            start_new_session=True,
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def read_until(self, words: str) -> None:
        """Read until the words are seen, on either screen."""
        deadline = time.monotonic() + _PATIENCE
        while words not in self.screen.text and words not in self.screen.picture:
            if not self._read(deadline):
                raise AssertionError(f"it ended before it came to that:\n{self.screen.text}")

    def finish(self) -> int:
        """Read to the end of the command, and give its exit code."""
        deadline = time.monotonic() + _PATIENCE
        while self._read(deadline):
            pass
        return self._process.wait(_PATIENCE)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Ctrl-C, or another signal."""
        self._process.send_signal(number)

    def resize(self, *, columns: int, lines: int) -> None:
        """The window gets another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(columns, lines)

    def _read(self, deadline: float) -> bool:
        """Take in what there is; False at the end."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"nothing more came:\n{self.screen.text}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.received += data
        self.screen.feed(data)
        return bool(data)
