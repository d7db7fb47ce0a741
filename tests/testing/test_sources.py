"""Every source there is keeps every rule of a reactive stream that applies to it, and so do the edges."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
import reactivex as rx
from reactivex import Observable

import rxstream
from rxstream import to_async_iterable, to_iterable
from rxstream.errors import Disconnected
from rxstream.events import Event, Finished, TextDelta
from rxstream.gate import Gate
from rxstream.operators import text, valve
from rxstream.sinks.publisher import Publisher
from rxstream.sources._clients import close_clients
from rxstream.sources.callback import Push
from rxstream.sources.local import LocalServer
from rxstream.testing import source_checks, verify_publisher, verify_source
from tests.support.asking import DIALECTS, GOOD
from tests.support.live import TRANSPORTS, Transport, stream_from
from tests.support.scripted import HANG, Scripted, Step, numbered, raising
from tests.support.server import CLOSE, Exchange, ScriptedServer, closed_port, page


def words(count: int) -> list[str]:
    return [f"{number} " for number in range(count)]


class Scripts:
    """Scripted sources, made by the number of their items; what is open of them is counted together."""

    def __init__(self, shape: Callable[[Observable[Event]], Observable[Any]] = lambda events: events) -> None:
        self._shape = shape
        self._made: list[Scripted] = []

    def __call__(self, count: int) -> Observable[Any]:
        return self._source(numbered(count))

    def failing(self) -> Observable[Any]:
        return self._source([*words(5), raising(Disconnected("gone"))])

    def endless(self) -> Observable[Any]:
        return self._source([*words(300), HANG])

    def open(self) -> int:
        return sum(script.running for script in self._made)

    def _source(self, steps: list[Step]) -> Observable[Any]:
        self._made.append(Scripted(steps))
        return self._shape(self._made[-1].events())


class Opened:
    """How many of the iterators that it makes are being read."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        with self._lock:
            self.count += by

    def reading(self, count: int, *, fails: bool = False, every: float = 0.0) -> Iterator[str]:
        """In a thread; `every` so many seconds, so that a test can come in between."""
        self.change(1)
        try:
            for word in words(count):
                threading.Event().wait(every)
                yield word
            if fails:
                raise Disconnected("gone")
        finally:
            self.change(-1)

    async def areading(self, count: int, *, fails: bool = False, hangs: bool = False) -> AsyncIterator[str]:
        self.change(1)
        try:
            for word in words(count):
                yield word
            if hangs:
                await asyncio.Event().wait()
            if fails:
                raise Disconnected("gone")
        finally:
            self.change(-1)


# --- the pump, and what is made of what you have --------------------------------------------------------------------------


def test_the_pump() -> None:
    scripts = Scripts()
    verify_source(scripts, fails=scripts.failing, endless=scripts.endless, opens=scripts.open)


@pytest.mark.parametrize("read_ahead", [0, 64])
def test_the_pump_of_pieces(read_ahead: int) -> None:
    """Many events in one piece, read ahead or not."""

    def pieces(count: int) -> Observable[Event]:
        steps: list[Step] = [tuple(words(count)[at : at + 10]) for at in range(0, count, 10)]
        return Scripted([*steps, Finished(reason="stop")]).events(read_ahead=read_ahead)

    verify_source(pieces)


def test_from_iterable_of_a_list() -> None:
    verify_source(lambda count: rxstream.from_iterable(words(count)))


def test_from_iterable_of_a_generator() -> None:
    opened = Opened()
    verify_source(
        lambda count: rxstream.from_iterable(lambda: opened.reading(count)),
        fails=lambda: rxstream.from_iterable(lambda: opened.reading(5, fails=True)),
        endless=lambda: rxstream.from_iterable(lambda: opened.reading(100_000, every=0.001)),
        opens=lambda: opened.count,
        many=200,
    )


def test_from_iterable_of_an_async_generator() -> None:
    opened = Opened()
    verify_source(
        lambda count: rxstream.from_iterable(lambda: opened.areading(count)),
        fails=lambda: rxstream.from_iterable(lambda: opened.areading(5, fails=True)),
        endless=lambda: rxstream.from_iterable(lambda: opened.areading(300, hangs=True)),
        opens=lambda: opened.count,
    )


def test_from_iterable_of_an_iterator_that_is_used_up() -> None:
    verify_source(lambda count: rxstream.from_iterable(iter(words(count))), cold=False, many=200)


