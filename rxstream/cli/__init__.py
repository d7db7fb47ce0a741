"""The command ``rxstream``: stream an answer in the terminal, from one model or from several side by side.

Exit codes: 0 every answer is complete; 1 a stream failed, or the output cannot be written; 2 the command cannot be carried
out as it was put; 130 Ctrl-C, 143 ``kill``, 129 the terminal was closed: each closes the requests and leaves the terminal in order.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module

__all__ = ["main"]

_SIGNALLED = 128
"""… and the number of the signal: the exit code that shells give."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process, and give its exit code."""
    with _ended_by_signals() as ended_by:
        try:
            command = import_module("rxstream.cli._command")  # here, for Ctrl-C may come while it loads
            code = int(command.run(arguments))
        except KeyboardInterrupt:
            code = _SIGNALLED + signal.SIGINT
    return _SIGNALLED + ended_by[0] if ended_by else code


@contextmanager
def _ended_by_signals() -> Generator[list[int]]:
    """Within it, what would end the process at once does what Ctrl-C does; gives which it was."""
    came: list[int] = []

    def as_interrupt(number: int, _frame: object) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    taken: list[signal.Signals] = []
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a script's background job hears none
        ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken = [number for number in ends if signal.getsignal(number) is signal.SIG_DFL]  # under nohup it is not
    for number in taken:
        signal.signal(number, as_interrupt)
    try:
        yield came
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
