"""`Stream`: an Observable through and through, that can be awaited, iterated and run."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, Observer, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.observable import ConnectableObservable
from reactivex.subject import Subject

from rxstream.chunk import MessageChunk
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event, TextDelta
from rxstream.loop import LoopScheduler, shared_loop
from rxstream.observable import Stream
from rxstream.response import Response
from tests.support.scripted import HANG, Recorder, Scripted, Step, numbered, raising, words
from tests.support.steps import Signal
from tests.support.virtual_loop import settle, virtual_time


def stream(steps: list[Step], *, label: str = "") -> tuple[Scripted, Stream[Event]]:
    script = Scripted(steps)
    return script, Stream.of(script.events(), label=label)


# --- what keeps it a Stream -----------------------------------------------------------------------------------------------

NEVER: Observable[Any] = rx.never()
ARGUMENTS: dict[str, Any] = {
    **dict.fromkeys(("boundaries", "openings", "sources", "others", "right", "right_source", "second", "other"), NEVER),
    **dict.fromkeys(("timespan", "duetime", "duration", "start_time", "end_time", "window_duration", "sampler"), 1.0),
    **dict.fromkeys(("count", "index", "attempts"), 1),
    **dict.fromkeys(("value", "initial_value", "args"), 0),
    **dict.fromkeys(("key", "attr"), "text"),
    "scheduler": LoopScheduler(shared_loop()),
}
"""What a fluent method may want, by the name of its parameter; anything else is a function."""
NOT_STREAMS: dict[str, str] = {
    "subscribe": "gives a disposable",
    "run": "gives the answer",
    "to_future": "gives a future",
    "multicast": "connectable",
    "publish": "connectable",
    "publish_value": "connectable",
    "replay": "connectable",
    "ref_count": "of a connectable only",
    **dict.fromkeys(
        ("dematerialize", "exclusive", "pluck", "switch_latest"), "goes round pipe; as an operator it does"
    ),
}
FLUENT = sorted(
    name
    for name in dir(Observable)
    if not name.startswith("_") and name != "pipe" and inspect.isfunction(getattr(Observable, name))
)


def call_fluent(source: Stream[Event], name: str) -> Any:
    """Call the method with something for each parameter that it needs."""
    parameters = list(inspect.signature(getattr(Observable, name)).parameters.values())[1:]
    arguments: list[Any] = [
        ARGUMENTS.get(parameter.name, lambda *_: NEVER)
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
    ]
    if name == "multicast":
        arguments = [Subject()]
    if name == "flat_map":
        arguments = [lambda _: NEVER]
    return getattr(source, name)(*arguments)


@pytest.mark.parametrize("name", [name for name in FLUENT if name not in NOT_STREAMS])
def test_a_fluent_method_of_rxpy_gives_a_stream(name: str) -> None:
    result = call_fluent(stream(words("a"), label="left")[1], name)
    for one in result if isinstance(result, (list, tuple)) else [result]:
        assert isinstance(one, Stream), f"add {name} to Stream, or to NOT_STREAMS with its reason"
        assert one.label == "left"


def test_the_methods_that_give_no_stream_are_named() -> None:
    assert set(NOT_STREAMS) <= set(FLUENT)
    source = stream(words("a"))[1]
    for name in ("multicast", "publish", "publish_value", "replay"):
        assert isinstance(call_fluent(source, name), ConnectableObservable)
    for name in ("dematerialize", "exclusive", "pluck", "switch_latest"):
        assert not isinstance(call_fluent(source, name), Stream)
    assert isinstance(source.pipe(ops.switch_latest()), Stream)


def test_pipe_gives_a_stream_with_its_label() -> None:
    _, source = stream(words("a"), label="left")
    piped = source.pipe(ops.map(str), ops.filter(bool))
    assert isinstance(piped, Stream)
    assert piped.label == "left"
    assert repr(piped) == "<Stream 'left'>"
    assert repr(Stream.of(rx.never())) == "<Stream>"
    assert source.pipe() is source


def test_pipe_gives_what_else_the_last_function_gives() -> None:
    assert stream(words("a"))[1].pipe(lambda _: 5) == 5


def test_an_operator_that_gives_another_stream_does_not_rename_it() -> None:
    other = Stream.of(rx.never())
    assert stream(words("a"), label="left")[1].pipe(lambda _: other) is other
    assert other.label == ""


@virtual_time
async def test_plus_is_one_after_the_other_and_brackets_are_positions() -> None:
    _, first = stream(words("a", "b"), label="left")
    _, second = stream(words("c"))
    texts = first.text() + second.text()
    assert isinstance(texts, Stream)
    assert [item async for item in texts] == ["a", "b", "c"]
    assert [item async for item in texts[1:]] == ["b", "c"]
    assert [item async for item in texts[0]] == ["a"]
    both = texts[1:]
    both += second.text()
    assert isinstance(both, Stream)
    assert (texts.label, texts[0].label, both.label) == ("left", "left", "left")
    assert [item async for item in both] == ["b", "c", "c"]


def test_of_takes_any_observable_and_leaves_a_stream_as_it_is() -> None:
    source = Stream.of(rx.of(1, 2))
    assert Stream.of(source, label="ignored") is source
    subject: Subject[int] = Subject()
    heard: list[int] = []
    Stream.of(subject).subscribe(heard.append)
    subject.on_next(1)
    assert heard == [1]
    connectable = rx.of(3, 4).pipe(ops.publish())
    Stream.of(connectable).subscribe(heard.append)
    connectable.connect()
    assert heard == [1, 3, 4]


@virtual_time
async def test_the_fluent_shortcuts_are_the_operators() -> None:
    _, source = stream(words("Hel", "lo"))
    assert [item async for item in source.text()] == ["Hel", "lo"]
    assert [item async for item in source.text("character")] == list("Hello")
    assert [item.text async for item in source.of_type(TextDelta)] == ["Hel", "lo"]
    chunks = [chunk async for chunk in source.chunks()]
    assert all(isinstance(chunk, MessageChunk) for chunk in chunks)
    assert [chunk.content for chunk in chunks] == ["Hel", "lo", ""]


# --- operators close and reopen the source --------------------------------------------------------------------------------


@virtual_time
async def test_take_closes_the_source() -> None:
    script, source = stream([1, "a", 1, "b", HANG])
    assert (await source.take(1)).text == "a"
    await settle()
    assert (script.opened, script.closed) == (1, 1)


@virtual_time
async def test_retry_asks_again() -> None:
    errors = iter((Disconnected("one"), Disconnected("two")))

    def fail_twice() -> None:
        error = next(errors, None)
        if error is not None:
            raise error

    script, source = stream([1, fail_twice, *words("a")])
    assert (await source.pipe(ops.retry(3))).text == "a"
    await settle()
    assert (script.opened, script.closed) == (3, 3)


# --- subscribe ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_subscribe_takes_callbacks() -> None:
    recorder = Recorder()
    script, source = stream(words("a", "b"))
    source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    assert script.opened == 0
    await asyncio.sleep(10)
    assert (recorder.texts, recorder.times, recorder.completed) == (["a", "b"], [1, 2, 2], True)


@virtual_time
async def test_subscribe_takes_an_observer() -> None:
    recorder, error = Recorder(), Disconnected("gone")
    observer: Observer[Event] = Observer(recorder.on_next, recorder.on_error, recorder.on_completed)
    stream(["a", raising(error)])[1].subscribe(observer)
    await asyncio.sleep(10)
    assert (recorder.texts, recorder.error) == (["a"], error)


@virtual_time
async def test_subscribe_takes_coroutine_functions() -> None:
    heard: list[tuple[float, object]] = []

    async def on_next(text: str) -> None:
        await asyncio.sleep(5)
        heard.append((asyncio.get_running_loop().time(), text))

    script, source = stream(words("a", "b"))
    source.text().subscribe(on_next, on_completed=lambda: heard.append((0, "end")))
    await asyncio.sleep(100)
    assert heard == [(6, "a"), (11, "b"), (0, "end")]
    assert script.closed == 1


@virtual_time
async def test_subscribe_takes_nothing() -> None:
    script, source = stream(words("a"))
    source.subscribe()
    await asyncio.sleep(10)
    assert (script.opened, script.closed) == (1, 1)


@virtual_time
async def test_disposing_closes_the_request() -> None:
    script, source = stream(["a", HANG])
    subscription = source.subscribe()
    await asyncio.sleep(1)
    subscription.dispose()
    await settle()
    assert script.closed == 1


@virtual_time
async def test_an_error_that_nobody_takes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    stream(["a", raising(Disconnected("gone"))])[1].subscribe(lambda _: None)
    await asyncio.sleep(10)
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("rxstream", logging.ERROR, "a stream failed and nobody took the error: Disconnected: gone")
    ]


@virtual_time
async def test_what_a_callback_raises_comes_back_to_it_and_closes_even_below_timers() -> None:
    for operators in ((), (ops.delay(1.0),), (ops.map(lambda item: item), ops.debounce(0.5))):
        errors: list[Exception] = []
        script, source = stream(["a", HANG])
        raised = ValueError("mine")

        def fail(_: object, raised: Exception = raised) -> None:
            raise raised

        source.pipe(*operators).subscribe(fail, errors.append)
        await asyncio.sleep(10)
        assert errors == [raised]
        assert script.closed == 1


def test_in_plain_code_callbacks_run_on_the_shared_loop() -> None:
    names: list[str] = []
    done = Signal()
    stream(words("a", every=0.0))[1].subscribe(
        lambda _: names.append(threading.current_thread().name), on_completed=done.set
    )
    done.wait()
    assert set(names) == {"rxstream-loop"}


@virtual_time
async def test_a_scheduler_that_is_given_is_used() -> None:
    seen: list[abc.SchedulerBase | None] = []

    def subscribe(_: abc.ObserverBase[int], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        seen.append(scheduler)
        return Disposable()

    source: Stream[int] = Stream(subscribe)
    mine = LoopScheduler()
    source.subscribe(scheduler=mine)
    source.subscribe()
    assert seen[0] is mine
    assert isinstance(seen[1], LoopScheduler)
    assert seen[1].gate is not mine.gate


# --- await and run --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_awaited_a_stream_of_events_is_its_response() -> None:
    script, source = stream(words("Hel", "lo"))
    response = await source
    assert isinstance(response, Response)
    assert (response.text, response.finish_reason) == ("Hello", "stop")
    assert (await source).text == "Hello"
    await settle()
    assert (script.opened, script.closed) == (2, 2)


@virtual_time
async def test_awaited_any_other_stream_is_its_last_item() -> None:
    assert await stream(words("a", "b"))[1].text() == "b"
    assert await Stream.of(rx.empty()) is None


@virtual_time
async def test_whatever_becomes_of_the_answer_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process has no file left for what is imported only then."""

    def fails(_answers: object) -> Response:
        raise OSError("too many open files")

    monkeypatch.setattr("rxstream.observable.Answers.response", fails)
    with pytest.raises(OSError, match="too many"):
        await asyncio.wait_for(stream(words("a"))[1], 60)