@pytest.mark.parametrize("on_loop", [False, True])
def test_from_callback(on_loop: bool) -> None:
    opened = Opened()

    def source(count: int, error: Exception | None = None) -> Observable[Event]:
        def pushed(push: Push[str]) -> None:
            opened.change(1)
            try:
                for number in range(count):
                    if push(f"{number} "):
                        return
                if error is not None:
                    push.error(error)
            finally:
                opened.change(-1)

        async def sent(push: Push[str]) -> None:
            opened.change(1)
            try:
                for number in range(count):
                    if await push.send(f"{number} "):
                        return
                if error is not None:
                    push.error(error)
            finally:
                opened.change(-1)

        return rxstream.from_callback(sent if on_loop else pushed)

    verify_source(
        source,
        fails=lambda: source(5, Disconnected("gone")),
        endless=lambda: source(1_000_000),
        opens=lambda: opened.count,
        many=300,
    )


def test_emulate() -> None:
    def failing() -> str:
        raise Disconnected("gone")

    verify_source(
        lambda count: rxstream.emulate("".join(words(count))),
        endless=lambda: rxstream.emulate("".join(words(10_000)), delay=0.0001),
    )
    verify_source(lambda count: rxstream.emulate(lambda: "".join(words(count))), many=200)


def test_replay() -> None:
    def tape(count: int) -> list[Event]:
        deltas = [TextDelta(text=word, at=number / 1000) for number, word in enumerate(words(count))]
        return [*deltas, Finished(reason="stop", at=count / 1000)]

    verify_source(
        lambda count: rxstream.replay(tape(count)),
        fails=lambda: rxstream.replay(tape(5)[:-1]),
        endless=lambda: rxstream.replay(tape(5_000), speed=0.1),
    )


def test_operators_at_the_end() -> None:
    """They rely on RxPY's guard before every observer."""
    scripts = Scripts(lambda events: events.pipe(text()))
    verify_source(scripts, fails=scripts.failing, endless=scripts.endless, opens=scripts.open, guarded=True)


def test_a_valve() -> None:
    scripts = Scripts(lambda events: events.pipe(valve(Gate())))
    verify_source(scripts, fails=scripts.failing, endless=scripts.endless, opens=scripts.open, guarded=True)


def test_an_observable_of_rxpy_as_a_stream() -> None:
    """It keeps all the rules but those of the gate, and gives all it has in one turn of the loop."""
    verify_source(
        lambda count: rxstream.Stream.of(rx.from_iterable(range(count))),
        fails=lambda: rxstream.Stream.of(rx.concat(rx.of(1, 2), rx.throw(Disconnected("gone")))),
        endless=lambda: rxstream.Stream.of(rx.interval(0.001)),
        obeys_gate=False,
        guarded=True,
        exempt={"2.2": "RxPY's from_iterable gives all it has in one turn"},
    )


# --- the edges ------------------------------------------------------------------------------------------------------------


def test_an_async_iterable_of_a_stream_is_as_good_as_the_stream() -> None:
    scripts = Scripts(text())

    def again(make: Callable[[], Observable[str]]) -> Observable[Any]:
        return rxstream.from_iterable(lambda: to_async_iterable(make(), high=4))

    verify_source(
        lambda count: again(lambda: scripts(count)),
        fails=lambda: again(scripts.failing),
        endless=lambda: again(scripts.endless),
        opens=scripts.open,
        many=200,
    )


def test_an_iterable_of_a_stream_is_as_good_as_the_stream() -> None:
    """That runs on another thread's loop."""
    scripts = Scripts(text())

    def again(make: Callable[[], Observable[str]]) -> Observable[Any]:
        return rxstream.from_iterable(lambda: to_iterable(make(), high=4))

    verify_source(
        lambda count: again(lambda: scripts(count)),
        fails=lambda: again(scripts.failing),
        opens=scripts.open,
        many=200,
    )


@pytest.mark.parametrize("high", [1, 64])
def test_a_publisher(high: int) -> None:
    scripts = Scripts()

    def publisher(source: Observable[Any]) -> Publisher[Any]:
        return Publisher(source, high=high)

    verify_publisher(
        lambda count: publisher(scripts(count)),
        fails=lambda: publisher(scripts.failing()),
        endless=lambda: publisher(scripts.endless()),
        opens=scripts.open,
    )


def test_a_publisher_of_what_obeys_no_gate() -> None:
    verify_publisher(lambda count: Publisher(rx.from_iterable(range(count))))


# --- SDKs -----------------------------------------------------------------------------------------------------------------


