"""Every operator of ours keeps every rule that applies to it; and each rule finds its fault."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable

from rxstream import operators as rxo
from rxstream.breaker import CircuitBreaker
from rxstream.bulkhead import Bulkhead
from rxstream.errors import ConfigurationError
from rxstream.events import Event, Finished, TextDelta, ToolCall, UsageReported
from rxstream.gate import Gate
from rxstream.limiter import TokenBucket
from rxstream.loop import LoopScheduler
from rxstream.quota import RateLimiter
from rxstream.telemetry.memory import MemorySink
from rxstream.testing import ContractViolation, verify_operator

Operator = Callable[[Observable[Any]], Observable[Any]]


def _clock() -> float:
    return asyncio.get_running_loop().time()


async def _same(event: Any) -> Any:
    await asyncio.sleep(0.1)
    return event


ROUNDS = 6
TEXT: dict[str, Callable[[], Operator]] = {
    "buffer_tokens": lambda: rxo.buffer_tokens(3),
    "coalesce": rxo.coalesce,
    "guard": lambda: rxo.guard(
        Bulkhead(1), RateLimiter(requests_per_minute=9, clock=_clock), CircuitBreaker(clock=_clock)
    ),
    "limit": lambda: rxo.limit(events=10**9),
    "map_async": lambda: rxo.map_async(_same, max_concurrency=3),
    "meter": lambda: rxo.meter(MemorySink()),
    "observe_on_loop": rxo.observe_on_loop,
    "of_track": lambda: rxo.of_track(""),
    "on_backpressure_buffer": lambda: rxo.on_backpressure_buffer(2),
    "on_backpressure_coalesce": lambda: rxo.on_backpressure_coalesce(max_bytes=1000),
    "pace": lambda: rxo.pace(20),
    "rate_limit": lambda: rxo.rate_limit(TokenBucket(2, burst=1, clock=_clock)),
    "retry_stream": lambda: rxo.retry_stream(attempts=1),
    "segments": lambda: rxo.segments("sentence"),
    "share": rxo.share,
    "share_replay": lambda: rxo.share_replay(refcount=True),
    "synchronize": rxo.synchronize,
    "text": rxo.text,
    "text by words": lambda: rxo.text("word"),
    "timeouts": lambda: rxo.timeouts(first_event=60, first_output=60, idle=60),
    "valve": lambda: rxo.valve(Gate(), read_ahead=2),
}
ITEMS: dict[str, tuple[Callable[[], Operator], Callable[[Any], object]]] = {
    "chunks": (rxo.chunks, lambda chunk: chunk.content),
    "of_type": (lambda: rxo.of_type(TextDelta), lambda event: event.text),
    "progress": (rxo.progress, lambda progress: progress.events),
    "responses": (rxo.responses, lambda response: response),
}
NOTHING: dict[str, Callable[[], Operator]] = {
    "debounce": lambda: rxo.debounce(0.5),
    "on_backpressure_drop": rxo.on_backpressure_drop,
    "on_backpressure_latest": rxo.on_backpressure_latest,
    "sample": lambda: rxo.sample(0.5),
}
EXEMPT: dict[str, tuple[Callable[[], Operator], dict[str, str]]] = {
    "on_backpressure_error": (rxo.on_backpressure_error, dict.fromkeys(("O.2", "O.3", "O.7"), "a pause is an error")),
    "on_error_complete": (rxo.on_error_complete, dict.fromkeys(("O.3", "O.7"), "it makes an end of an error")),
}


@pytest.mark.parametrize("name", TEXT)
def test_what_keeps_the_text_keeps_every_rule(name: str) -> None:
    results = verify_operator(TEXT[name], rounds=ROUNDS).results
    assert {result.outcome for result in results} == {"passed"}


def test_a_tape_changes_nothing(tmp_path: Path) -> None:
    numbers = itertools.count()  # a file each: the recording of a file that another one takes away ends
    make = lambda: rxo.record(tmp_path / f"{next(numbers)}.jsonl")  # noqa: E731
    assert verify_operator(make, rounds=2, exempt={"O.8": "one file"}).passed


def test_every_operator_is_held_against_the_rules() -> None:
    """A new one is to stand in a table above."""
    names = {name.split(" ")[0] for table in (TEXT, ITEMS, NOTHING, EXEMPT) for name in table} | {"record"}
    assert {name for name in rxo.__all__ if name[0].islower()} == names


@pytest.mark.parametrize("name", ITEMS)
def test_what_makes_something_else_of_it_makes_the_same_always(name: str) -> None:
    make, key = ITEMS[name]
    assert verify_operator(make, keeps="items", key=key, rounds=ROUNDS).passed


@pytest.mark.parametrize("name", NOTHING)
def test_what_drops_keeps_the_other_rules(name: str) -> None:
    results = verify_operator(NOTHING[name], keeps="nothing", rounds=ROUNDS).results
    assert [result.rule for result in results if result.outcome == "not applicable"] == ["O.2", "O.6", "O.8"]


@pytest.mark.parametrize("name", EXEMPT)
def test_what_is_exempt_from_some_keeps_the_others(name: str) -> None:
    make, exempt = EXEMPT[name]
    results = verify_operator(make, keeps="items", exempt=exempt, rounds=ROUNDS).results
    assert set(exempt) <= {result.rule for result in results if result.outcome == "not applicable"}


# --- what each does wrong -------------------------------------------------------------------------------------------------


def made(subscribe: Callable[[Observable[Any], abc.ObserverBase[Any], LoopScheduler], abc.DisposableBase]) -> Operator:
    """An operator of a subscribe function that is told the source."""

    def operator(source: Observable[Any]) -> Observable[Any]:
        def core(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return subscribe(source, observer, LoopScheduler.of(scheduler))

        return Observable(core)

    return operator


def leaves_a_timer() -> Operator:
    def subscribe(source: Observable[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> abc.DisposableBase:
        on.loop.call_later(10**6, id, None)
        return source.subscribe(observer, scheduler=on)

    return made(subscribe)


def hears_no_dispose() -> Operator:
    def subscribe(source: Observable[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> abc.DisposableBase:
        source.subscribe(observer, scheduler=on)
        return Disposable()

    return made(subscribe)


def keeps_the_gate_to_itself() -> Operator:
    """What waits meanwhile is not bounded."""

    def subscribe(source: Observable[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> abc.DisposableBase:
        def deaf(to: abc.ObserverBase[Any], _scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            return source.subscribe(to, scheduler=LoopScheduler(on.loop))

        return rxo.on_backpressure_buffer(10**6)(Observable(deaf)).subscribe(observer, scheduler=on)

    return made(subscribe)


def remembers() -> Operator:
    """Its state is that of all subscriptions."""
    seen: set[int] = set()

    def new(event: Any) -> bool:
        is_new = event.seq not in seen
        seen.add(event.seq)
        return is_new

    return ops.filter(new)


def hides_that_the_loop_is_shut_down() -> Operator:
    return ops.catch(lambda error, _: rx.throw(error) if "cut" in str(error) else rx.never())


def says_more_when_the_loop_is_shut_down() -> Operator:
    return ops.catch(lambda error, _: rx.throw(error) if "cut" in str(error) else rx.of("more"))


def leaves_the_loop() -> Operator:
    def subscribe(source: Observable[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> abc.DisposableBase:
        def elsewhere(item: Any) -> None:
            thread = Thread(target=observer.on_next, args=(item,))
            thread.start()
            thread.join()

        return source.subscribe(elsewhere, observer.on_error, observer.on_completed, scheduler=on)

    return made(subscribe)


def ends_elsewhere() -> Operator:
    def subscribe(source: Observable[Any], observer: abc.ObserverBase[Any], on: LoopScheduler) -> abc.DisposableBase:
        def completed() -> None:
            thread = Thread(target=observer.on_completed)
            thread.start()
            thread.join()

        return source.subscribe(observer.on_next, observer.on_error, completed, scheduler=on)

    return made(subscribe)


FAULTS: list[tuple[str, Callable[[], Operator]]] = [
    ("O.1", lambda: ops.delay(0.5)),
    ("O.1", leaves_the_loop),
    ("O.1", ends_elsewhere),
    ("O.2", lambda: ops.skip(1)),
    ("O.2", lambda: ops.map(lambda event: [event, event])),
    ("O.3", lambda: ops.catch(rx.empty())),
    ("O.4", leaves_a_timer),
    ("O.5", hears_no_dispose),
    ("O.6", keeps_the_gate_to_itself),
    ("O.7", lambda: ops.timeout(60.0)),
    ("O.8", remembers),
    ("O.9", hides_that_the_loop_is_shut_down),
    ("O.9", says_more_when_the_loop_is_shut_down),
]


RULES = [f"O.{number}" for number in range(1, 10)]


def broken(make: Callable[[], Operator], *rules: str, **options: Any) -> list[str]:
    """The rules that it breaks, of these."""
    others = {rule: "not asked for" for rule in RULES if rule not in rules}
    with pytest.raises(ContractViolation) as found:
        verify_operator(make, exempt=others, **options)
    return [result.rule for result in found.value.verification.broken]


@pytest.mark.parametrize(("rule", "make"), FAULTS)
def test_a_fault_is_found_by_its_rule(rule: str, make: Callable[[], Operator]) -> None:
    assert broken(make, rule) == [rule]


def test_every_rule_finds_a_fault() -> None:
    assert {rule for rule, _ in FAULTS} == set(RULES)
    assert [result.rule for result in verify_operator(rxo.share, rounds=1).results] == RULES


def test_items_are_compared_where_items_are_kept_by_what_is_to_be_the_same() -> None:
    def stamped() -> Operator:
        return ops.map(lambda event: (_clock(), event.seq))

    assert broken(stamped, "O.2", keeps="items")
    assert verify_operator(stamped, keeps="items", key=lambda pair: pair[1], rounds=ROUNDS).passed


def test_what_is_broken_is_told_with_the_trial_that_showed_it() -> None:
    with pytest.raises(ContractViolation, match=r"gives .* was due \(trial \d+ with seed=3: the source gives "):
        verify_operator(lambda: ops.skip(1), seed=3, rounds=3)


@pytest.mark.parametrize("kind", [Finished, UsageReported, ToolCall])
def test_an_event_that_is_dropped_is_found_where_events_are_given(kind: type[Event]) -> None:
    def without() -> Operator:
        return ops.filter(lambda event: not isinstance(event, kind))

    def texts_without() -> Operator:
        return lambda source: source.pipe(without(), rxo.text())

    assert broken(without, "O.2") == ["O.2"]
    assert verify_operator(without, keeps="items", rounds=ROUNDS).passed
    assert verify_operator(texts_without, rounds=ROUNDS).passed


def test_pieces_of_thinking_may_be_joined_as_those_of_text_may() -> None:
    others = {rule: "not asked for" for rule in RULES if rule != "O.2"}
    assert verify_operator(rxo.coalesce, rounds=75, seed=12345, exempt=others).passed


def test_an_event_in_another_place_is_found() -> None:
    def last() -> Operator:
        """Tool calls come when all has been said."""

        def call(event: Any) -> bool:
            return isinstance(event, ToolCall)

        return lambda source: rx.concat(
            source.pipe(ops.filter(lambda event: not call(event))), source.pipe(ops.filter(call))
        )

    assert broken(last, "O.2") == ["O.2"]


def test_where_a_loop_is_running_it_is_not_the_operator_that_is_blamed() -> None:
    async def main() -> None:
        verify_operator(rxo.share, rounds=1)

    with pytest.raises(AssertionError, match="loops of its own") as found:
        asyncio.run(main())
    assert not isinstance(found.value, ContractViolation)


def test_what_an_operator_raises_breaks_the_rules_and_is_the_cause() -> None:
    fault = KeyError("no")

    def raising(_source: Observable[Any]) -> Observable[Any]:
        raise fault

    with pytest.raises(ContractViolation) as found:
        verify_operator(lambda: raising, rounds=1)
    assert [result.rule for result in found.value.verification.broken] == RULES
    assert found.value.__cause__ is fault


def test_what_cannot_be_made_is_told_as_it_is() -> None:
    with pytest.raises(TypeError, match="argument"):
        verify_operator(ops.map(lambda event: event))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="make: must give an operator"):
        verify_operator(rx.never)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"make": 7}, "make"),
        ({"keeps": "all"}, "keeps"),
        ({"rounds": 0}, "rounds"),
        ({"exempt": {"O.99": ""}}, "exempt"),
        ({"exempt": ["O.6"]}, "exempt: must be a dict"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        verify_operator(**{"make": rxo.share, **options})
