"""The matrix: what is required of a client, a row each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, get_args

from rxstream.testing.certify import _wire as wire
from rxstream.testing.certify._bench import Bench, Finding, Verdict
from rxstream.testing.certify._speed import speed
from rxstream.testing.chaos import CLOSE, END, HANG, RESET, Head, Pause, Play, Signal, Step, Tell

__all__ = ["ROWS", "Row", "examine"]

Case = Callable[[Bench], str]
"""One experiment. It gives a figure, or nothing; it raises a `Finding` for all but a pass."""

_SETTLE: Final = 0.05
"""Seconds for what was sent to arrive."""
_FLOODED: Final = 2000
"""Characters of text that make a flood."""
_WORDS: Final = ("Hello", ", ", "world", ".")


@dataclass(frozen=True)
class Row:
    """A requirement, and the experiments that show whether it is met."""

    name: str
    """As in ``--only``."""
    means: str
    cases: Callable[[Bench], dict[str, Case]]
    waits: bool = False
    """Its cases mostly wait: they are made at the same time."""


def examine(row: Row, bench: Bench) -> tuple[Verdict, str, str]:
    """The verdict, a figure, and what is to be said of it: the worst of all cases counts."""
    cases = row.cases(bench)
    found: list[tuple[Verdict, str]]
    if row.waits:
        with ThreadPoolExecutor(len(cases)) as threads:
            found = list(threads.map(partial(_try, bench=bench), cases.values()))
    else:
        found = [_try(case, bench) for case in cases.values()]
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    worst = verdicts[max(verdicts.index(verdict) for verdict, _ in found)]
    if worst == "pass":
        figure: str = next((said for _, said in found if said), "")
        return "pass", figure, ""
    wrong: dict[str, list[str]] = {}
    for name, (verdict, said) in zip(cases, found, strict=True):
        if verdict != "pass":
            wrong.setdefault(said, []).append(name)
    told = [f"{', '.join(names)}: {said}" if len(cases) > 1 else said for said, names in wrong.items()]
    return worst, "", "; ".join(told)


def _try(case: Case, bench: Bench) -> tuple[Verdict, str]:
    try:
        return "pass", case(bench)
    except Finding as finding:
        return finding.verdict, finding.detail


def _one(case: Case) -> Callable[[Bench], dict[str, Case]]:
    return lambda _: {"": case}


# --- cancelling -------------------------------------------------------------------------------------------------------------


def _cancel(bench: Bench, *, phase: str) -> str:
    sent = Signal()
    frames = wire.begun(bench.dialect)
    plays: dict[str, Play] = {
        "headers": [Tell(sent), HANG],
        "event": [Head(), Tell(sent), HANG],
        "tokens": [*frames, HANG],
        "flood": wire.flood(bench.dialect),
    }
    stop_at = {"tokens": len(wire.SAID), "flood": _FLOODED}.get(phase)
    with bench.trial(plays[phase], stop_at=stop_at) as trial:
        if stop_at is None:
            if not trial.run.early:
                raise Finding("n/a", "a blocking iterator hears nothing while it waits")
            trial.until(lambda: sent.is_set, "no request was made")
            time.sleep(_SETTLE)
        else:
            trial.until(trial.told.reached.is_set, "its text does not come while the answer goes on")
        if trial.run.early:
            trial.run.stop()
        stopped = trial.told.stopped_at or time.monotonic()
        left = trial.left(stopped)
        if not trial.told.over.wait(trial.patience):
            raise Finding("hangs", "closed its request, but does not end")
    return f"{left * 1000:.1f} ms"


# --- truth ------------------------------------------------------------------------------------------------------------------


def _says(bench: Bench, *plays: Play, text: str) -> str:
    bench.success(*plays, text=text)
    return ""


def _fails(bench: Bench, *plays: Play) -> str:
    bench.failure(*plays)
    return ""


def _gives_up(bench: Bench, *plays: Play) -> str:
    waited = bench.failure(*plays, stalls=True)
    if waited < bench.timeout / 2:
        raise Finding("fail", f"gave up after {waited:.2f} s, which is not its timeout")
    return f"{waited:.1f} s"


def _text(bench: Bench) -> dict[str, Case]:
    answers = {"words": _WORDS, "what repeats, and blanks": wire.REPEATING}
    return {name: _saying(wire.whole(bench.dialect, *pieces), "".join(pieces)) for name, pieces in answers.items()}


def _saying(play: Play, text: str) -> Case:
    return lambda bench: _says(bench, play, text=text)


def _failing(play: Play) -> Case:
    return lambda bench: _fails(bench, play)


def _splits(bench: Bench) -> dict[str, Case]:
    body, text = b"".join(wire.whole(bench.dialect, *_WORDS)), "".join(_WORDS)

    def cut(size: int, *, pause: float) -> Case:
        steps: list[Step] = [Head()]
        for at in range(0, len(body), size):
            steps.append(body[at : at + size])
            if pause:
                steps.append(Pause(pause))
        return _saying(steps, text)

    return {
        "all in one read": cut(len(body), pause=0),
        "a byte a chunk": cut(1, pause=0),
        "29 bytes a read": cut(29, pause=0.001),
    }


def _characters(bench: Bench) -> str:
    steps, text = wire.split_characters(bench.dialect)
    return _says(bench, steps, text=text)


def _spellings(bench: Bench) -> dict[str, Case]:
    return {name: _saying([Head(), body, END], wire.WHOLE) for name, body in wire.spellings(bench.dialect).items()}


def _tools(_: Bench) -> dict[str, Case]:
    return {
        "in turns": partial(_assembles, interleaved=True),
        "one after the other": partial(_assembles, interleaved=False),
    }


def _assembles(bench: Bench, *, interleaved: bool) -> str:
    told = bench.success(wire.tool_calls(bench.dialect, interleaved=interleaved), tools=True)
    if told.text_only:
        raise Finding("n/a", "it tells nothing but text")
    if told.tool_calls != wire.CALLS:
        raise Finding("fail", f"called {told.tool_calls!r:.160}")
    return ""


def _usage(bench: Bench) -> str:
    told = bench.success(wire.counted(bench.dialect), text="abcd")
    if told.text_only:
        raise Finding("n/a", "it tells nothing but text")
    if told.usage != wire.USED:
        said = "reports none" if told.usage is None else f"reports {told.usage[0]} in, {told.usage[1]} out"
        raise Finding("fail", f"{said}, not {wire.USED[0]} in, {wire.USED[1]} out")
    return ""


def _truncation(bench: Bench) -> dict[str, Case]:
    dialect = bench.dialect
    bodies = {
        "between two words": wire.begun(dialect),
        "inside JSON": wire.cut_in_json(dialect),
        "inside a character": wire.cut_in_character(dialect),
        "inside a tool call": wire.cut_in_tool(dialect),
    }
    cases = {name: _failing([*body, END]) for name, body in bodies.items()}
    return {**cases, "the connection's end": _failing([Head(chunked=False), *wire.begun(dialect), CLOSE])}


def _cuts(bench: Bench) -> dict[str, Case]:
    dialect = bench.dialect
    return {
        "RST": _failing([*wire.begun(dialect), Pause(_SETTLE), RESET]),
        "RST in an event": _failing([*wire.cut_in_json(dialect), Pause(_SETTLE), RESET]),
        "FIN without the last chunk": _failing([*wire.begun(dialect), CLOSE]),
    }


def _once(bench: Bench) -> str:
    """The first request is cut, all further ones are answered."""
    cut: list[Step] = [*wire.begun(bench.dialect), Pause(_SETTLE), RESET]
    told = bench.answer(cut, wire.whole(bench.dialect))
    if not (told.text == wire.WHOLE or (told.error and wire.WHOLE.startswith(told.text))):
        raise Finding("fail", f"said {told.text!r:.60} of {wire.WHOLE!r}")
    return ""


def _errors(bench: Bench) -> dict[str, Case]:
    begun = wire.begun(bench.dialect)
    return {name: _failing([*begun, *frames]) for name, frames in wire.errors(bench.dialect).items()}


def _strangers(_: Bench) -> dict[str, Case]:
    return {name: _failing(play) for name, play in wire.not_a_stream().items()}


def _refused(bench: Bench) -> str:
    with bench.trial(wire.refused(bench.dialect)) as trial:
        told = trial.end()
        if not told.error:
            raise Finding("silent", "passed for a whole answer")
        if (asked := len(trial.server.requests)) > 1:
            raise Finding("fail", f"asked {asked} times with a key that was refused")
    return ""


# --- clocks -----------------------------------------------------------------------------------------------------------------


def _waiting(play: Play) -> Case:
    return lambda bench: _gives_up(bench, play)


def _silences(bench: Bench) -> dict[str, Case]:
    return {
        "before the headers": _waiting([HANG]),
        "before the first event": _waiting([Head(), HANG]),
        "in mid-answer": _waiting([*wire.begun(bench.dialect), HANG]),
    }


def _pings(bench: Bench) -> dict[str, Case]:
    return {
        "before the first word": _waiting(wire.pings(bench.dialect, before=True)),
        "in mid-answer": _waiting(wire.pings(bench.dialect, before=False)),
    }


def _lingering(bench: Bench) -> str:
    bench.success([*wire.whole(bench.dialect), HANG], text=wire.WHOLE, stalls=True)
    return ""


def _released(bench: Bench) -> dict[str, Case]:
    error = next(iter(wire.errors(bench.dialect).values()))
    ends = {
        "after the answer": wire.whole(bench.dialect),
        "after an error": [*wire.begun(bench.dialect), *error],
    }
    return {name: partial(_lets_go, [*frames, HANG]) for name, frames in ends.items()}


def _lets_go(play: Play, bench: Bench) -> str:
    with bench.trial(play, stalls=True) as trial:
        trial.end()
        trial.left(time.monotonic())
    return ""


ROWS: Final[Sequence[Row]] = (
    Row(
        "cancel-before-headers", "cancel before the headers closes the request", _one(partial(_cancel, phase="headers"))
    ),
    Row("cancel-before-event", "cancel before the first event", _one(partial(_cancel, phase="event"))),
    Row("cancel-between-tokens", "cancel between two tokens", _one(partial(_cancel, phase="tokens"))),
    Row("cancel-in-flood", "cancel in a flood of tokens", _one(partial(_cancel, phase="flood"))),
    Row("text", "the text, once and in order", _text),
    Row("splits", "… however the bytes are split", _splits),
    Row("utf8", "… also inside characters", _one(_characters)),
    Row("spellings", "… however the events are written", _spellings),
    Row("tools", "parallel tool calls, put together right", _tools),
    Row("usage", "usage: the last count, not the sum", _one(_usage)),
    Row("truncation", "a clean end in the midst is a failure", _truncation),
    Row("cut", "a connection that breaks is a failure", _cuts),
    Row("once", "… and no text comes twice after it", _one(_once)),
    Row("error", "an error in the stream is a failure", _errors),
    Row("no-stream", "HTTP 200 that is no stream is a failure", _strangers),
    Row("refused", "HTTP 401 is a failure, and not retried", _one(_refused)),
    Row("silence", "silence ends by the client's timeout", _silences, waits=True),
    Row("pings", "pings alone end by it, too", _pings, waits=True),
    Row("lingering", "done at the end mark, not at the close", _one(_lingering)),
    Row("released", "no request left open after the end", _released),
    Row("speed", "CPU an event, ÷ raw socket and json", _one(speed)),
)
