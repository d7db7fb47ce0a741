"""Does an operator keep the rules of one? Every rule tried at scripts and pauses by chance, in virtual time.

An operator of your own is made anew for each trial, on the trial's loop::

    def test_my_operator() -> None:
        verify_operator(lambda: my_operator(3))


    def test_my_counter() -> None:
        verify_operator(my_counter, keeps="items")  # it makes something else of the events

pytest is not needed.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from reactivex import Observable

from rxstream._check import count, function, one_of, show
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.loop import LoopScheduler, running_loop
from rxstream.testing._lab import Broken, NotApplicable, WatchedGate, must
from rxstream.testing._plan import Plan
from rxstream.testing.marbles import bare
from rxstream.testing.scripted import Recorder, Scripted, Step
from rxstream.testing.verify import Verification, verified
from rxstream.testing.virtual import VirtualLoop, run_virtual, settle

__all__ = ["Keeps", "Operator", "verify_operator"]

Operator: TypeAlias = Callable[[Observable[Any]], Observable[Any]]
Keeps: TypeAlias = Literal["text", "items", "nothing"]
"""What an operator keeps: the ``text``, however it is cut, and where it gives events all others; the ``items`` that it
makes, whenever they come; or ``nothing``, for it drops what it likes."""

_LONG: Final = 10_000.0
"""Seconds in which everything comes to its end."""
_ENDLESS: Final = 20_000
_MUCH: Final = 15_000
"""Events of an endless source that may wait somewhere."""


@dataclass(frozen=True)
class _Subject:
    """What is tried, and how thoroughly."""

    make: Callable[[], Operator]
    keeps: Keeps
    key: Callable[[Any], object]
    rounds: int
    seed: int

    def keys(self, trial: _Trial) -> list[object]:
        return [self.key(item) for item in trial.recorder.items]

    def plans(self) -> Iterator[tuple[Plan, str]]:
        """What is tried, and how to tell which it was."""
        chance = random.Random(self.seed)  # noqa: S311 - not for secrets
        for number in range(1, self.rounds + 1):
            plan = Plan.by(chance)
            yield plan, f"(trial {number} with seed={self.seed}: {plan})"


class _Trial:
    """One subscription to a script through the operator, with a gate that is moved."""

    def __init__(self, script: Scripted, made: Observable[Any]) -> None:
        self.script = script
        self.recorder = Recorder()
        self.gate = WatchedGate()
        self.through = 0
        """Items that came through a closed gate."""
        self.elsewhere = 0
        """Signals that came on another thread than the loop's."""
        self._thread = threading.get_ident()
        self.recorder.and_then = self._check
        self.subscription = made.subscribe(
            self._here(self.recorder.on_next),
            self._here(self.recorder.on_error),
            self._here(self.recorder.on_completed),
            scheduler=LoopScheduler(gate=self.gate),
        )

    @classmethod
    def of(cls, subject: _Subject, steps: Sequence[Step]) -> _Trial:
        script = Scripted(steps)
        return cls(script, subject.make()(script.events()))

    def _here(self, signal: Callable[..., None]) -> Callable[..., None]:
        """`signal`, where it comes on the loop; elsewhere it is counted."""

        def told(*what: object) -> None:
            if threading.get_ident() == self._thread:
                signal(*what)
            else:
                self.elsewhere += 1

        return told

    def _check(self, _item: object) -> None:
        self.through += self.gate.closed

    async def follow(self, moves: Iterable[tuple[float, bool]]) -> None:
        for seconds, hold in moves:
            await asyncio.sleep(seconds)
            (self.gate.hold if hold else self.gate.release)("verify")

    async def to_the_end(self, moves: Iterable[tuple[float, bool]] = ()) -> None:
        await self.follow(moves)
        self.gate.release("verify")
        await asyncio.sleep(_LONG)

    def left(self) -> str:
        """What it has not released."""
        loop = cast("VirtualLoop", asyncio.get_running_loop())
        found = {
            "subscriptions of its source": self.script.running,
            "holds of the gate": len(self.gate.holds),
            "watches of the gate": len(self.gate.watching),
            "timers": len(loop.timers),
        }
        return ", ".join(f"{number} {what}" for what, number in found.items() if number)


