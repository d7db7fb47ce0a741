"""What a target's name stands for."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from typing import Any, Final

from rxstream.errors import ConfigurationError
from rxstream.testing.certify._client import Question
from rxstream.testing.certify._command import CommandTarget
from rxstream.testing.certify._target import FunctionTarget, Target

__all__ = ["target_of"]

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def target_of(text: str) -> Target:
    """The function or the command that `text` names.

    Raises:
        ConfigurationError: there is no such function or command.
    """
    if _FUNCTION.fullmatch(text):
        return FunctionTarget(_load(text), name=text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"target: {text!r} is no command line: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise ConfigurationError(f"target: {text!r} is neither 'module:function' nor a command that can be found")
    return CommandTarget(words)


def _load(text: str) -> Callable[[Question], Any]:
    module, _, name = text.partition(":")
    if "" not in sys.path and (here := str(os.getcwd())) not in sys.path:  # noqa: PTH109 - as Python itself puts it there
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for word in name.split("."):
            found = getattr(found, word)
    except (Exception, SystemExit) as error:  # what a module raises while it is imported is its own affair
        why = str(error) if isinstance(error, (ImportError, AttributeError)) else repr(error)
        raise ConfigurationError(f"target: {text!r} cannot be loaded: {why}") from error
    if not callable(found):
        raise ConfigurationError(f"target: {text!r} is no function")
    function: Callable[[Question], Any] = found
    return function
