"""The handle on a running stream: status, pause, resume, cancel, result, statistics; from the loop and from threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observer
from reactivex import operators as ops

from rxstream import events as ev
from rxstream import from_iterable
from rxstream.errors import Cancelled, ConfigurationError, Disconnected, LimitExceeded, StreamError
from rxstream.events import Event
from rxstream.loop import shared_loop
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.session import StreamSession
from rxstream.tracks import race
from rxstream.usage import Usage
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, numbered, raising, words
from tests.support.steps import Signal
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


def begin(script: Scripted, *operators: Any, read_ahead: int = 0, label: str = "") -> tuple[StreamSession, Recorder]:
    recorder = Recorder()
    source = Stream.of(script.events(read_ahead=read_ahead), label=label).pipe(*operators)
    return source.start(recorder.on_next, recorder.on_error, recorder.on_completed), recorder


def status(session: StreamSession) -> str:
    """The status now; a type checker believes that it stays what it was asserted to be."""
    return session.status


# --- status ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_it_exists_before_anything_is_sent() -> None:
    script = Scripted(words("a"))
    session = StreamSession(script.events(), Observer())
    assert status(session) == "inactive"
    await settle()
    assert script.opened == 0
    assert session.start() is session.start() is session
    assert status(session) == "active"
    assert (await session).text == "a"
    assert script.opened == 1


@virtual_time
async def test_completes() -> None:
    session, recorder = begin(Scripted(words("a", "b")), label="left")
    assert repr(session) == "<StreamSession 'left' active, 0 events>"
    response = await session
    assert (session.status, session.error, response.text) == ("completed", None, "ab")
    assert recorder.completed
    assert session.result() is response
    assert session.partial.text == "ab"


@virtual_time
async def test_fails() -> None:
    error = Disconnected("gone")
    session, recorder = begin(Scripted([1, "a", raising(error)]))
    with pytest.raises(Disconnected) as caught:
        await session
    assert caught.value is error is session.error is recorder.error
    assert session.status == "error"
    assert error.partial is not None
    assert error.partial.text == "a"


@virtual_time
async def test_an_error_from_outside_a_source_gets_what_arrived_too() -> None:
    error = Disconnected("made by an operator")
    session, _ = begin(Scripted(words("a", "b")), ops.concat(rx.throw(error)))
    with pytest.raises(Disconnected):
        await session
    assert error.partial is not None
    assert error.partial.text == "ab"


@virtual_time
async def test_an_inactive_session_can_be_cancelled_and_then_never_starts() -> None:
    script = Scripted(words("a"))
    session = StreamSession(script.events(), Observer(on_error=lambda _: None))
    session.pause()
    session.resume()
    assert session.status == "inactive"
    session.cancel()
    session.start()
    await settle()
    assert (session.status, script.opened) == ("cancelled", 0)


ACTIONS = ("pause", "resume", "cancel", "wait 1", "wait 3")
NEXT = {
    ("active", "pause"): "paused",
    ("active", "cancel"): "cancelled",
    ("paused", "resume"): "active",
    ("paused", "cancel"): "cancelled",
}


@given(st.lists(st.sampled_from(ACTIONS), max_size=12), st.sampled_from(("end", "fail")), st.sampled_from((0, 10)))
def test_any_use_keeps_to_the_legal_transitions_and_loses_nothing(use: list[str], ending: str, ahead: int) -> None:
    """Law: only the legal changes of status; the text arrives once, in order, none of it while paused; one end."""
    last: list[Step] = [DONE] if ending == "end" else [raising(Disconnected("gone"))]
    script = Scripted([1, "a", 1, ("b", "c"), 2, "d", *last])

    @virtual_time
    async def main() -> None:
        session, recorder = begin(script, read_ahead=ahead)
        for action in use:
            before, heard = session.status, len(recorder.items)
            if action.startswith("wait"):
                await asyncio.sleep(int(action[-1]))
                if before == "paused":
                    assert (session.status, len(recorder.items)) == (before, heard)
                elif session.status != before:
                    assert (before, session.status) == ("active", {"end": "completed", "fail": "error"}[ending])
            else:
                getattr(session, action)()
                assert session.status == NEXT.get((before, action), before)
        await asyncio.sleep(100)
        assert "abcd".startswith("".join(recorder.texts))
        assert "".join(recorder.texts) == session.partial.text
        assert (recorder.ended_at is not None) is (session.status not in ("active", "paused"))
        assert isinstance(recorder.error, Cancelled) is (session.status == "cancelled")
        if session.status in ("completed", "error"):
            assert "".join(recorder.texts) == "abcd"
        session.resume()
        await asyncio.sleep(100)
        assert session.status in ("completed", "error", "cancelled")
        assert (script.closed, session.gate.closed, session.gate.read_ahead) == (script.opened, False, 0)

    main()


@virtual_time
async def test_each_method_says_whether_it_did_something() -> None:
    session, _ = begin(Scripted(words("a", "b")))
    assert [session.resume(), session.pause(), session.pause(), session.resume()] == [False, True, False, True]
    assert [session.cancel(), session.cancel(), session.pause(), session.resume()] == [True, False, False, False]
    await settle()


@virtual_time
async def test_what_goes_wrong_outside_ends_it_and_closes_the_request() -> None:
    script, error = Scripted(words("a", "b")), Disconnected("elsewhere")
    session, recorder = begin(script)
    await asyncio.sleep(1.5)
    assert (session.fail(error), session.fail(error), session.cancel()) == (True, False, False)
    await settle()
    assert (session.status, recorder.error, recorder.texts, script.running) == ("error", error, ["a"], 0)
    assert error.partial is not None
    assert error.partial.text == "a"


def test_it_can_be_started_in_any_thread_for_one_loop() -> None:
    """What subscribes, and is told, is the loop that was given; and each change of status is told in order."""

    async def main() -> tuple[list[bool], list[str], str]:
        loop, here, changes = asyncio.get_running_loop(), threading.get_ident(), list[str]()
        places, go = list[bool](), asyncio.Event()

        async def pieces() -> AsyncIterator[str]:
            await go.wait()
            yield "a"

        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            places.append(threading.get_ident() == here)
            return from_iterable(pieces).subscribe(observer, scheduler=scheduler)

        told: Observer[Event] = Observer(lambda _: places.append(threading.get_ident() == here))
        session = StreamSession(rx.Observable(subscribe), told, loop=loop, changed=changes.append)

        def elsewhere() -> None:
            session.start()
            assert session.status == "active"
            assert (session.pause(), session.resume()) == (True, True)

        await asyncio.to_thread(elsewhere)
        go.set()
        return places, changes, (await session).text

    places, changes, text = asyncio.run(main())
    assert (all(places), changes, text) == (True, ["active", "paused", "active"], "a")


@virtual_time
async def test_what_subscribing_raises_there_is_its_end() -> None:
    def subscribe(_observer: Any, _scheduler: Any = None) -> Any:
        raise ValueError("no")

    recorder = Recorder()
    told = Observer(recorder.on_next, recorder.on_error)
    session = StreamSession(rx.Observable(subscribe), told, loop=asyncio.get_running_loop()).start()
    assert (session.status, str(recorder.error)) == ("error", "no")


@virtual_time
async def test_what_is_cancelled_on_its_way_to_the_loop_is_not_asked() -> None:
    script = Scripted(words("a"))
    session = StreamSession(script.events(), Observer(on_error=lambda _: None), loop=asyncio.get_running_loop())

    def elsewhere() -> None:
        session.start().cancel()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    await settle()
    assert (session.status, script.opened) == ("cancelled", 0)


# --- pause and resume -----------------------------------------------------------------------------------------------------


@virtual_time
async def test_nothing_is_delivered_once_pause_has_returned() -> None:
    recorder = Recorder()

    def on_next(event: Event) -> None:
        recorder.on_next(event)
        session.pause()

    session = Stream.of(Scripted([1, ("a", "b"), 1, "c", DONE]).events()).start(on_next)
    for expected in (["a"], ["a", "b"], ["a", "b", "c"]):
        await asyncio.sleep(10)
        assert recorder.texts == expected
        assert session.status == "paused"
        session.resume()
    await asyncio.sleep(10)
    session.resume()
    await asyncio.sleep(10)
    assert session.status == "completed"
    assert session.statistics.pauses == 4


@virtual_time
async def test_what_an_operator_with_a_timer_still_holds_is_held_back_and_comes_first() -> None:
    """A delay between the gate and the observer: three events are in it when the pause comes, and the end."""
    session, recorder = begin(Scripted(words("a", "b", "c")), ops.delay(10.0))
    await asyncio.sleep(11.5)
    session.pause()
    await asyncio.sleep(100)
    assert recorder.texts == ["a"]
    assert status(session) == "paused"
    assert session.statistics.events == 1
    session.resume()
    await settle()
    assert recorder.texts == ["a", "b", "c"]
    assert status(session) == "completed"


@virtual_time
async def test_an_error_that_is_held_back_comes_after_the_events() -> None:
    error = Disconnected("gone")
    session, recorder = begin(Scripted(words("a", "b")), ops.delay(10.0), ops.concat(rx.throw(error)))
    await asyncio.sleep(11.5)
    session.pause()
    await asyncio.sleep(100)
    assert (recorder.texts, recorder.error) == (["a"], None)
    session.resume()
    await settle()
    assert (recorder.texts, recorder.error, session.status) == (["a", "b"], error, "error")


@virtual_time
async def test_an_observer_that_pauses_and_resumes_at_every_event_gets_them_in_order() -> None:
    """However many were held back: the stack does not grow."""
    heard: list[int] = []
    sessions: list[StreamSession] = []

    def on_next(event: Event) -> None:
        heard.append(event.seq)
        sessions[0].pause()
        sessions[0].resume()

    delayed = Stream.of(Scripted([("x",) * 3000, DONE]).events()).pipe(ops.delay(5.0))
    sessions.append(delayed.start(on_next))
    await asyncio.sleep(1)
    sessions[0].pause()
    await asyncio.sleep(10)
    sessions[0].resume()
    await sessions[0]
    assert heard == list(range(3001))


@virtual_time
async def test_an_observer_may_pause_again_while_what_was_held_back_is_delivered() -> None:
    recorder = Recorder()
    sessions: list[StreamSession] = []

    def on_next(event: Event) -> None:
        recorder.on_next(event)
        if recorder.texts[-1:] == ["b"] and isinstance(event, ev.TextDelta):
            sessions[0].pause()

    source = Stream.of(Scripted([("a", "b", "c"), DONE]).events()).pipe(ops.delay(5.0))
    sessions.append(source.start(on_next, recorder.on_error, recorder.on_completed))
    await asyncio.sleep(1)
    sessions[0].pause()
    await asyncio.sleep(10)
    sessions[0].resume()
    await asyncio.sleep(10)
    assert (recorder.texts, status(sessions[0])) == (["a", "b"], "paused")
    sessions[0].resume()
    await settle()
    assert (recorder.texts, status(sessions[0])) == (["a", "b", "c"], "completed")


@virtual_time
async def test_what_a_source_that_obeys_no_gate_sends_in_a_pause_has_a_limit() -> None:
    subject: rx.Subject[Event] = rx.Subject()
    recorder = Recorder()
    session = Stream.of(subject).start(recorder.on_next, recorder.on_error)
    session.pause()
    for number in range(66_000):
        subject.on_next(ev.TextDelta(text=f"{number} "))
    assert not subject.observers
    session.resume()
    with pytest.raises(LimitExceeded):
        await session
    assert recorder.texts == [f"{number} " for number in range(65_536)]


@virtual_time
async def test_a_hold_of_somebody_else_keeps_back_what_an_operator_with_a_timer_sends() -> None:
    session, recorder = begin(Scripted(words("a", "b")), ops.delay(10.0))
    await asyncio.sleep(11.5)
    session.gate.hold("mine")
    await asyncio.sleep(100)
    assert recorder.texts == ["a"]
    session.gate.release("mine")
    assert (await session).text == "ab"


def test_a_pause_right_behind_a_resume_from_another_thread_holds() -> None:
    """The loop learns of the resume only when the stream is paused again."""

    async def main() -> None:
        heard: list[Event] = []
        session = Stream.of(Scripted(numbered(5)).events()).start(heard.append)
        session.pause()

        def other() -> None:
            session.resume()
            session.pause()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)  # the loop is blocked meanwhile
        await settle()
        assert (session.status, session.gate.closed, heard) == ("paused", True, [])
        session.resume()
        assert len((await session).text) == 10

    asyncio.run(main())


def test_pausing_and_resuming_from_threads_loses_nothing_and_never_leaves_it_stuck() -> None:
    """Two threads pause and resume, each as soon as an event has come since, while 20 000 pass on the loop's thread."""
    heard: list[int] = []
    script = Scripted([*(("x",) * 100 for _ in range(200)), DONE])
    session = Stream.of(script.events(read_ahead=5)).start(lambda event: heard.append(event.seq))
    barrier = threading.Barrier(2, timeout=10)

    def toggle() -> None:
        barrier.wait()
        while session.status in ("active", "paused"):
            session.pause()
            session.resume()
            count = len(heard)
            while len(heard) == count and session.status in ("active", "paused"):
                time.sleep(0)  # the loop's thread gets the interpreter

    threads = [threading.Thread(target=toggle) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert len(session.result(60).text) == 20_000
    for thread in threads:
        thread.join(10)
    assert heard == list(range(20_001))
    assert not session.gate.closed


# --- cancel ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "after", "text"),
    [
        pytest.param(Scripted([], connect=[HANG]), 1, "", id="connecting"),
        pytest.param(Scripted([HANG]), 1, "", id="before the first event"),
        pytest.param(Scripted([1, "a", HANG]), 5, "a", id="streaming"),
        pytest.param(Scripted([1, "a", HANG]), 0, "", id="just started"),
    ],
)
@pytest.mark.parametrize("paused", [False, True])
@virtual_time
async def test_cancel_closes_the_request_in_any_phase(script: Scripted, after: float, text: str, paused: bool) -> None:
    opened, closed = script.opened, script.closed  # the same script is used once paused, once not
    session, recorder = begin(script)
    await asyncio.sleep(after)
    if paused:
        session.pause()
    session.cancel("enough")
    assert session.status == "cancelled"
    await settle()
    error = session.error
    assert isinstance(error, Cancelled)
    assert error is recorder.error
    assert (error.reason, str(error)) == ("enough", "the stream was cancelled: enough")
    assert error.partial is not None
    assert error.partial.text == text
    assert script.closed - closed == script.opened - opened <= 1
    assert not session.gate.closed
    session.cancel("again")
    session.pause()
    session.resume()
    session.start()
    assert (session.status, session.error) == ("cancelled", error)
    with pytest.raises(Cancelled):
        await session


