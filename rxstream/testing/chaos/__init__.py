"""A server that fails as providers do, on demand: scripts, faults by name, and a record of what the client did."""

from __future__ import annotations

from rxstream.testing.chaos._engine import ScriptedServer, closed_port, page
from rxstream.testing.chaos._errors import ERRORS
from rxstream.testing.chaos._exchange import Exchange, Headers, Play, Recorded
from rxstream.testing.chaos._faults import FAULTS, Fault, Faults, RandomFaults
from rxstream.testing.chaos._kept import Kept
from rxstream.testing.chaos._render import chat, messages, render, responses, sse
from rxstream.testing.chaos._script import DIALECTS, Call, Script, Thought
from rxstream.testing.chaos._served import Served
from rxstream.testing.chaos._server import ChaosServer, Plan
from rxstream.testing.chaos._steps import (
    CLOSE,
    END,
    HALF_CLOSE,
    HANG,
    RESET,
    Ending,
    Head,
    Pause,
    Signal,
    Step,
    Tell,
    Wait,
    Wire,
)

__all__ = [
    "CLOSE",
    "DIALECTS",
    "END",
    "ERRORS",
    "FAULTS",
    "HALF_CLOSE",
    "HANG",
    "RESET",
    "Call",
    "ChaosServer",
    "Ending",
    "Exchange",
    "Fault",
    "Faults",
    "Head",
    "Headers",
    "Kept",
    "Pause",
    "Plan",
    "Play",
    "RandomFaults",
    "Recorded",
    "Script",
    "ScriptedServer",
    "Served",
    "Signal",
    "Step",
    "Tell",
    "Thought",
    "Wait",
    "Wire",
    "chat",
    "closed_port",
    "messages",
    "page",
    "render",
    "responses",
    "sse",
]
