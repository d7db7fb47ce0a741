"""The scripted server of `rxstream.testing.chaos`, where most tests look for it."""

from __future__ import annotations

from rxstream.testing import chaos
from rxstream.testing.chaos import (
    CLOSE,
    END,
    HALF_CLOSE,
    HANG,
    RESET,
    Exchange,
    Head,
    Recorded,
    ScriptedServer,
    Signal,
    Step,
    Tell,
    Wait,
    Wire,
    chat,
    closed_port,
    messages,
    responses,
    sse,
)
from rxstream.testing.chaos import Play as Script

__all__ = [
    "CLOSE",
    "END",
    "HALF_CLOSE",
    "HANG",
    "RESET",
    "Exchange",
    "Head",
    "Recorded",
    "Script",
    "ScriptedServer",
    "Signal",
    "Step",
    "Tell",
    "Wait",
    "Wire",
    "chat",
    "closed_port",
    "messages",
    "page",
    "responses",
    "sse",
]


def page(status: int, body: bytes | str, *, content_type: str = "text/html", **headers: str) -> list[Step]:
    """A whole answer that is no stream; `headers` with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return chaos.page(status, body, content_type=content_type, headers=named)
