"""The pump, left: by its subscriber, by other threads, by the loop, in every phase it closes."""

from __future__ import annotations

import asyncio
import threading

import pytest
from reactivex import abc

from rxstream import events as ev
from rxstream.errors import (
    BadRequest,
    Cancelled,
    ConfigurationError,
    Disconnected,
    LoopShutDown,
    StreamError,
)
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from tests.support.pumped import subscribe, torn
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step, raising, words
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time


@virtual_time
async def test_disposed_before_it_opens_it_never_opens() -> None:
    script = Scripted(words("a"))
    recorder, subscription = subscribe(script.source())
    subscription.dispose()
    await asyncio.sleep(10)
    assert (script.opened, recorder.items, recorder.ended_at) == (0, [], None)


@pytest.mark.parametrize(
    ("script", "after"),
    [
        pytest.param(Scripted([], connect=[HANG]), 1, id="while connecting"),
        pytest.param(Scripted([HANG]), 1, id="before the first event"),
        pytest.param(Scripted([1, "a", HANG]), 5, id="between events"),
        pytest.param(Scripted(words("a"), drain=100), 5, id="while draining"),
    ],
)
@virtual_time
async def test_disposed_in_any_phase_it_closes_and_says_no_more(script: Scripted, after: float) -> None:
    recorder, subscription = subscribe(script.source())
    await asyncio.sleep(after)
    said = len(recorder.items)
    subscription.dispose()
    subscription.dispose()
    await asyncio.sleep(200)
    assert (script.opened, script.closed) == (1, 1)
    assert len(recorder.items) == said
    assert recorder.error is None


@virtual_time
async def test_disposed_while_paused_with_what_it_has_read_it_gives_all_back() -> None:
    gate, script = Gate(), Scripted([1, "a", 1, "b", 1, "c", HANG])
    recorder, subscription = subscribe(script.source(read_ahead=10), gate=gate)
    await asyncio.sleep(1.5)
    gate.hold("user")
    await asyncio.sleep(10)
    assert gate.read_ahead == 1  # "c"; "b" is at the gate
    subscription.dispose()
    await settle()
    assert (script.closed, gate.read_ahead, recorder.texts) == (1, 0, ["a"])


@virtual_time
async def test_disposed_by_its_own_handler_nothing_more_comes_and_it_closes_whole() -> None:
    """The connection is closed without being interrupted, though the handler runs inside the task that closes it."""
    script = Scripted([1, ("a", "b", "c"), "d", DONE])
    subscriptions: list[abc.DisposableBase] = []
    recorder, subscription = subscribe(script.source(), on_next=lambda _: subscriptions[0].dispose())
    subscriptions.append(subscription)
    await asyncio.sleep(10)
    assert recorder.texts == ["a"]
    assert (script.closed, recorder.ended_at) == (1, None)


@virtual_time
async def test_disposed_inside_open_it_closes() -> None:
    subscriptions: list[abc.DisposableBase] = []
    script = Scripted([1, "a", HANG], connect=[lambda: [mine.dispose() for mine in subscriptions]])
    recorder, subscription = subscribe(script.source())
    subscriptions.append(subscription)
    await settle()
    assert (script.opened, script.closed, script.reads) == (1, 1, 0)
    assert recorder.items == []


@pytest.mark.parametrize(
    "steps", [[1, HANG], [1, raising(Disconnected("gone"))], [1, BadRequest("no")], [1, "a"]], ids=str
)
@virtual_time
async def test_disposed_again_while_it_closes_it_still_closes_whole(steps: list[Step]) -> None:
    """Whether it closes because of a disposal, an error, a failure or an early end: a second disposal cuts nothing short."""
    script = Scripted(steps)
    recorder, subscription = subscribe(script.source())
    await asyncio.sleep(1)
    if HANG in steps:
        subscription.dispose()
    while script.opened and not script.closed:
        await asyncio.sleep(0)
        subscription.dispose()
    await settle()
    assert script.closed == 1
    assert recorder.error is None


@virtual_time
async def test_an_error_while_closing_is_not_waited_for_at_a_gate_when_disposed() -> None:
    gate = Gate()
    recorder, subscription = subscribe(Source(open=torn, decoder=Scripted([]).source().decoder), gate=gate)
    await asyncio.sleep(1)
    gate.hold("user")
    subscription.dispose()
    await settle()
    assert recorder.error is None  # and the task is gone, or `virtual_time` would complain