@virtual_time
async def test_awaiting_raises_the_error_with_what_arrived() -> None:
    with pytest.raises(Disconnected) as caught:
        await stream(["a", raising(Disconnected("gone"))])[1]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
async def test_an_error_that_cannot_be_raised_into_a_wait_is_the_cause_of_one_that_can(error: type[Exception]) -> None:
    stream: Stream[int] = Stream.of(rx.throw(error()))
    for asked in (stream, asyncio.to_thread(stream.run)):
        with pytest.raises(RuntimeError, match=error.__name__):
            await asyncio.wait_for(asked, 5)


@virtual_time
async def test_cancelling_the_wait_closes_the_request() -> None:
    script, source = stream(["a", HANG])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await source
    await settle()
    assert script.closed == 1


def from_a_thread(end: Callable[[abc.ObserverBase[int]], None]) -> Stream[int]:
    """Gives 1 and its end from a thread of its own, when its loop waits for them."""

    def subscribe(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        waits = Signal()
        asyncio.get_running_loop().call_soon(waits.set)

        def produce() -> None:
            waits.wait()
            observer.on_next(1)
            end(observer)

        threading.Thread(target=produce).start()
        return Disposable()

    return Stream(subscribe)


def test_an_end_in_another_thread_wakes_who_awaits() -> None:
    """The loop has no timer: a result set without a wake-up would never be seen, and the loop's debug mode forbids it."""

    async def main() -> None:
        for _ in range(20):
            assert await from_a_thread(lambda observer: observer.on_completed()) == 1
        with pytest.raises(Disconnected):
            await from_a_thread(lambda observer: observer.on_error(Disconnected("gone")))

    asyncio.run(main(), debug=True)


def test_run_gives_the_response_or_the_last_item() -> None:
    script, source = stream(numbered(3))
    assert source.run().text == "0 1 2 "
    assert source.text().run() == "2 "
    assert Stream.of(rx.empty()).run() is None
    assert script.opened == 2


def test_run_raises_the_error() -> None:
    with pytest.raises(Disconnected):
        stream(["a", raising(Disconnected("gone"))])[1].run()


def test_run_that_runs_out_of_time_closes_the_request() -> None:
    script, source = stream(["a", HANG])
    closed = Signal()
    script.on_close = closed.set
    with pytest.raises(TimeoutError):
        source.run(timeout=0.05)
    closed.wait()


def test_run_works_inside_a_running_loop() -> None:
    async def main() -> str:
        return stream(numbered(3))[1].run().text

    assert asyncio.run(main()) == "0 1 2 "


def test_run_on_the_loop_that_it_would_block_is_refused() -> None:
    async def shared() -> None:
        with pytest.raises(ConfigurationError, match="use `await`"):
            stream(numbered(3))[1].run()

    asyncio.run_coroutine_threadsafe(shared(), shared_loop()).result(10)

    async def own() -> None:
        with pytest.raises(ConfigurationError, match="use `await`"):
            stream(numbered(3))[1].run(LoopScheduler())

    asyncio.run(own())


@virtual_time
async def test_iterates_with_async_for() -> None:
    assert [item async for item in stream(numbered(3))[1].text()] == ["0 ", "1 ", "2 "]


def test_iterates_with_for() -> None:
    assert list(stream(numbered(3))[1].text()) == ["0 ", "1 ", "2 "]


# --- a notebook -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel")),
    reason="nbclient and ipykernel are not installed",
)
def test_in_a_notebook_synchronous_and_awaiting_cells_both_work() -> None:
    """In a kernel whose loop runs: ``run`` and ``for`` in a cell that blocks it, ``await`` and ``async for`` in others."""
    nbformat = pytest.importorskip("nbformat")
    client = importlib.import_module("nbclient")
    define = """
from rxstream.observable import Stream
from tests.support.scripted import Scripted, words

def source():
    return Stream.of(Scripted(words('Hel', 'lo', every=0.01)).events())
"""
    cells = [
        define,
        "print(source().run().text, list(source().text()))",
        "print((await source()).text, [item async for item in source().text()])",
        "session = source().start()",
        "print((await session).text, session.status)",
        "print(session.result().text)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    whole = "Hello ['Hel', 'lo']\n"
    assert printed == ["", whole, whole, "", "Hello completed\n", "Hello\n"]
