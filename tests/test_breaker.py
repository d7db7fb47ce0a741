"""The circuit breaker: when it opens, that it lets one probe through and no more, and what it says of itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rxstream import errors
from rxstream.breaker import CircuitBreaker, CircuitChange, CircuitState
from rxstream.bulkhead import Bulkhead
from rxstream.config import Timeouts
from rxstream.errors import CircuitOpen, ConfigurationError, Overloaded
from rxstream.events import Event
from rxstream.guards import ModelKey, Outcome, Ticket
from rxstream.observable import Stream
from rxstream.operators import guard, timeouts
from rxstream.quota import RateLimiter
from rxstream.sources._pump import pump
from tests.support.knowing import Knowing
from tests.support.scripted import DONE, HANG, Recorder, Scripted, Step
from tests.support.virtual_loop import VirtualLoop, settle, virtual_time

KEY = ModelKey("openai", "gpt", "https://api.openai.com/v1")
OTHER = ModelKey("openai", "gpt", "https://elsewhere.example/v1")
FAILURES = [
    errors.ConnectError("no"),
    errors.Disconnected("no"),
    errors.Overloaded("no"),
    errors.ProtocolError("no"),
    errors.RateLimited("no"),
    errors.SequenceGap("no"),
    errors.ServerFault("no"),
    errors.StreamIncomplete("no"),
    errors.TimedOut("no", clock="idle", seconds=3),
    errors.ToolCallIncomplete("no"),
    errors.UnexpectedContentType("no"),
]
NEUTRAL = [
    errors.AuthError("no"),
    errors.BadRequest("no"),
    errors.BudgetExceeded("no"),
    errors.BulkheadFull("no"),
    errors.CircuitOpen("no"),
    errors.ConfigurationError("no"),
    errors.ContentFiltered("no"),
    errors.LimitExceeded("no"),
    errors.RecordingFailed("no"),
    ZeroDivisionError("no"),
]


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def angry(_: CircuitChange) -> None:
    raise ZeroDivisionError


class Model:
    """Requests to a model behind a breaker, by hand."""

    def __init__(self, breaker: CircuitBreaker, key: ModelKey = KEY) -> None:
        self.breaker = breaker
        self.key = key

    def ask(self) -> Ticket:
        """Enter, which never waits."""
        ticket = Ticket(self.key)
        with pytest.raises(StopIteration):
            self.breaker.enter(ticket).send(None)
        ticket.sent_at = 0.0
        return ticket

    def tell(self, ticket: Ticket, outcome: Outcome | Exception = "completed", *, after: float = 1.0) -> None:
        ticket.first_output_after = after
        if isinstance(outcome, Exception):
            ticket.outcome, ticket.error = "failed", outcome
        else:
            ticket.outcome = outcome
        self.breaker.leave(ticket)

    def run(self, *outcomes: Outcome | Exception) -> str:
        for outcome in outcomes:
            self.tell(self.ask(), outcome)
        return self.state

    def refusal(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            self.breaker.enter(Ticket(self.key)).send(None)
        return caught.value

    @property
    def state(self) -> str:
        return self.breaker.state(self.key)


def opened(clock: Hand, **options: Any) -> Model:
    """A model whose circuit has opened just now."""
    model = Model(CircuitBreaker(at_least=1, of=1, clock=clock, **options))
    assert model.run(Overloaded("full")) == "open"
    return model


# --- when it opens ----------------------------------------------------------------------------------------------------------


def test_by_default_the_fifth_failure_of_five_opens_it_for_half_a_minute() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(clock=clock))
    assert model.run(*[Overloaded("full")] * 4) == "closed"
    assert model.run(Overloaded("full")) == "open"
    clock.now = 10
    refusal = model.refusal()
    assert str(refusal) == "openai:gpt failed too often of late; it is asked again in 20 s"
    assert (refusal.retry_after, refusal.retryable) == (20, True)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("ooooxxxx", "open"),  # 4 of 8
        ("oooooxxxx", "closed"),  # 4 of 9
        ("oxoxx", "open"),
        ("oxoxox", "open"),
        ("oxoxo", "closed"),
        ("xxxxo", "closed"),  # 4 of 5, but a success opens nothing
        ("xxxxox", "open"),
        ("x" * 4, "closed"),
        ("o" * 20 + "x" * 9, "closed"),
        ("o" * 20 + "x" * 10, "open"),  # the first are forgotten
        ("x" + "o" * 20 + "x" * 9, "closed"),
    ],
)
def test_half_of_what_is_remembered_has_to_fail(outcomes: str, state: CircuitState) -> None:
    model = Model(CircuitBreaker(clock=Hand()))
    found: list[Outcome | Exception] = [Overloaded("full") if word == "x" else "completed" for word in outcomes]
    assert model.run(*found) == state


def test_what_is_older_than_the_window_is_forgotten() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(within=60, at_least=3, clock=clock))
    for clock.now in (0.0, 1.0, 61.5, 62.0):
        assert model.run(Overloaded("full")) == "closed"
    clock.now = 121.5
    assert model.run(Overloaded("full")) == "open"


def test_without_a_window_in_time_only_the_number_counts() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(within=None, at_least=3, clock=clock))
    for clock.now in (0.0, 1e5):
        assert model.run(Overloaded("full")) == "closed"
    clock.now = 1e9
    assert model.run(Overloaded("full")) == "open"


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_failures(error: Exception) -> None:
    assert Model(CircuitBreaker(at_least=1)).run(error) == "open"


@pytest.mark.parametrize("error", NEUTRAL, ids=lambda error: type(error).__name__)
def test_what_tells_of_the_request_and_not_of_the_model_counts_for_nothing(error: Exception) -> None:
    """Neither against the model nor for it."""
    model = Model(CircuitBreaker(at_least=2, clock=Hand()))
    assert model.run(error, "cancelled", error, Overloaded("full"), error, "cancelled") == "closed"
    assert model.run(Overloaded("full")) == "open"


def test_every_error_of_ours_is_one_or_the_other() -> None:
    known = {type(error) for error in FAILURES + NEUTRAL} | {errors.Cancelled, errors.LoopShutDown, errors.TracksFailed}
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StreamError)}
    assert tree - {errors.StreamError} <= known


def test_a_request_that_was_never_sent_counts_for_nothing() -> None:
    """Another guard has refused it: the model is not to blame, whatever the error is called."""
    model = Model(CircuitBreaker(at_least=1))
    ticket = model.ask()
    ticket.sent_at = None
    model.tell(ticket, errors.RateLimited("our own limit"))
    assert model.state == "closed"


@pytest.mark.parametrize(
    ("outcome", "after", "state"),
    [("completed", 4.9, "closed"), ("completed", 5.1, "open"), ("cancelled", 50, "closed"), (NEUTRAL[0], 50, "closed")],
)
def test_a_slow_first_output_is_a_failure_of_an_answer(
    outcome: Outcome | Exception, after: float, state: CircuitState
) -> None:
    model = Model(CircuitBreaker(at_least=1, slow_after=5))
    model.tell(model.ask(), outcome, after=after)
    assert model.state == state


def test_without_a_limit_nothing_is_slow() -> None:
    model = Model(CircuitBreaker(at_least=1))
    model.tell(model.ask(), after=1e9)
    assert model.state == "closed"


def test_an_answer_without_content_is_not_slow() -> None:
    model = Model(CircuitBreaker(at_least=1, slow_after=5))
    ticket = model.ask()
    ticket.outcome = "completed"
    model.breaker.leave(ticket)
    assert model.state == "closed"


def test_each_model_at_each_address_has_a_circuit_of_its_own() -> None:
    breaker = CircuitBreaker(at_least=1)
    assert Model(breaker).run(Overloaded("full")) == "open"
    assert Model(breaker, OTHER).run("completed") == "closed"
    assert breaker.states == {KEY: "open", OTHER: "closed"}
    assert breaker.state(ModelKey("who", "knows", "")) == "closed"
    with pytest.raises(ConfigurationError, match="key='openai:m': must be a ModelKey"):
        breaker.state("openai:m")  # type: ignore[arg-type]  # it is no circuit that is closed


# --- the probe --------------------------------------------------------------------------------------------------------------


def test_when_it_is_time_the_next_request_is_the_probe_and_all_others_are_refused() -> None:
    clock = Hand()
    model = opened(clock, open_for=30)
    clock.now = 29.999
    assert model.refusal().retry_after == pytest.approx(0.001)
    clock.now = 30
    assert model.state == "open", "nobody has asked yet"
    probe = model.ask()
    assert model.state == "half_open"
    for clock.now in (30.0, 329.9):
        refusal = model.refusal()
        assert (refusal.retry_after, "is just being tried" in str(refusal)) == (None, True)
    model.tell(probe)
    assert model.state == "closed"
    model.tell(model.ask())


def test_after_a_success_all_is_forgotten() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(at_least=2, clock=clock))
    model.run(Overloaded("full"), Overloaded("full"))
    clock.now = 30
    assert model.run("completed", Overloaded("full")) == "closed"
    assert model.run(Overloaded("full")) == "open"


def test_after_a_failed_probe_it_is_open_for_twice_as_long_up_to_a_limit_and_after_a_success_as_at_first() -> None:
    clock = Hand()
    model = opened(clock, open_for=30, max_open_for=100)
    waits: list[float | None] = []
    for _ in range(4):
        waits.append(model.refusal().retry_after)
        clock.now += waits[-1] or 0.0
        assert model.run(Overloaded("full")) == "open"
    assert waits == [30, 60, 100, 100]
    clock.now += 100
    assert model.run("completed", Overloaded("full")) == "open"
    assert model.refusal().retry_after == 30


@pytest.mark.parametrize("outcome", ["cancelled", errors.BadRequest("no")])
def test_a_probe_that_says_nothing_leaves_its_place_to_another(outcome: Outcome | Exception) -> None:
    clock = Hand()
    model = opened(clock)
    clock.now = 30
    assert model.run(outcome, outcome) == "half_open"
    probe = model.ask()
    model.refusal()
    model.tell(probe)
    assert model.state == "closed"


def test_a_probe_of_which_nothing_is_heard_leaves_its_place_to_another() -> None:
    """It is paused, or its loop was closed: the circuit would be half open for ever."""
    clock = Hand()
    model = opened(clock, open_for=30, max_open_for=100)
    clock.now = 30
    model.tell(model.ask(), "cancelled")
    clock.now = 100
    lost = model.ask()
    clock.now = 199.9
    model.refusal()
    clock.now = 200
    probe = model.ask()
    model.refusal()
    model.tell(lost, Overloaded("at last"))
    assert model.state == "half_open", "it counts no more"
    model.refusal()
    model.tell(probe)
    assert model.state == "closed"


def test_a_slow_probe_has_failed() -> None:
    clock = Hand()
    model = opened(clock, slow_after=5)
    clock.now = 30
    model.tell(model.ask(), after=6)
    assert model.state == "open"


def test_what_was_asked_in_an_earlier_state_changes_nothing() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(at_least=1, of=1, clock=clock))
    early = [model.ask() for _ in range(6)]
    model.run(Overloaded("full"))
    model.tell(early[0])
    assert model.state == "open", "a success from before does not close it"
    model.tell(early[1], Overloaded("full"))
    clock.now = 30
    probe = model.ask()
    model.tell(early[2])
    model.tell(early[3], Overloaded("full"))
    model.tell(early[4], "cancelled")
    assert model.state == "half_open"
    model.refusal()
    model.tell(probe)
    model.tell(early[5], Overloaded("full"))
    assert model.state == "closed", "nor does a failure from before open it again"


def test_who_never_entered_is_not_heard() -> None:
    breaker = CircuitBreaker(at_least=1)
    ticket = Ticket(KEY)
    ticket.sent_at, ticket.outcome, ticket.error = 0.0, "failed", Overloaded("full")
    breaker.leave(ticket)
    assert breaker.states == {}


def test_of_many_tasks_one_is_the_probe() -> None:
    clock = Hand()
    model = opened(clock)
    clock.now = 30

    async def main() -> Sequence[object]:
        return await asyncio.gather(*(model.breaker.enter(Ticket(KEY)) for _ in range(64)), return_exceptions=True)

    refused = [isinstance(result, CircuitOpen) for result in asyncio.run(main())]
    assert refused.count(False) == 1


def test_of_many_threads_one_is_the_probe() -> None:
    for _ in range(10):
        clock = Hand()
        model = opened(clock)
        clock.now = 30
        admitted, start = list[Ticket](), threading.Barrier(64)

        def ask(model: Model = model, admitted: list[Ticket] = admitted, start: threading.Barrier = start) -> None:
            ticket = Ticket(KEY)
            start.wait()
            try:
                model.breaker.enter(ticket).send(None)
            except StopIteration:
                admitted.append(ticket)
            except CircuitOpen:
                pass

        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(admitted) == 1


# --- streams ----------------------------------------------------------------------------------------------------------------


def stream(*steps: Step, connect: Sequence[Step] = ()) -> tuple[Scripted, Stream[Event]]:
    script = Scripted(steps, connect=connect)
    return script, Knowing(script).stream()


async def outcome(source: Any) -> Recorder:
    recorder = Recorder()
    source.subscribe(recorder.on_next, recorder.on_error, recorder.on_completed)
    await asyncio.sleep(20)
    return recorder


@pytest.mark.parametrize(
    "steps",
    [
        ["Hel"],  # cut
        ["Hel", errors.Overloaded("in the stream")],
        ["Hel", HANG],  # stalled
    ],
)
@virtual_time
async def test_a_stream_that_breaks_in_its_midst_has_failed_and_the_next_is_not_sent(steps: list[Step]) -> None:
    breaker = CircuitBreaker(at_least=2, clock=asyncio.get_running_loop().time)
    script, source = stream(*steps)
    guarded = source.pipe(timeouts(idle=5), guard(breaker))
    for _ in range(2):
        assert (await outcome(guarded)).texts == ["Hel"]
    assert breaker.states == {ModelKey("scripted", "scripted-1", "http://127.0.0.1"): "open"}
    refused = await outcome(guarded)
    assert isinstance(refused.error, CircuitOpen)
    assert (refused.error.provider, refused.error.phase, script.opened) == ("scripted", "request", 2)


@virtual_time
async def test_the_sources_own_clocks_count_too() -> None:
    breaker = CircuitBreaker(at_least=1)
    script = Scripted([HANG])
    source = pump(script.source(timeouts=Timeouts(first_output=3)))
    await outcome(source.pipe(guard(breaker)))
    assert set(breaker.states.values()) == {"open"}


@virtual_time
async def test_while_a_probe_runs_it_is_not_known_how_it_went() -> None:
    """A good beginning is not a good end."""
    loop = asyncio.get_running_loop()
    breaker = CircuitBreaker(at_least=1, open_for=10, clock=loop.time)
    _, bad = stream(Overloaded("full"))
    _, long = stream("Hel", 15, "lo", 10, DONE)
    await outcome(bad.pipe(guard(breaker)))
    first = Recorder()
    long.pipe(guard(breaker)).subscribe(first.on_next, first.on_error, first.on_completed)
    await asyncio.sleep(5)
    assert first.texts == ["Hel"]
    second = await outcome(long.pipe(guard(breaker)))
    assert isinstance(second.error, CircuitOpen)
    await asyncio.sleep(5)
    assert first.completed
    assert (await outcome(long.pipe(guard(breaker)))).texts == ["Hel", "lo"]
    await asyncio.sleep(10)


@virtual_time
async def test_a_probe_that_is_disposed_leaves_its_place() -> None:
    breaker = CircuitBreaker(at_least=1, open_for=10, clock=asyncio.get_running_loop().time)
    _, bad = stream(Overloaded("full"))
    _, endless = stream("Hel", HANG)
    _, good = stream("Hello", DONE)
    await outcome(bad.pipe(guard(breaker)))
    probe = endless.pipe(guard(breaker)).subscribe()
    await settle()
    assert isinstance((await outcome(good.pipe(guard(breaker)))).error, CircuitOpen)
    probe.dispose()
    await settle()
    assert (await outcome(good.pipe(guard(breaker)))).completed
    assert set(breaker.states.values()) == {"closed"}


@virtual_time
async def test_who_waits_for_a_place_while_the_circuit_opens_is_not_sent_where_the_breaker_is_asked_last() -> None:
    breaker, bulkhead = CircuitBreaker(at_least=1), Bulkhead(1)
    limiter = RateLimiter(requests_per_minute=2, clock=asyncio.get_running_loop().time)
    script, source = stream(1, Overloaded("full"))
    guarded = source.pipe(guard(bulkhead, limiter, breaker))
    outcomes = await asyncio.gather(*(outcome(guarded) for _ in range(4)))
    assert [type(one.error) for one in outcomes] == [Overloaded, *[CircuitOpen] * 3]
    assert [one.ended_at for one in outcomes] == [1, 1, 1, 1], "what was not used was given back"
    assert script.opened == 1


# --- what it says of itself -------------------------------------------------------------------------------------------------


def test_changes_are_told_in_order_with_their_reasons() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(at_least=2, slow_after=5, clock=clock))
    seen: list[CircuitChange] = []
    subscription = model.breaker.changes.subscribe(seen.append)
    model.run("completed", Overloaded("full"))
    clock.now = 30
    model.run(errors.TimedOut("no", clock="idle", seconds=3))
    clock.now = 90
    model.run("completed", "completed")
    model.tell(model.ask(), after=6)
    assert seen == [
        CircuitChange(KEY, "closed", "open", 0, "1 of 2 failed, the last one: Overloaded"),
        CircuitChange(KEY, "open", "half_open", 30, "30 s are over"),
        CircuitChange(KEY, "half_open", "open", 30, "the probe failed: TimedOut"),
        CircuitChange(KEY, "open", "half_open", 90, "60 s are over"),
        CircuitChange(KEY, "half_open", "closed", 90, "the probe succeeded"),
        CircuitChange(KEY, "closed", "open", 90, "1 of 2 failed, the last one: slow"),
    ]
    subscription.dispose()
    clock.now = 1000
    model.run("completed")
    assert len(seen) == 6


def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker(at_least=1)
    seen: list[CircuitChange] = []
    breaker.changes.subscribe(angry)
    breaker.changes.subscribe(seen.append)
    assert Model(breaker).run(Overloaded("full")) == "open"
    assert Model(breaker, OTHER).run(Overloaded("full")) == "open"
    assert [change.key for change in seen] == [KEY, OTHER]
    raised = [record for record in caplog.records if record.exc_info]
    assert len(raised) == 1, "it was told once, and then no more"


def test_what_an_observer_raises_goes_to_its_own_on_error() -> None:
    breaker, own = CircuitBreaker(at_least=1), list[Exception]()
    breaker.changes.subscribe(angry, own.append)
    Model(breaker).run(Overloaded("full"))
    Model(breaker, OTHER).run(Overloaded("full"))
    assert [type(error) for error in own] == [ZeroDivisionError]


def test_an_interrupt_while_it_is_told_silences_nobody() -> None:
    breaker = CircuitBreaker(at_least=1)
    seen: list[CircuitChange] = []

    def interrupted(_: CircuitChange) -> None:
        raise KeyboardInterrupt

    first = breaker.changes.subscribe(interrupted)
    with pytest.raises(KeyboardInterrupt):
        Model(breaker).run(Overloaded("full"))
    first.dispose()
    breaker.changes.subscribe(seen.append)
    Model(breaker, OTHER).run(Overloaded("full"))
    assert [change.key for change in seen] == [OTHER]


def test_an_observer_may_ask_again_and_is_told_in_order() -> None:
    clock = Hand()
    model = Model(CircuitBreaker(at_least=1, open_for=10, clock=clock))
    seen: list[tuple[CircuitState, CircuitState]] = []

    def on_change(change: CircuitChange) -> None:
        if change.after == "open" and not seen:
            clock.now = 10
            model.run("completed")
        seen.append((change.before, change.after))

    model.breaker.changes.subscribe(on_change)
    model.run(Overloaded("full"))
    assert seen == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


def test_from_many_threads_changes_come_one_at_a_time_and_none_is_lost() -> None:
    breaker = CircuitBreaker(at_least=1, of=1)
    busy, overlaps = threading.Lock(), 0
    seen: list[CircuitChange] = []

    def on_change(change: CircuitChange) -> None:
        nonlocal overlaps
        if not busy.acquire(blocking=False):
            overlaps += 1
            return
        seen.append(change)
        busy.release()

    breaker.changes.subscribe(on_change)

    def fail(thread: int) -> None:
        for number in range(50):
            Model(breaker, ModelKey("p", f"{thread}-{number}", "")).run(Overloaded("full"))

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (overlaps, len({change.key for change in seen}), len(seen)) == (0, 400, 400)


# --- any order --------------------------------------------------------------------------------------------------------------


class Circuits(RuleBasedStateMachine):
    """Against the rules written down once more, as plainly as can be."""

    OF, WITHIN, LEAST, OPEN_FOR, MOST = 4, 20.0, 2, 10.0, 35.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Hand()
        self.breaker = CircuitBreaker(
            of=self.OF,
            within=self.WITHIN,
            at_least=self.LEAST,
            open_for=self.OPEN_FOR,
            max_open_for=self.MOST,
            clock=self.clock,
        )
        self.model = Model(self.breaker)
        self.state: CircuitState = "closed"
        self.period = 0
        self.outcomes: list[tuple[float, bool]] = []
        self.opened_at, self.open_for = 0.0, self.OPEN_FOR
        self.probed_at = 0.0
        self.running: list[tuple[Ticket, int]] = []
        self.changes: list[CircuitState] = []
        self.seen: list[CircuitState] = []
        self.breaker.changes.subscribe(lambda change: self.seen.append(change.after))

    def become(self, state: CircuitState) -> None:
        self.state, self.opened_at, self.outcomes = state, self.clock.now, []
        self.period += 1
        self.changes.append(state)

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 10.0, 21.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def ask(self) -> None:
        if self.state == "open" and self.clock.now >= self.opened_at + self.open_for:
            self.become("half_open")
        probing = any(period == self.period for _, period in self.running)
        if self.state == "open":
            left = self.opened_at + self.open_for - self.clock.now
            assert self.model.refusal().retry_after == pytest.approx(left)
        elif self.state == "half_open" and probing and self.clock.now < self.probed_at + self.MOST:
            assert self.model.refusal().retry_after is None
        else:
            if self.state == "half_open":
                self.period, self.probed_at = self.period + 1, self.clock.now
            self.running.append((self.model.ask(), self.period))

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 9), how=st.sampled_from(["completed", "cancelled", "failed", "failed"]))
    def end(self, pick: int, how: Outcome) -> None:
        ticket, period = self.running.pop(pick % len(self.running))
        self.model.tell(ticket, Overloaded("full") if how == "failed" else how)
        if period != self.period or how == "cancelled":
            return
        failed = how == "failed"
        if self.state == "half_open":
            self.open_for = min(2 * self.open_for, self.MOST) if failed else self.OPEN_FOR
            self.become("open" if failed else "closed")
            return
        recent = [one for one in self.outcomes if one[0] >= self.clock.now - self.WITHIN]
        self.outcomes = [*recent, (self.clock.now, failed)][-self.OF :]
        bad = [one for one in self.outcomes if one[1]]
        if failed and len(self.outcomes) >= self.LEAST and len(bad) * 2 >= len(self.outcomes):
            self.become("open")

    @invariant()
    def as_written_down(self) -> None:
        assert self.model.state == self.state
        assert self.seen == self.changes


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(stateful_step_count=40)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"failures": 0}, "failures"),
        ({"failures": 1.5}, "failures"),
        ({"of": 0, "at_least": 1}, "of"),
        ({"at_least": 0}, "at_least"),
        ({"of": 3, "at_least": 4}, "at_least"),
        ({"within": 0}, "within"),
        ({"slow_after": 0}, "slow_after"),
        ({"open_for": 0}, "open_for"),
        ({"open_for": 30, "max_open_for": 29}, "max_open_for"),
        ({"clock": 3}, "clock"),
    ],
)
def test_options(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        CircuitBreaker(**options)


def test_the_loop_of_a_guarded_stream_is_not_the_breakers() -> None:
    """One breaker, several loops, one after the other."""
    breaker = CircuitBreaker(at_least=2)
    script, source = stream(Overloaded("full"))
    for _ in range(3):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(outcome(source.pipe(guard(breaker))))
    assert script.opened == 2