@virtual_time
async def test_disposed_while_an_error_waits_at_the_gate_it_is_silent() -> None:
    gate, script = Gate(), Scripted([1, raising(Disconnected("gone"))])
    gate.hold("user")
    recorder, subscription = subscribe(script.source(read_ahead=1), gate=gate)
    await asyncio.sleep(10)
    subscription.dispose()
    await settle()
    gate.release("user")
    await settle()
    assert recorder.error is None


@virtual_time
async def test_disposed_by_another_thread_between_two_events_it_tells_no_more() -> None:
    """Of the bare source: nothing before the observer silences it."""
    recorder = Recorder()

    def dispose() -> None:
        thread = threading.Thread(target=disposable.dispose)
        thread.start()
        thread.join(10)

    script = Scripted(["a", dispose, "b", HANG])
    disposable = script.events()._subscribe_core(recorder, LoopScheduler())
    await settle()
    assert (recorder.texts, script.closed) == (["a"], 1)
    assert recorder.ended_at is None


def test_disposed_from_other_threads_it_stops_with_at_most_one_event_more() -> None:
    """Many rounds, each disposed from another thread at a random point of an unpaced stream; always closed whole."""

    async def round_(number: int) -> None:
        script, closed = Scripted([*(str(i) for i in range(20_000)), DONE]), asyncio.Event()
        script.on_close = closed.set
        heard, at_dispose = 0, -1
        go = threading.Event()

        def on_next(_: ev.Event) -> None:
            nonlocal heard
            heard += 1
            if heard == number * 7 + 1:
                go.set()

        def other_thread() -> None:
            nonlocal at_dispose
            go.wait(10)
            subscription.dispose()
            at_dispose = heard

        subscription = pump(script.source()).subscribe(on_next, scheduler=LoopScheduler())
        thread = threading.Thread(target=other_thread)
        thread.start()
        await closed.wait()
        thread.join(10)
        assert heard - at_dispose <= 1
        assert (script.opened, script.closed) == (1, 1)

    async def rounds() -> None:
        for number in range(40):
            await round_(number)

    asyncio.run(rounds())


def test_the_loop_going_down_is_told_and_closes() -> None:
    script = Scripted([1, "a", HANG])

    async def main() -> Recorder:
        recorder, _ = subscribe(script.source())
        await asyncio.sleep(5)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, Cancelled)
    assert recorder.error.partial is not None
    assert recorder.error.partial.text == "a"
    assert script.closed == 1


@pytest.mark.parametrize("steps", [[1, "a", HANG], [1, "a", raising(Disconnected("gone"))]], ids=str)
@pytest.mark.parametrize("read_ahead", [0, 10])
def test_the_loop_going_down_does_not_wait_for_a_paused_stream(steps: list[Step], read_ahead: int) -> None:
    script, gate = Scripted(steps), Gate()

    async def main() -> Recorder:
        recorder, _ = subscribe(script.source(read_ahead=read_ahead), gate=gate)
        await asyncio.sleep(0.5)
        gate.hold("user")
        await asyncio.sleep(5)
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, StreamError)
    assert (script.closed, gate.read_ahead) == (1, 0)


def test_the_loop_going_down_before_it_has_begun_is_told() -> None:
    """Subscribed in the loop's last round, its task is cancelled before its first step."""
    script = Scripted(["a", DONE])
    recorders: list[Recorder] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: recorders.append(subscribe(script.source(provider="scripted"))[0]))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    [recorder] = recorders
    assert isinstance(recorder.error, LoopShutDown)
    assert recorder.error.partial is not None
    assert recorder.error.provider == "scripted"
    assert script.opened == 0


def test_an_error_that_waits_at_the_gate_when_the_loop_goes_down_is_the_cause_of_what_is_told() -> None:
    """An error that is told through a closed gate would be kept back by those who obey it, for ever."""
    gate, lost = Gate(), Disconnected("gone")
    gate.hold("user")

    async def main() -> Recorder:
        recorder, _ = subscribe(Scripted([], connect=[raising(lost)]).source(), gate=gate)
        await settle()
        assert recorder.ended_at is None
        return recorder

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        recorder = runner.run(main())
    assert isinstance(recorder.error, Cancelled)
    assert recorder.error.partial is not None
    assert recorder.error.__cause__ is lost


def test_subscribed_on_a_closed_loop_it_fails_by_on_error() -> None:
    loop, recorder = asyncio.new_event_loop(), list[Exception]()
    loop.close()
    Scripted(words("a")).events().subscribe(on_error=recorder.append, scheduler=LoopScheduler(loop))
    assert [type(error) for error in recorder] == [ConfigurationError]