def _each(subject: _Subject, experiment: Callable[[Plan], Awaitable[None]]) -> None:
    """Make it with each plan, on a loop of its own."""
    for plan, where in subject.plans():
        try:
            run_virtual(experiment(plan))
        except Broken as found:
            raise Broken(f"{found} {where}") from None
        except Exception as error:
            raise Broken(f"{error!r} {where}") from error


# --- the rules ------------------------------------------------------------------------------------------------------------


def _gate(subject: _Subject) -> None:
    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, plan.script)
        await trial.to_the_end(plan.moves)
        must(not trial.elsewhere, f"{trial.elsewhere} signals came on another thread")
        must(not trial.through, f"{trial.through} items came through a closed gate")

    _each(subject, experiment)


def _nothing_lost(subject: _Subject) -> None:
    if subject.keeps == "nothing":
        raise NotApplicable("it may drop what it likes")

    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, plan.script)
        await trial.to_the_end(plan.moves)
        if subject.keeps == "text":
            must(not (lost := plan.lost(trial.recorder.items)), lost)
            return
        other = _Trial.of(subject, plan.script)
        await other.to_the_end()
        given, due = subject.keys(trial), subject.keys(other)
        must(
            given == due,
            f"with pauses it gives {len(given)} items, {given[-1:]} the last; without {len(due)}, {due[-1:]}",
        )

    _each(subject, experiment)


def _same_end(subject: _Subject) -> None:
    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, plan.script)
        await trial.to_the_end(plan.moves)
        recorder = trial.recorder
        must(recorder.ended_at is not None, "its end did not come")
        if plan.end == "done":
            must(recorder.completed, f"its source completed, and it failed: {recorder.error!r}")
        else:
            must(isinstance(recorder.error, Disconnected), f"its source failed, and it ended with {recorder.error!r}")

    _each(subject, experiment)


def _released(subject: _Subject) -> None:
    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, plan.script)
        await trial.to_the_end(plan.moves)
        must(not (left := trial.left()), f"when it is over, there are {left}")

    _each(subject, experiment)


def _disposed(subject: _Subject) -> None:
    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, plan.script)
        await trial.follow(plan.moves)
        trial.subscription.dispose()
        signals = len(trial.recorder.items), trial.recorder.ended_at
        trial.gate.release("verify")
        await settle()
        left = trial.left()
        await asyncio.sleep(_LONG)
        must((len(trial.recorder.items), trial.recorder.ended_at) == signals, "something came after dispose()")
        must(not left, f"after dispose() there are {left}")
        must(subject.keeps != "text" or plan.told(trial.recorder.items), "what came before is not how the text begins")

    _each(subject, experiment)


def _comes_to_rest(subject: _Subject) -> None:
    if subject.keeps == "nothing":
        raise NotApplicable("it may read on, and drop what it reads")

    async def experiment() -> tuple[int, int, int]:
        trial = _Trial.of(subject, ["These are words. " * 8] * _ENDLESS)
        trial.recorder.and_then = lambda _: trial.gate.hold("verify")
        await asyncio.sleep(_LONG)
        at_rest = trial.script.given
        await asyncio.sleep(_LONG)
        trial.subscription.dispose()
        return len(trial.recorder.items), at_rest, trial.script.given

    items, at_rest, given = run_virtual(experiment())
    if not items:
        raise NotApplicable("it gives nothing before the end of its source")
    must(at_rest == given < _MUCH, f"{given} events were read, and nobody wanted them")


def _clock_stands(subject: _Subject) -> None:
    async def experiment(plan: Plan) -> None:
        trial = _Trial.of(subject, [0.1, *plan.script])
        await trial.to_the_end([(0.1 * (len(plan.steps) % 4), True), (_LONG, False)])
        recorder = trial.recorder
        how = "completed" if recorder.completed else repr(recorder.error)
        as_source = recorder.completed if plan.end == "done" else isinstance(recorder.error, Disconnected)
        must(as_source, f"after a pause of {_LONG:g} s it ended otherwise than its source: {how}")

    _each(subject, experiment)


