"""Watching whole streams, made as a user makes them, against a `ScriptedServer`."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import rxstream
from rxstream.aggregate import aggregate
from rxstream.errors import StreamError
from rxstream.events import Event, Finished, TextDelta
from rxstream.observable import Stream
from rxstream.response import Response
from tests.support.asking import DIALECTS, KEY, until
from tests.support.asking import Wire as Transport
from tests.support.server import ScriptedServer

__all__ = [
    "TRANSPORTS",
    "Outcome",
    "Transport",
    "assert_tells_no_secret",
    "everywhere",
    "links",
    "no_task_left",
    "stream_from",
    "watch",
]

TRANSPORTS: Final[tuple[Transport, ...]] = ("httpx2", "aiohttp")


def stream_from(server: ScriptedServer, name: str, *, transport: Transport = "auto", **options: Any) -> Stream[Event]:
    """The answer of the server, which speaks the dialect of the provider `name`."""
    url = server.url + DIALECTS[name]
    prompt = options.pop("prompt", "hello")
    return rxstream.stream(f"{name}:scripted-1", prompt, base_url=url, api_key=KEY, transport=transport, **options)


@dataclass
class Outcome:
    """What a subscriber was told."""

    events: list[Event] = field(default_factory=list[Event])
    ends: list[Exception | None] = field(default_factory=list[Exception | None])
    """The errors, and None for each ``on_completed``: one, or something is wrong."""

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def response(self) -> Response:
        """What the events come to."""
        return aggregate(self.events)

    @property
    def error(self) -> StreamError:
        """The error that it ended with."""
        [error] = self.ends
        assert isinstance(error, StreamError), f"it ended with {error!r}, after {self.text!r}"
        return error

    def assert_complete(self) -> None:
        """It is a whole answer: numbered without a gap, and told once that it is finished."""
        assert self.ends == [None]
        assert [event.seq for event in self.events] == list(range(len(self.events)))
        assert [index for index, event in enumerate(self.events) if isinstance(event, Finished)] == [
            len(self.events) - 1
        ]

    def assert_cut(self) -> None:
        """It failed in the midst: the error holds exactly what was delivered, and nothing was invented."""
        assert self.error.partial == self.response
        assert self.response.finish_reason is None
        assert not any(isinstance(event, Finished) for event in self.events)
        assert [event.seq for event in self.events] == list(range(len(self.events)))


async def watch(
    stream: Stream[Event], *, on_next: Callable[[Event], Any] | None = None, patience: float = 10.0
) -> Outcome:
    """Subscribe, and wait for the end."""
    outcome, ended = Outcome(), asyncio.Event()

    def next_event(event: Event) -> None:
        outcome.events.append(event)
        if on_next is not None:
            on_next(event)

    def end(error: Exception | None = None) -> None:
        outcome.ends.append(error)
        ended.set()

    stream.subscribe(next_event, end, end)
    async with asyncio.timeout(patience):
        await ended.wait()
    return outcome


async def everywhere(check: Callable[[str, Transport], Awaitable[None]]) -> None:
    """Run a check that has to wait for each dialect over both transports, all at the same time."""

    async def run(name: str, transport: Transport) -> None:
        try:
            await check(name, transport)
        except Exception as error:
            error.add_note(f"{name} over {transport}")
            raise

    async with asyncio.TaskGroup() as group:
        for name in DIALECTS:
            for transport in TRANSPORTS:
                group.create_task(run(name, transport))


async def no_task_left() -> None:
    """Wait until the caller's is the only task of the loop; TimeoutError if it never is."""
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def links(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that it was raised from or in the midst of."""
    open_ends: list[BaseException | None] = [error]
    seen: Sequence[BaseException] = []
    while open_ends:
        link = open_ends.pop()
        if link is None or any(link is other for other in seen):
            continue
        seen = [*seen, link]
        yield link
        open_ends += [link.__cause__, link.__context__]


def assert_tells_no_secret(error: BaseException, secret: str = KEY) -> None:
    """Nothing in it, or in what it came from, is of an SDK or an HTTP library, and the secret is in no form of it."""
    for link in links(error):
        assert type(link).__module__.partition(".")[0] in ("rxstream", "msgspec", "builtins"), f"{link!r} is not ours"
        assert secret not in f"{link} {link!r} {link.args} {vars(link)}"
    assert secret.encode() not in pickle.dumps(error)