@virtual_time
async def test_cancelling_what_has_completed_changes_nothing() -> None:
    session, recorder = begin(Scripted(words("a"), drain=50))
    response = await session
    session.cancel()
    assert (session.status, session.result(), recorder.error) == ("completed", response, None)
    await asyncio.sleep(100)


@virtual_time
async def test_an_observer_may_cancel() -> None:
    recorder, sessions = Recorder(), list[StreamSession]()
    script = Scripted([1, ("a", "b"), HANG])

    def on_next(event: Event) -> None:
        recorder.on_next(event)
        sessions[0].cancel("heard enough")

    sessions.append(Stream.of(script.events()).start(on_next, recorder.on_error))
    await asyncio.sleep(10)
    assert recorder.texts == ["a"]
    assert isinstance(recorder.error, Cancelled)
    assert script.closed == 1


@pytest.mark.parametrize("phase", ["connect", "first_event", "output", "paused"])
def test_cancel_from_another_thread_closes_at_once(phase: str) -> None:
    here, closed = Signal(), Signal()
    script = {
        "connect": Scripted([], connect=[here.set, HANG]),
        "first_event": Scripted([here.set, HANG]),
    }.get(phase, Scripted(["a", here.set, HANG]))
    script.on_close = closed.set
    told, said = Signal(), list[tuple[Exception, str]]()

    def on_error(error: Exception) -> None:
        said.append((error, threading.current_thread().name))
        told.set()

    session = Stream.of(script.events()).start(None, on_error)
    here.wait()
    if phase == "paused":
        session.pause()
    session.cancel("from a thread")
    assert session.status == "cancelled"
    closed.wait()
    told.wait()
    assert said == [(session.error, "rxstream-loop")]


