"""Streams with a handler: ``subscribe`` and ``start``."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observer
from reactivex.disposable import Disposable

import rxstream
from rxstream.errors import Cancelled, ConfigurationError
from rxstream.events import Event, TextDelta
from rxstream.observable import Stream
from rxstream.operators import Progress
from rxstream.sinks._observing import Observing
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from tests.support.scripted import DONE, HANG, Scripted, Step, numbered, words
from tests.support.virtual_loop import settle, virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


class Says(StreamHandler):
    """Writes down what it is told, and when."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_stream_start(self, metadata: StreamMetadata) -> Any:
        self.metadata = metadata

    def on_token_received(self, token: str, index: int) -> Any:
        self.said.append((now(), index, token))

    def on_stream_complete(self, full_response: Any) -> Any:
        self.said.append((now(), full_response.text))

    def on_stream_error(self, error: Exception) -> Any:
        self.said.append((now(), type(error)))


class Slow(Says):
    """Takes three seconds for a token."""

    async def on_token_received(self, token: str, index: int) -> Any:
        await asyncio.sleep(3)
        super().on_token_received(token, index)


def stream(*steps: Step) -> tuple[Stream[Event], Scripted]:
    script = Scripted(steps)
    return Stream.of(script.events(), label="it"), script


@pytest.mark.parametrize("how", ["subscribe", "start"])
@virtual_time
async def test_a_stream_takes_a_handler(how: str) -> None:
    source, script = stream(*words("to ", "be"))
    handler = Says()
    getattr(source, how)(handler)
    await asyncio.sleep(5)
    assert handler.said == [(1.0, 0, "to "), (2.0, 1, "be"), (2.0, "to be")]
    assert handler.metadata.label == "it"
    assert handler.metadata.stream_id
    assert script.running == 0


@pytest.mark.parametrize("how", ["subscribe", "start"])
@virtual_time
async def test_a_slow_handler_holds_its_stream(how: str) -> None:
    source, script = stream(*numbered(300))
    handler = Slow()
    getattr(source, how)(handler)
    await asyncio.sleep(2)
    assert script.given < 80
    await asyncio.sleep(1000)
    assert len(handler.said) == 301
    assert handler.said[-1] == (900.0, "".join(f"{number} " for number in range(300)))


