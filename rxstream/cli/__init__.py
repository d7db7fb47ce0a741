"""The command ``rxstream``: stream an answer in the terminal, from one model or from several side by side.

Exit codes: 0 every answer is complete; 1 a stream failed, or the output cannot be written; 2 the command cannot be carried
out as it was put; 130 Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process, and give its exit code."""
    try:
        command = import_module("rxstream.cli._command")  # here, for Ctrl-C may come while it loads
        return int(command.run(arguments))
    except KeyboardInterrupt:
        return _INTERRUPTED
