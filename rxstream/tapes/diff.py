"""What two tapes say that is not the same.

Rules of this module:

* Compared is what was said, in its order: numbers, times and raw bytes are those of a recording, not of an answer.
* Neighbouring pieces of one part are one: how a text was cut is no difference, unless all is to be compared.
* A tape of bytes is decoded first, so it can be compared with one of events.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

import msgspec

from rxstream.events import Event, EventBase, Heartbeat, RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta, encode
from rxstream.tapes.convert import decoded
from rxstream.tapes.format import Line
from rxstream.tapes.read import Tape

__all__ = ["differences"]

_AT: Final[float] = dict(zip(EventBase.__struct_fields__, EventBase.__struct_defaults__, strict=True))["at"]
"""The very object: msgspec knows a default of this type by its identity."""
_JOINED: Final = (TextDelta, ThinkingDelta, RefusalDelta, ToolCallDelta)


def differences(
    one: Tape,
    other: Tape,
    *,
    exact: bool = False,
    request: int | None = None,
    names: tuple[str, str] = ("one", "other"),
) -> list[str]:
    """The lines of a unified diff of two tapes; none where they say the same.

    Args:
        one: A tape.
        other: Another one.
        exact: Also in which pieces it came, and its heartbeats.
        request: Which, of a tape of bytes that has several.
        names: What the two are called in the diff.

    Raises:
        ConfigurationError: a tape has several requests, and not this one.
    """
    before, after = (_said(tape, exact=exact, request=request) for tape in (one, other))
    return list(difflib.unified_diff(before, after, *names, lineterm="", n=2))


def _said(tape: Tape, *, exact: bool, request: int | None) -> list[str]:
    """A line for each event, without what only its recording knows; and the end."""
    tape = decoded(tape, request if len(tape.requests) > 1 else None)
    events: Iterable[Event] = (msgspec.structs.replace(event, seq=0, at=_AT, raw=None) for event in tape.events)
    kept = list(events) if exact else _joined(events)
    return [*(encode(event).decode() for event in kept), _ending(tape.end)]


def _joined(events: Iterable[Event]) -> list[Event]:
    runs: list[list[Event]] = []
    last: object = None
    for event in events:
        if isinstance(event, Heartbeat):
            continue
        key = (
            (type(event), event.source, event.attempt, event.choice, event.part) if isinstance(event, _JOINED) else None
        )
        if key is not None and key == last:
            runs[-1].append(event)
        else:
            runs.append([event])
        last = key
    return [run[0] if len(run) == 1 else _whole(run) for run in runs]


def _whole(run: list[Event]) -> Event:
    """Pieces of one part, as one."""
    name = "arguments" if isinstance(run[0], ToolCallDelta) else "text"
    return msgspec.structs.replace(run[0], **{name: "".join(getattr(event, name) for event in run)})


def _ending(end: Line | None) -> str:
    if end is None or end.end is None:
        return "cut: no end"
    return end.end if end.error is None else f"{end.end}: {end.error.kind}: {end.error.message}"