class Talk:
    """A server's script that answers with so many words as it is asked for; `open` is how many answers are going on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.open = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.open += 1
        try:
            asked = re.search(rb"(?:items|failing|endless) \d+", exchange.request.body)
            assert asked is not None
            kind, count = asked[0].decode().split()
            frames = GOOD[self._name](*words(int(count)), terminal=kind == "items")
            await exchange.head()
            for at in range(0, len(frames), 7):
                await exchange.send(b"".join(frames[at : at + 7]))
            if kind == "items":
                await exchange.end()
            elif kind == "endless":
                await exchange.hang()
            else:
                await exchange.play([CLOSE])
        finally:
            self.open -= 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", DIALECTS)
def test_a_request(name: str, transport: Transport) -> None:
    talk = Talk(name)
    with ScriptedServer(talk) as server:

        def ask(prompt: str) -> Observable[Event]:
            return stream_from(server, name, transport=transport, prompt=prompt)

        verify_source(
            lambda count: ask(f"items {count}"),
            fails=lambda: ask("failing 5"),
            endless=lambda: ask("endless 300"),
            opens=lambda: talk.open,
            cleanup=close_clients,
            many=300,
        )


FAILING = ("1.4", "1.6", "1.7", "1.9", "2.3", "2.10", "G.5")
"""What a source that only fails can break."""


@pytest.mark.parametrize("how", ["nobody listens", "no key", "no stream", "refused"])
def test_a_request_that_fails_at_once(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    scripts = {"no stream": page(200, "<html>"), "refused": page(429, "{}", content_type="application/json")}
    with ScriptedServer(scripts.get(how, [])) as server:
        url = f"http://127.0.0.1:{closed_port()}" if how == "nobody listens" else server.url
        key = None if how == "no key" else "k"
        checks = source_checks(
            lambda count: rxstream.from_iterable(words(count)),
            fails=lambda: rxstream.stream("openai:m", "hello", base_url=url, api_key=key),
            opens=lambda: 0,
            cleanup=close_clients,
            many=10,
        )
        broken = [check.result() for check in checks if check.rule.number in FAILING]
    assert {result.rule for result in broken} == set(FAILING)
    assert [result for result in broken if result.outcome != "passed"] == []


class Adopting:
    """Streams opened with an SDK's async client, one for each loop; closing it is somebody else's."""

    def __init__(self, url: str, name: str) -> None:
        self._options: dict[str, Any] = {"base_url": url + DIALECTS[name], "api_key": "k", "max_retries": 0}
        self._name = name
        self._kept: list[Any] = []

    def _client(self, make: Callable[..., Any]) -> Any:
        if not self._kept:
            self._kept.append(make(**self._options))
        return self._kept[0]

    async def __call__(self, prompt: str) -> Observable[Event]:
        asked: list[Any] = [{"role": "user", "content": prompt}]
        if self._name == "anthropic":
            claude = self._client(anthropic.AsyncAnthropic)
            return rxstream.from_sdk(await claude.messages.create(model="m", messages=asked, max_tokens=9, stream=True))
        client = self._client(openai.AsyncOpenAI)
        if self._name == "openai":
            return rxstream.from_sdk(await client.responses.create(model="m", input=prompt, stream=True))
        return rxstream.from_sdk(await client.chat.completions.create(model="m", messages=asked, stream=True))

    async def close(self) -> None:
        """At the end of each check: the next has a loop of its own."""
        kept, self._kept = self._kept, []
        for client in kept:
            await client.close()


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_of_an_sdk(name: str) -> None:
    talk = Talk(name)
    with ScriptedServer(talk) as server:
        adopt = Adopting(server.url, name)
        verify_source(
            lambda count: adopt(f"items {count}"),
            fails=lambda: adopt("failing 5"),
            endless=lambda: adopt("endless 300"),
            opens=lambda: talk.open,
            cleanup=adopt.close,
            cold=False,
            many=300,
        )


@pytest.mark.local
def test_the_local_model(local_server: LocalServer) -> None:
    def ask(tokens: int) -> Observable[Event]:
        url, key = f"{local_server.url}/v1", local_server.api_key
        target, prompt = f"local:{local_server.model}", "Count from one to a hundred, in words."
        return rxstream.stream(target, prompt, base_url=url, api_key=key, temperature=0, max_tokens=tokens)

    def kind_and_text(event: Event) -> object:
        return type(event), getattr(event, "text", "")

    verify_source(
        lambda count: ask(count + 3),
        endless=lambda: ask(400),
        key=kind_and_text,
        cleanup=close_clients,
        many=12,
        patience=60.0,
    )
