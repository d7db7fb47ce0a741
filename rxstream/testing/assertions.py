"""Is a stream as drawn? In virtual time, to the unit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from reactivex import Observable, abc

from rxstream._check import positive, show
from rxstream.errors import ConfigurationError
from rxstream.events import EventBase, Finished
from rxstream.loop import LoopScheduler, running_loop
from rxstream.testing.marbles import Mark, bare, draw, fits, meanings, read_marbles
from rxstream.testing.scripted import Recorder
from rxstream.testing.virtual import run_virtual, settle

__all__ = ["assert_stream"]

_AFTERWARDS: Final = 10
"""Units that are watched after a diagram: what comes too late is to be seen."""
_ACTS: Final = "^hr!"


def assert_stream(
    stream: Observable[Any] | Callable[[], Observable[Any]],
    diagram: str,
    *,
    unit: float = 1.0,
    values: Mapping[str, object] | None = None,
    error: type[Exception] = Exception,
    during: str = "^",
) -> None:
    """Subscribe to `stream` in virtual time, and see that all comes as drawn, when it is drawn, and nothing else.

    Where the diagram has no end, the stream must not end in its time; then it is disposed. No task may be left.

    Args:
        stream: A cold stream; or a function that makes it, which is called on the loop.
        diagram: What is to come when; see the table of `rxstream.testing.marbles`.
        unit: Seconds that a character takes.
        values: What characters mean here: a value, a text (of a `TextDelta`, or alone), or a class.
        error: What ``#`` has to be.
        during: What is done to it, as a diagram beside the other: ``^`` subscribe, once, ``h`` hold its gate, ``r`` release it,
            ``!`` dispose.

    Raises:
        AssertionError: it is otherwise; the message shows both diagrams and all that came.
        ConfigurationError: a diagram cannot be read, or an option is not as described.

    Example:
        >>> from rxstream import operators as rxo
        >>> from rxstream.testing import assert_stream, from_marbles
        >>> assert_stream(from_marbles("s-a-b-(cu|)"), "s-a-b-(cu|)")
        >>> assert_stream(from_marbles("s-a-b-c-|").pipe(rxo.text()), "--a---b-c-|", during="^--h--r")
    """
    __tracebackhide__ = True
    positive("unit", unit)
    meanings(values)
    if not (isinstance(error, type) and issubclass(error, Exception)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"error: must be a class of exceptions, not {show(error)}")
    if running_loop() is not None:
        raise AssertionError("assert_stream() has a loop of its own: call it where none is running")
    marks, length = read_marbles(diagram)
    acts, acting = read_marbles(during, signs=_ACTS)
    if [mark.sign for mark in acts].count("^") != 1:
        raise ConfigurationError(f"during={during!r}: must have one ^")
    until = (max(length, acting) + (_AFTERWARDS if marks and marks[-1].sign in "|#" else 0)) * unit
    recorder = run_virtual(_watched(stream, acts, unit, until))
    came = _signals(recorder, unit, folded="f" in (values or {}) or all(mark.sign != "f" for mark in marks))
    if difference := _difference(marks, came, values, error):
        lines = [f"the stream is not as drawn: {difference}"]
        lines += [f"  drawn: {diagram.replace(' ', '')}", f"  came:  {draw(came, values)}"]
        lines += [f"    {when:g}: {_told(item)}" for when, item in came]
        raise AssertionError("\n".join(lines))


async def _watched(
    stream: Observable[Any] | Callable[[], Observable[Any]], acts: list[Mark], unit: float, until: float
) -> Recorder:
    """What `stream` gave while this was done to it."""
    made = stream() if callable(stream) else stream
    if not hasattr(made, "subscribe"):
        raise ConfigurationError(f"stream: must be an Observable, or a function that makes one, not {show(made)}")
    loop, recorder, scheduler = asyncio.get_running_loop(), Recorder(), LoopScheduler()
    subscriptions: list[abc.DisposableBase] = []

    def act(sign: str) -> None:
        match sign:
            case "^":
                subscriptions.append(
                    made.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed, scheduler=scheduler)
                )
            case "h":
                scheduler.gate.hold("drawn")
            case "r":
                scheduler.gate.release("drawn")
            case _:
                for subscription in subscriptions:
                    subscription.dispose()

    for mark in acts:
        if mark.at:
            loop.call_at(mark.at * unit, act, mark.sign)
        else:
            act(mark.sign)
    await asyncio.sleep(until)
    act("!")
    await settle()
    return recorder


def _signals(recorder: Recorder, unit: float, *, folded: bool) -> list[tuple[float, object]]:
    """What came when, in units; a `Finished` that is one with the completion left out."""
    at = [round(time / unit, 6) for time in recorder.times]
    came: list[tuple[float, object]] = list(zip(at, recorder.items, strict=True))
    if recorder.ended_at is not None:
        ended = round(recorder.ended_at / unit, 6)
        if folded and recorder.completed and came and came[-1][0] == ended and isinstance(came[-1][1], Finished):
            came.pop()
        came.append((ended, recorder.error))
    return came


def _difference(
    marks: list[Mark],
    came: list[tuple[float, object]],
    values: Mapping[str, object] | None,
    error: type[Exception],
) -> str:
    """The first thing that is otherwise; empty if nothing is."""
    for mark, (at, item) in zip(marks, came, strict=False):
        if item is None or isinstance(item, Exception):
            right = mark.sign == "|" if item is None else mark.sign == "#" and isinstance(item, error)
        else:
            right = mark.sign not in "|#" and fits(mark.sign, item, values)
        if not right:
            return f"at {mark.at:g}, {mark.sign!r} was to come, not {_told(item)}"
        if at != mark.at:
            return f"{mark.sign!r} was to come at {mark.at:g}, and came at {at:g}"
    if len(came) > len(marks):
        at, item = came[len(marks)]
        return f"at {at:g}, nothing was to come, and there was {_told(item)}"
    if len(marks) > len(came):
        return f"at {marks[len(came)].at}, {marks[len(came)].sign!r} was to come, and nothing did"
    return ""


def _told(item: object) -> str:
    """A signal in a message."""
    if item is None:
        return "the completion"
    if not isinstance(item, EventBase):
        return repr(item)
    fields = {name: value for name, value in msgspec.to_builtins(bare(item)).items() if name != "at"}
    return msgspec.json.encode(fields).decode()