def test_cancel_from_many_threads_ends_it_once() -> None:
    for _ in range(30):
        errors: list[Exception] = []
        told = Signal()

        def on_error(error: Exception, errors: list[Exception] = errors, told: Signal = told) -> None:
            errors.append(error)
            told.set()

        session = Stream.of(Scripted(numbered(500)).events()).start(None, on_error, told.set)
        barrier = threading.Barrier(4, timeout=10)

        def cancel(barrier: threading.Barrier = barrier, session: StreamSession = session) -> None:
            barrier.wait()
            session.cancel()

        threads = [threading.Thread(target=cancel) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        told.wait()
        assert session.status in ("cancelled", "completed")
        assert len(errors) == (session.status == "cancelled")


@virtual_time
async def test_leaving_its_block_cancels_it() -> None:
    script = Scripted([HANG])
    with begin(script)[0] as session:
        await asyncio.sleep(1)
    await settle()
    assert (session.status, script.closed) == ("cancelled", 1)
    assert "left its block" in str(session.error)

    with begin(Scripted(words("a")))[0] as session:
        await session
    assert session.status == "completed"


# --- observers that misbehave ---------------------------------------------------------------------------------------------


@virtual_time
async def test_what_the_observer_raises_ends_the_session_with_it() -> None:
    raised, recorder = ValueError("mine"), Recorder()
    script = Scripted([1, ("a", "b"), HANG])

    def on_next(event: Event) -> None:
        recorder.on_next(event)
        raise raised

    session = Stream.of(script.events()).start(on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(10)
    assert (session.status, session.error, recorder.error) == ("error", raised, raised)
    assert recorder.texts == ["a"]
    assert script.closed == 1
    with pytest.raises(ValueError, match="mine"):
        await session


@pytest.mark.parametrize("source", [Scripted(words("a", "b")).events(), rx.of(*words("a"))], ids=["pump", "Rx"])
@virtual_time
async def test_a_stream_of_something_else_than_events_is_refused(source: Any) -> None:
    texts: Stream[Any] = Stream.of(source).pipe(ops.map(lambda event: "text"))
    session = texts.start()
    with pytest.raises(ConfigurationError, match="gets a str, not an event"):
        await session
    assert status(session) == "error"


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "raised", "held back"])
@virtual_time
async def test_what_the_last_callback_raises_is_logged_and_the_session_ends_all_the_same(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mine")

    script = Scripted([1, "a", raising(Disconnected("gone"))] if how == "failed" else words("a"))
    stream = Stream.of(script.events()).pipe(ops.delay(1.0))
    session = stream.start(fail if how == "raised" else None, fail, fail)
    await asyncio.sleep(1.5)
    if how == "cancelled":
        session.cancel()
    if how == "held back":
        session.pause()
    await asyncio.sleep(10)
    session.resume()
    await asyncio.sleep(10)
    assert [record.getMessage() for record in caplog.records] == ["an observer's last callback raised ValueError"]
    expected = {"completed": "completed", "cancelled": "cancelled", "held back": "completed"}
    assert session.status == expected.get(how, "error")
    assert script.closed == 1


@virtual_time
async def test_without_callbacks_errors_are_kept_and_not_shouted(caplog: pytest.LogCaptureFixture) -> None:
    session = Stream.of(Scripted([raising(Disconnected("gone"))]).events()).start()
    await asyncio.sleep(1)
    assert isinstance(session.error, Disconnected)
    assert caplog.records == []


@virtual_time
async def test_an_observer_object_may_be_given() -> None:
    recorder = Recorder()
    observer: Observer[Event] = Observer(recorder.on_next, recorder.on_error, recorder.on_completed)
    await Stream.of(Scripted(words("a")).events()).start(observer)
    assert recorder.texts == ["a"]
    assert recorder.completed


@virtual_time
async def test_coroutine_functions_are_refused() -> None:
    async def on_next(_: Event) -> None: ...

    script = Scripted(words("a"))
    with pytest.raises(ConfigurationError, match=r"use subscribe\(\)"):
        Stream.of(script.events()).start(on_next)
    await settle()
    assert script.opened == 0


# --- result ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_cancelling_the_wait_does_not_cancel_the_stream() -> None:
    session, _ = begin(Scripted(words("a", "b")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session, 1.5)
    assert session.status == "active"
    assert (await session).text == "ab"


@virtual_time
async def test_a_wait_that_was_given_up_leaves_no_error_that_nobody_takes() -> None:
    """The stream fails afterwards: asyncio would say on stderr that its exception was never retrieved."""
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    session, _ = begin(Scripted([*words("a")[:-1], 5, raising(Disconnected("gone"))]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session, 1.5)
    await asyncio.sleep(10)
    assert isinstance(session.error, Disconnected)
    del session
    gc.collect()
    assert said == []


@virtual_time
async def test_several_may_wait() -> None:
    session, _ = begin(Scripted(words("a")))

    async def wait() -> Response:
        return await session

    first, second = await asyncio.gather(wait(), wait())
    assert first is second


@virtual_time
async def test_waiting_on_its_own_loop_is_refused_until_it_is_there() -> None:
    session, _ = begin(Scripted(words("a")))
    with pytest.raises(ConfigurationError, match="await session"):
        session.result()
    await session
    assert session.result().text == "a"


def test_threads_wait_for_the_result_each_with_its_own_patience() -> None:
    go = Signal()
    script = Scripted(["a", HANG])
    session = Stream.of(script.events()).start(lambda _: go.set())
    with pytest.raises(TimeoutError):
        session.result(0.01)
    assert session.status == "active"
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(session.result, 10) for _ in range(4)]
        go.wait()
        session.cancel()
        for wait in waits:
            with pytest.raises(Cancelled):
                wait.result(10)


def test_awaited_on_another_loop_it_wakes_that_loop() -> None:
    go = Signal()
    session = Stream.of(Scripted([*words("a", every=0.001)]).events()).start(lambda _: go.set())

    async def main() -> Response:
        assert session.loop is shared_loop()
        return await asyncio.wait_for(session, 10)

    assert asyncio.run(main()).text == "a"
    go.wait()


def test_a_loop_that_waited_and_is_gone_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The wait was given up and its loop closed before the stream on the shared loop ended."""
    ended = Signal()
    session = Stream.of(Scripted(["a", HANG]).events()).start(None, lambda _: ended.set())

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session, 0.01)

    asyncio.run(main())
    session.cancel()
    ended.wait()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("paused", "last", "operators"),
    [(False, [HANG], []), (True, [HANG], []), (True, [2, "b", DONE], [ops.delay(3.0)])],
)
def test_a_loop_that_goes_down_ends_its_sessions(paused: bool, last: list[Step], operators: list[Any]) -> None:
    async def main() -> StreamSession:
        script: list[Step] = [1, "a", *last]
        session, _ = begin(Scripted(script), *operators)
        await asyncio.sleep(5)
        if paused:
            session.pause()
        await asyncio.sleep(10)
        return session

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        session = runner.run(main())
    with pytest.raises(Cancelled, match="shut down") as caught:
        session.result(10)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


# --- what it is doing -----------------------------------------------------------------------------------------------------


def test_partial_and_statistics_from_another_thread_are_of_one_piece() -> None:
    """Read while 20 000 events pass: what is read only ever grows, and is always a beginning of the whole."""
    session = Stream.of(Scripted([*((f"{n} ",) * 10 for n in range(2000)), DONE]).events()).start()
    last = 0
    seen: list[str] = []
    while session.status == "active":
        text = session.partial.text
        events = session.statistics.events
        assert events >= last
        last = events
        seen.append(text)
    whole = session.result(10).text
    assert all(whole.startswith(text) for text in seen)
    assert session.statistics.events == 20_001
    assert session.statistics.characters == len(whole)


@virtual_time
async def test_statistics_are_exact() -> None:
    usage = ev.UsageReported(usage=Usage(provenance="reported", output_tokens=12))
    script = Scripted([2, ev.Started(id="m"), 1, "abc", 1, ev.Heartbeat(), 3, "de", 1, (usage, DONE)])
    await asyncio.sleep(100)
    session, _ = begin(script)
    before = session.statistics
    assert (before.events, before.elapsed, before.time_to_first_event, before.outputs_per_second) == (0, 0, None, None)
    await asyncio.sleep(3.5)
    during = session.statistics
    assert (during.events, during.outputs, during.characters, during.elapsed) == (2, 1, 3, 3.5)
    assert (during.time_to_first_event, during.time_to_first_output, during.output_tokens) == (2, 3, None)
    await session
    await asyncio.sleep(50)
    after = session.statistics
    assert (after.events, after.outputs, after.characters, after.elapsed) == (6, 2, 5, 8)
    assert (after.output_tokens, after.tokens_per_second, after.outputs_per_second) == (12, 12 / 4, 2 / 4)
    assert (after.pauses, after.read_ahead, after.holds) == (0, 0, ())


@virtual_time
async def test_an_estimate_is_not_taken_for_a_report() -> None:
    """What a track had used that was closed early is our guess: with it the sum is one, too."""
    usage = ev.UsageReported(usage=Usage(provenance="reported", output_tokens=12))
    winner, loser = Scripted([1, "a", 1, "b", (usage, DONE)]), Scripted([HANG])
    session = race(Stream.of(winner.events()), Stream.of(loser.events())).start()
    assert (await session).usage.provenance == "estimated"
    assert (session.statistics.output_tokens, session.statistics.tokens_per_second) == (None, None)
    assert session.statistics.outputs_per_second == 2


@virtual_time
async def test_statistics_show_what_is_held_back_and_by_whom() -> None:
    session, _ = begin(Scripted([1, "a", 1, "b", 1, "c", DONE]), read_ahead=10)
    await asyncio.sleep(0.5)
    session.pause()
    session.pause()
    session.gate.hold("buffer")
    await asyncio.sleep(10)
    figures = session.statistics
    assert (figures.pauses, figures.read_ahead, figures.holds) == (1, 3, ("pause", "buffer"))
    session.resume()
    await asyncio.sleep(10)
    assert session.statistics.events == 0
    session.gate.release("buffer")
    assert (await session).text == "abc"
    assert session.statistics.read_ahead == 0


def test_started_in_plain_code_it_runs_on_the_shared_loop() -> None:
    heard: list[str] = []
    session = Stream.of(Scripted(words("a", every=0.0)).events()).start(
        lambda _: heard.append(threading.current_thread().name)
    )
    assert session.result(10).text == "a"
    assert set(heard) == {"rxstream-loop"}


def test_a_source_that_ends_while_it_is_subscribed_is_no_trouble() -> None:
    session = StreamSession(rx.throw(StreamError("at once")), Observer(on_error=lambda _: None)).start()
    with pytest.raises(StreamError, match="at once"):
        session.result(10)


@virtual_time
async def test_the_answers_of_several_tracks_are_told_apart() -> None:
    events = (
        ev.TextDelta(source="a", text="Hel"),
        ev.TextDelta(source="b", text="Bon"),
        ev.TextDelta(source="a", text="lo"),
    )
    session = StreamSession(rx.of(*events), Observer()).start()
    await settle()
    assert session.status == "completed"
    assert {label: answer.text for label, answer in session.responses.items()} == {"a": "Hello", "b": "Bon"}
    assert session.statistics.characters == 8
    with pytest.raises(ConfigurationError, match="several tracks"):
        _ = session.partial
    with pytest.raises(ConfigurationError, match="several tracks"):
        await session


@virtual_time
async def test_what_several_tracks_ended_of_is_told_all_the_same() -> None:
    events: list[Event] = [ev.TextDelta(source="a", text="Hel"), ev.TextDelta(source="b", text="Bon")]
    failing = rx.concat(rx.from_iterable(events), rx.throw(StreamError("gone")))
    session = StreamSession(failing, Observer(on_error=lambda _: None)).start()
    await settle()
    with pytest.raises(StreamError, match="gone"):
        await session


@virtual_time
async def test_a_stream_that_is_no_combination_has_its_one_answer_among_its_answers() -> None:
    session, _ = begin(Scripted(words("Hel", "lo")))
    await session
    assert [answer.text for answer in session.responses.values()] == ["Hello"]


async def test_an_error_that_cannot_be_raised_into_a_wait_hangs_none() -> None:
    source: Stream[Event] = Stream.of(rx.throw(StopIteration()))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(source.start(), 5)


@pytest.mark.parametrize("failure", [None, Disconnected("cut")])
def test_who_waits_for_the_result_goes_on_when_the_observer_has_been_told(failure: Exception | None) -> None:
    """So what it writes last is written, and what it keeps is kept."""
    told, go = threading.Event(), threading.Event()

    def last(*_error: Exception) -> None:
        told.set()
        assert go.wait(20)

    script = Scripted(["a", DONE if failure is None else failure])
    session = Stream.of(script.events()).start(None, last, last)
    assert told.wait(20)
    assert status(session) == ("completed" if failure is None else "error")
    with pytest.raises(TimeoutError):
        session.result(timeout=0.01)
    go.set()
    if failure is None:
        assert session.result(20).text == "a"
    else:
        with pytest.raises(Disconnected):
            session.result(20)


@pytest.mark.parametrize("failure", [None, Disconnected("cut")])
@virtual_time
async def test_the_observer_s_last_callback_may_ask_for_the_result(failure: Exception | None) -> None:
    found: list[Any] = []

    def last(*_error: Exception) -> None:
        try:
            found.append(session.result().text)
        except Disconnected as error:
            found.append(error)

    session = Stream.of(Scripted(["a", DONE if failure is None else failure]).events()).start(None, last, last)
    await settle()
    assert found == ["a" if failure is None else failure]


@virtual_time
async def test_who_waits_goes_on_also_if_the_observer_ends_the_program_when_it_is_told_of_the_cancellation() -> None:
    def last(_error: Exception) -> None:
        raise SystemExit

    session = Stream.of(Scripted([HANG]).events()).start(None, last)
    with pytest.raises(SystemExit):
        session.cancel()
    with pytest.raises(Cancelled):
        await asyncio.wait_for(session, 5)