def _apart(subject: _Subject) -> None:
    if subject.keeps == "nothing":
        raise NotApplicable("it may drop what it likes")

    async def experiment(plan: Plan) -> None:
        script = Scripted(plan.script)
        made = subject.make()(script.events())
        both = [_Trial(script, made) for _ in range(2)]
        await asyncio.sleep(_LONG)
        alone = _Trial.of(subject, plan.script)
        await asyncio.sleep(_LONG)
        for trial in both:
            items = trial.recorder.items
            same = not plan.lost(items) if subject.keeps == "text" else subject.keys(trial) == subject.keys(alone)
            must(same, "of two subscribers at once one does not get what it gets alone")

    _each(subject, experiment)


def _shut_down(subject: _Subject) -> None:
    for plan, where in subject.plans():
        trials: list[_Trial] = []

        async def experiment(plan: Plan = plan, trials: list[_Trial] = trials) -> None:
            trials.append(_Trial.of(subject, plan.script))
            await trials[0].follow(plan.moves)
            await settle()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(experiment())
        recorder = trials[0].recorder
        must(recorder.ended_at is not None, f"its end did not come {where}")
        must(subject.keeps != "text" or plan.told(recorder.items), f"what came is not how the text begins {where}")


_RULES: Final[Sequence[tuple[str, str, Callable[[_Subject], None]]]] = (
    ("O.1", "nothing comes while the gate is closed, or on another thread", _gate),
    ("O.2", "nothing is lost, doubled or out of order, whoever pauses when", _nothing_lost),
    ("O.3", "its end is that of its source", _same_end),
    ("O.4", "when it is over, everything is released", _released),
    ("O.5", "disposed at any moment, it is silent, and everything is released", _disposed),
    ("O.6", "behind a consumer that has stopped, an endless source comes to rest", _comes_to_rest),
    ("O.7", "a pause, however long, is no stall: clocks stand", _clock_stands),
    ("O.8", "two subscribers have each their own state", _apart),
    ("O.9", "that the loop is shut down is told, whoever has paused", _shut_down),
)


def verify_operator(
    make: Callable[[], Operator],
    *,
    keeps: Keeps = "text",
    key: Callable[[Any], object] = bare,
    rounds: int = 30,
    seed: int = 0,
    exempt: Mapping[str, str] | None = None,
) -> Verification:
    """Hold an operator on a model's events against every rule of one, and give what came of it.

    Args:
        make: Gives the operator; it is called on the loop of each trial.
        keeps: ``"text"``: of events it gives texts, or events or lists of them; the text is the same, however it is cut, and
            where it gives events, all others are there, too, in their places. ``"items"``: it makes something else, or drops
            some, and the same whoever pauses. ``"nothing"``: it may drop what it likes.
        key: What of an item is the same in two runs, where items are kept; by default all that an event says, without its
            time.
        rounds: How many trials are made of each rule.
        seed: Chooses other ones.
        exempt: Rules that it need not keep, by number, such as ``{"O.6": "it is asked to keep all"}``, and why.

    Raises:
        ContractViolation: a rule is broken; its message is the table of all rules, with the trial that showed it. What the
            operator raised is its cause.
        ConfigurationError: an option is not as described.
        AssertionError: a loop is running here.
        Exception: what `make` raises, at its first call.

    Example:
        >>> from rxstream import operators as rxo
        >>> from rxstream.testing import verify_operator
        >>> verify_operator(lambda: rxo.timeouts(idle=60), rounds=5).passed
        True
    """
    __tracebackhide__ = True
    if running_loop() is not None:
        raise AssertionError("verify_operator() has loops of its own: call it where none is running")
    function("make", make)
    function("key", key)
    one_of("keeps", keeps, ("text", "items", "nothing"))
    run_virtual(_made(make))
    return verified(_Subject(make, keeps, key, count("rounds", rounds), seed), _RULES, exempt)


async def _made(make: Callable[[], Operator]) -> None:
    """Making it is no fault of its own: what is wrong with that is told at once."""
    operator = make()
    if not callable(operator):  # pyright: ignore[reportUnnecessaryComparison]
        raise ConfigurationError(f"make: must give an operator, a function of an Observable; it gave {show(operator)}")
