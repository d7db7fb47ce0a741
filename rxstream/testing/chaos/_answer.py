"""An answer about to be sent: its events, and what is to go wrong with them. Faults change it, then it is played.

Places in it are bytes of its body, before any compression and without HTTP's own frames.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Final

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._exchange import Exchange
from rxstream.testing.chaos._frames import Frame, more, ping
from rxstream.testing.chaos._generation import Generation
from rxstream.testing.chaos._served import Outcome, Served
from rxstream.testing.chaos._steps import CLOSE, END, HALF_CLOSE, HANG, RESET, Ending, Head, Signal

__all__ = ["Answer", "Halt", "play"]

_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_OUTCOMES: Final[dict[Ending, Outcome]] = {CLOSE: "close", RESET: "reset", HALF_CLOSE: "half-close", HANG: "hang"}


@dataclass(frozen=True)
class Halt:
    """Nothing more is said for this time, or until the signal, or, with neither, for ever."""

    seconds: float | None = None
    until: Signal | None = None
    pings: float | None = None
    """Seconds from one ping to the next; None for silence."""

    async def wait(self, say: Callable[[], Awaitable[None]]) -> None:
        """Wait until it is over; `say` sends a ping."""
        over = asyncio.ensure_future(self._over())
        try:
            while self.pings is not None and not over.done():
                await say()
                await asyncio.wait([over], timeout=self.pings)
            await over
        finally:
            over.cancel()

    async def _over(self) -> None:
        if self.until is not None:
            await self.until.wait_async()
        elif self.seconds is not None:
            await asyncio.sleep(self.seconds)
        else:
            await asyncio.Event().wait()


@dataclass
class Answer:
    """What is sent, and how."""

    dialect: Dialect
    generation: Generation
    frames: list[Frame]
    """The events of this answer: those of the generation, or a part of them, as the faults have made them."""
    head: Head = field(default_factory=Head)
    page: bool = False
    """It is no answer, but a page in its place."""
    lasting: bool = False
    """Its client may come back for the rest: its bytes must stay what they are."""
    late: Halt | None = None
    """What comes before the head."""
    instead: Ending | None = None
    """What comes in place of the head and all else."""
    encoding: str = ""
    stops: int | None = None
    """Where the body stops; None for its end."""
    ending: Ending = END
    halts: list[tuple[int, Halt]] = field(default_factory=list[tuple[int, Halt]])
    splits: list[int] = field(default_factory=list[int])
    """Where an event is cut into two pieces."""
    drip: tuple[int, float] | None = None
    """Bytes of a piece, and the seconds from one to the next."""
    hoards: int = 0
    """Bytes that a proxy gathers before it passes them on."""
    endless: int | None = None
    """After how many events the answer repeats its last text for ever."""

    @property
    def ends(self) -> list[int]:
        """Where each event ends."""
        return list(accumulate(len(frame.data) for frame in self.frames))

    @property
    def content(self) -> list[int]:
        """The places of the events that are content."""
        return [place for place, frame in enumerate(self.frames) if frame.is_content]

    def text_before(self, place: int) -> Frame | None:
        """The last event of text among the first `place` events."""
        return next((frame for frame in reversed(self.frames[:place]) if frame.kind == "text"), None)

    def pieces(self) -> Iterator[tuple[Frame, bytes] | Halt]:
        """What is sent in one go, and the halts in between; an event is sent whole with its last piece."""
        halts = sorted(self.halts, key=lambda halt: halt[0])
        at = 0
        for frame in self._endless() if self.endless is not None else self.frames:
            end = at + len(frame.data)
            edges = {edge for edge in (*self.splits, *(place for place, _ in halts)) if at < edge < end}
            if self.drip is not None:
                edges.update(range(at + self.drip[0], end, self.drip[0]))
            if self.stops is not None and self.stops < end:
                edges = {edge for edge in edges if edge < self.stops} | {self.stops}
            else:
                edges.add(end)
            for start, edge in zip([at, *sorted(edges)], sorted(edges), strict=False):
                while halts and halts[0][0] <= start:
                    yield halts.pop(0)[1]
                yield frame, frame.data[start - at : edge - at]
            at = end
            if self.stops is not None and self.stops <= at:
                break
        yield from (halt for place, halt in halts if self.stops is None or place <= self.stops)

    def _endless(self) -> Iterator[Frame]:
        place = self.endless or 0
        yield from self.frames[:place]
        like = self.text_before(place)
        first = next((frame.number for frame in reversed(self.frames[:place]) if frame.number is not None), None)
        for step in count(1):
            text, number = like.text if like is not None else "and ", None if first is None else first + step
            yield more(self.dialect, text, like=like, number=number)._replace(text="")


class _Sender:
    """Sends pieces of the body: compressed, gathered, counted."""

    def __init__(self, answer: Answer, exchange: Exchange, served: Served) -> None:
        self._answer = answer
        self._exchange = exchange
        self._served = served
        self._compress = zlib.compressobj(wbits=_WINDOWS[answer.encoding]) if answer.encoding else None
        self._waiting = bytearray()
        self._frames: list[Frame] = []
        self._raw = 0

    async def send(self, data: bytes, *, whole: Frame | None = None) -> None:
        """A piece; `whole` is the event that is complete with it."""
        self._raw += len(data)
        if whole is not None:
            self._frames.append(whole)
        if self._compress is not None:
            data = self._compress.compress(data) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        self._waiting += data
        if len(self._waiting) >= self._answer.hoards:
            await self.flush()

    async def finish(self) -> None:
        """All was sent, and what compression adds to that."""
        if self._compress is not None:
            self._waiting += self._compress.flush()
        await self.flush()

    async def flush(self) -> None:
        """Send what was gathered."""
        data, frames, raw = bytes(self._waiting), self._frames, self._raw
        self._waiting.clear()
        self._frames, self._raw = [], 0
        await self._exchange.send(data)
        self._served.body_sent += raw
        for frame in frames:
            self._served.sent(frame)


async def play(answer: Answer, exchange: Exchange, served: Served) -> None:
    """Send it; what came of it stands in `served`."""
    sender = _Sender(answer, exchange, served)
    if answer.late is not None:
        await answer.late.wait(sender.flush)
    if answer.instead is not None:
        served.outcome = _OUTCOMES[answer.instead]
        await exchange.finish(answer.instead)
        return
    await exchange.head(answer.head)
    if answer.head.status == 200:
        served.phase = "first_event"
    complete = await _body(answer, sender)
    if answer.stops is None and complete:
        await sender.finish()
    else:
        await sender.flush()
    served.outcome = _outcome(answer, complete=complete)
    await exchange.finish(answer.ending)


async def _body(answer: Answer, sender: _Sender) -> bool:
    """Send the body; False if the model was told to stop."""

    async def say_ping() -> None:
        await sender.send(ping(answer.dialect))

    left = 0
    for piece in answer.pieces():
        if isinstance(piece, Halt):
            await piece.wait(say_ping)
            continue
        frame, data = piece
        if not await answer.generation.ready(frame.due):
            return False
        left = (left or len(frame.data)) - len(data)
        await sender.send(data, whole=None if left or answer.page else frame)
        if answer.drip is not None:
            await asyncio.sleep(answer.drip[1])
    return True


def _outcome(answer: Answer, *, complete: bool) -> Outcome:
    if answer.ending is not END:
        return _OUTCOMES[answer.ending]
    if answer.head.status != 200:
        return "refused"
    if not complete:
        return "cancelled"
    return "complete" if answer.frames and answer.frames[-1].kind == "end" and answer.stops is None else "end"
