"""Answers of the chaos server, without the server."""

from __future__ import annotations

from typing import Any

from rxstream.testing.chaos import Script, render
from rxstream.testing.chaos._answer import Answer
from rxstream.testing.chaos._frames import frames
from rxstream.testing.chaos._generation import Generation

__all__ = ["answer_of", "body_of"]


def body_of(script: Script, dialect: Any) -> bytes:
    """The body that says the script."""
    return b"".join(render(script, dialect))


def answer_of(script: Script, dialect: Any) -> Answer:
    """An answer about to be sent; on a loop that runs."""
    made = frames(body_of(script, dialect), dialect)
    return Answer(dialect, Generation(made, None), list(made))