@pytest.mark.parametrize("how", ["subscribe", "start"])
@pytest.mark.parametrize("later", [False, True])
@virtual_time
async def test_what_a_handler_raises_is_its_own_end(how: str, later: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Raises(Says):
        def on_token_received(self, token: str, index: int) -> Any:
            raise KeyError(token)

    class RaisesLater(Says):
        async def on_token_received(self, token: str, index: int) -> Any:
            raise KeyError(token)

    source, script = stream("a", "b", HANG)
    handler = RaisesLater() if later else Raises()
    session = getattr(source, how)(handler)
    await settle()
    assert handler.said == [(0.0, KeyError)]
    assert script.running == 0
    if how == "start":
        assert session.status == "error"
    assert [record.getMessage() for record in caplog.records] == [
        f"handler {type(handler).__name__} raised KeyError; its stream ends"
    ]


@pytest.mark.parametrize("how", ["subscribe", "start"])
@virtual_time
async def test_one_that_cannot_begin_asks_for_nothing_and_is_told_so(how: str) -> None:
    class Cannot(Says):
        def on_stream_start(self, metadata: StreamMetadata) -> Any:
            raise KeyError("no window")

    source, script = stream("a", HANG)
    handler = Cannot()
    getattr(source, how)(handler)
    await asyncio.sleep(1)
    assert handler.said == [(0.0, KeyError)]
    assert script.opened == 0


@virtual_time
async def test_after_dispose_a_handler_hears_nothing() -> None:
    for kind in (Says, Slow):
        source, script = stream(*words("to ", "be"))
        handler = kind()
        subscription = source.subscribe(handler)
        await asyncio.sleep(1.5)
        before = list(handler.said)
        subscription.dispose()
        await asyncio.sleep(10)
        assert handler.said == before
        assert script.running == 0


@virtual_time
async def test_a_session_tells_its_handler_of_pauses_and_of_its_cancellation() -> None:
    class All(Says):
        def on_pause(self) -> None:
            self.said.append((now(), "pause"))

        def on_resume(self) -> None:
            self.said.append((now(), "resume"))

        def on_cancel(self, reason: str) -> None:
            self.said.append((now(), reason))

    source, _ = stream(*words("a", "b", "c"))
    handler = All()
    session = source.start(handler)
    await asyncio.sleep(1.5)
    session.pause()
    await asyncio.sleep(2)
    session.resume()
    await settle()
    session.cancel("enough")
    assert handler.said == [
        (1.0, 0, "a"),
        (1.5, "pause"),
        (3.5, "resume"),
        (3.5, 1, "b"),
        (3.5, "enough"),
        (3.5, Cancelled),
    ]


@virtual_time
async def test_who_is_told_of_a_pause_may_end_it_and_who_is_told_of_its_end_may_pause_again() -> None:
    class Contrary(Says):
        def on_pause(self) -> None:
            self.said.append((now(), "pause", session.resume() if now() < 2 else None))

        def on_resume(self) -> None:
            self.said.append((now(), "resume", session.pause() if now() > 2 else None))

    handler = Contrary()
    source, _ = stream(*words("a", "b", "c", "d"))
    session = source.start(handler)
    await asyncio.sleep(1.5)
    assert session.pause()
    await asyncio.sleep(1)
    assert (session.status, session.gate.holds) == ("active", ())
    session.pause()
    session.resume()
    await asyncio.sleep(20)
    assert (session.status, session.gate.holds) == ("paused", ("pause",))
    assert [said[1] for said in handler.said if isinstance(said[1], int)] == [0, 1]
    session.cancel()


@pytest.mark.parametrize("how", ["subscribe", "start"])
@virtual_time
async def test_a_handler_is_told_how_far_the_answer_is(how: str) -> None:
    class Far(StreamHandler):
        def __init__(self) -> None:
            self.said: list[tuple[float, int, bool]] = []

        def on_progress(self, progress: Progress) -> None:
            self.said.append((now(), progress.tokens, progress.done))

    source, _ = stream(*words("a", "b"))
    far = Far()
    getattr(source, how)(far)
    await asyncio.sleep(5)
    assert far.said == [(1.0, 1, False), (2.0, 2, False), (2.0, 2, True)]


@virtual_time
async def test_a_handler_goes_with_a_scheduler_too() -> None:
    source, _ = stream(*words("a"))
    handler = Says()
    source.subscribe(handler, scheduler=rxstream.LoopScheduler())
    await asyncio.sleep(2)
    assert handler.said == [(1.0, 0, "a"), (1.0, "a")]


@virtual_time
async def test_a_handler_takes_events_and_one_answer() -> None:
    source, _ = stream(*words("a"))
    strings, several = Says(), Says()
    source.text().subscribe(strings)
    Stream.of(rx.of(TextDelta(text="a", source="x"), TextDelta(text="b", source="y"))).subscribe(several)
    await asyncio.sleep(2)
    assert strings.said == [(1.0, ConfigurationError)]
    assert several.said == [(0.0, 0, "a"), (0.0, 1, "b"), (0.0, ConfigurationError)]


@virtual_time
async def test_a_handler_is_released_where_the_source_fails_at_once() -> None:
    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        observer.on_error(OSError("gone"))
        return Disposable()

    handler = Says()
    Stream.of(rx.Observable(subscribe)).subscribe(handler)
    assert handler.said == [(0.0, OSError)]


@virtual_time
async def test_nothing_is_told_after_the_end() -> None:
    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        for _ in range(2):
            observer.on_next(TextDelta(text="a"))
            observer.on_completed()
            observer.on_error(OSError("late"))
        return Disposable()

    handler = Says()
    observing = Observing(handler, StreamMetadata(), rxstream.LoopScheduler())
    observing.start()
    subscribe(observing)
    assert handler.said == [(0.0, 0, "a"), (0.0, "a")]


@virtual_time
async def test_a_handler_of_a_model_that_cannot_be_asked_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata say what is known, which is little; the request says the rest."""
    monkeypatch.setattr("rxstream._handled.asking_of", lambda _: Nowhere())
    source, _ = stream(*words("a"))
    handler = Says()
    source.subscribe(handler)
    assert (handler.metadata.provider, handler.metadata.label) == ("", "it")
    await asyncio.sleep(2)
    assert handler.said[-1] == (1.0, "a")


class Nowhere:
    """Does not know whom it asks."""

    @property
    def key(self) -> Any:
        raise ConfigurationError("no base_url")


def test_the_metadata_name_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    handler = Says()
    rxstream.stream("openai:gpt-4.1-mini", "hello").subscribe(handler).dispose()
    assert (handler.metadata.provider, handler.metadata.model) == ("openai", "gpt-4.1-mini")


@pytest.mark.parametrize("how", ["subscribe", "start"])
@virtual_time
async def test_an_object_with_some_of_the_methods_is_a_handler(how: str) -> None:
    class Duck:
        def __init__(self) -> None:
            self.tokens: list[str] = []

        def on_token_received(self, token: str, index: int) -> None:
            self.tokens.append(token)

    source, _ = stream(*words("to ", "be"))
    duck = Duck()
    getattr(source, how)(duck)
    await asyncio.sleep(5)
    assert duck.tokens == ["to ", "be"]


@pytest.mark.parametrize("how", ["subscribe", "start"])
@pytest.mark.parametrize(
    ("told", "name"),
    [
        (({},), "handler"),
        ((print, 3), "on_error"),
        ((None, None, "x"), "on_completed"),
        ((StreamHandler(), print), "on_error"),
        ((Observer(), None, print), "on_completed"),
    ],
)
@virtual_time
async def test_what_cannot_be_told_is_refused_at_once(how: str, told: tuple[Any, ...], name: str) -> None:
    source, script = stream("a")
    with pytest.raises(ConfigurationError, match=f"^{name}"):
        getattr(source, how)(*told)
    await settle()
    assert script.opened == 0


@pytest.mark.parametrize("kind", [Says, Slow])
@pytest.mark.parametrize("how", ["subscribe", "start"])
@pytest.mark.parametrize("end", ["complete", "error", "left"])
@virtual_time
async def test_who_keeps_the_handle_does_not_keep_the_handler(kind: type[Says], how: str, end: str) -> None:
    """Once it has been told all."""
    last: dict[str, Step] = {"complete": DONE, "error": OSError("gone"), "left": HANG}
    source, _ = stream("a", last[end])
    handler = kind()
    gone = weakref.ref(handler)
    handle = getattr(source, how)(handler)
    await asyncio.sleep(1)
    if end == "left":
        handle.dispose() if how == "subscribe" else handle.cancel()
    await asyncio.sleep(10)
    del handler
    gc.collect()
    assert gone() is None
