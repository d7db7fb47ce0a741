"""Does a source keep the rules of a reactive stream? Every rule of Reactive Streams that a Python Observable can keep, tried.

The rules and their numbers are those of the Reactive Streams specification 1.0.4; its own kit, for the JVM, leaves half of
them untried. Those with a G are ours, about the gate. Each rule is a check of its own, made on an event loop of its own::

    def test_my_source() -> None:
        verify_source(lambda count: my_source(count), fails=my_broken_source, opens=lambda: pool.open)


    @pytest.mark.parametrize("check", source_checks(lambda count: my_source(count)), ids=str)
    def test_my_source(check: Check) -> None:
        check()

pytest is not needed.
"""

from __future__ import annotations

import unittest
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from textwrap import shorten
from typing import Any, ParamSpec, TypeAlias, TypeVar

from reactivex import Observable

from rxstream._check import one_of
from rxstream.errors import ConfigurationError
from rxstream.sinks.publisher import Publisher
from rxstream.testing._control import CONTROL
from rxstream.testing._lab import Broken, NotApplicable, Specimen, essence
from rxstream.testing._publishers import PUBLISHER
from rxstream.testing._rules import CheckResult, Outcome, Rule, examine
from rxstream.testing._sources import SIGNALS

__all__ = [
    "Check",
    "CheckResult",
    "ContractViolation",
    "Made",
    "Outcome",
    "Verification",
    "publisher_checks",
    "source_checks",
    "verified",
    "verify_publisher",
    "verify_source",
]

P = ParamSpec("P")
T = TypeVar("T")
Made: TypeAlias = T | Awaitable[T]
"""What a factory gives: the thing, or, of a coroutine function, the wait for it."""


@dataclass(frozen=True)
class Verification:
    """What came of all checks. As text it is a table."""

    results: tuple[CheckResult, ...]

    @property
    def broken(self) -> tuple[CheckResult, ...]:
        """The rules that are not kept."""
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def passed(self) -> bool:
        """Whether every rule that applies is kept."""
        return not self.broken

    def __str__(self) -> str:
        """First what is broken, then all the rest, a rule a line."""
        kept = sum(result.outcome == "passed" for result in self.results)
        other = [result for result in self.results if result.outcome != "failed"]
        broken = len(self.broken)
        rules = "rule" if broken == 1 else "rules"
        lines = [f"{broken} {rules} broken, {kept} kept, {len(self.results) - broken - kept} not applicable"]
        lines += [_line(result) for result in (*self.broken, *other)]
        return "\n".join(lines)


def _line(result: CheckResult) -> str:
    detail = f" -- {result.detail}" if result.detail else ""
    return f"  {result.rule:<5} {result.outcome.upper():<15} {result.means}{detail}"


class ContractViolation(AssertionError):
    """A rule, or several, are not kept. The message is the table of them."""

    def __init__(self, verification: Verification) -> None:
        super().__init__(str(verification))
        self.verification = verification


@dataclass(frozen=True)
class Check:
    """One rule and one thing. Call it to have the one held against the other."""

    rule: Rule
    specimen: Specimen

    def result(self) -> CheckResult:
        """Make the check, in a thread and on an event loop of its own, and wait for it."""
        return examine(self.rule, self.specimen)

    def __call__(self) -> None:
        """Make the check.

        Raises:
            ContractViolation: the rule is broken.
            unittest.SkipTest: it does not apply, and why.
        """
        __tracebackhide__ = True
        result = self.result()
        if result.outcome == "not applicable":
            raise unittest.SkipTest(result.detail)
        _require(result)

    def __str__(self) -> str:
        """The rule's number and first words: a name for a test."""
        return f"{self.rule.number} {shorten(self.rule.means, 40, placeholder='')}"


def source_checks(
    factory: Callable[[int], Made[Observable[Any]]],
    *,
    fails: Callable[[], Made[Observable[Any]]] | None = None,
    endless: Callable[[], Made[Observable[Any]]] | None = None,
    opens: Callable[[], int] | None = None,
    cleanup: Callable[[], Awaitable[object]] | None = None,
    key: Callable[[Any], object] = essence,
    obeys_gate: bool = True,
    cold: bool = True,
    guarded: bool = False,
    many: int = 300,
    patience: float = 10.0,
    exempt: Mapping[str, str] | None = None,
) -> list[Check]:
    """The checks of a source, one a rule: each can be a test of its own.

    Args:
        factory: Gives a fresh source of at least so many items, and its completion; asked for 0, 1 and `many`, always for
            the same items. It may be a coroutine function, which runs on the check's own loop.
        fails: Gives a source that fails, best after a few items, always the same.
        endless: Gives a source that has a few items at least and does not end by itself; `factory` for `many` items serves
            if not given.
        opens: How many connections, files or the like are open now.
        cleanup: Awaited on the loop of each check, at its end at least: closes what sources keep for the next request.
        key: What of an item is the same in two runs; by default all, but the time at which an event came.
        obeys_gate: Whether it obeys the gate of the subscriber's `rxstream.LoopScheduler`; a plain Observable of RxPY
            does not.
        cold: Whether it can be subscribed to again, and gives the same.
        guarded: Whether RxPY's guard before every observer is left in place, which silences what a source does wrong and
            disposes at the end: for what operators give, which rely on it.
        many: How many items make a long stream.
        patience: Seconds that a whole stream of `many` items may take at most, and so what should happen at once. A rule
            that is broken because something never comes takes so long.
        exempt: Rules that it need not keep, by number, such as ``{"2.2": "it is not long"}``, and why.

    Raises:
        ConfigurationError: an option is not as described.
    """
    specimen = Specimen(
        factory=factory,
        fails=fails,
        endless=endless,
        opens=opens,
        cleanup=cleanup,
        key=key,
        obeys_gate=obeys_gate,
        cold=cold,
        guarded=guarded,
        many=many,
        patience=patience,
        exempt={} if exempt is None else exempt,
    )
    return _checks(sorted((*SIGNALS, *CONTROL), key=_place), specimen)


def publisher_checks(
    factory: Callable[[int], Made[Publisher[Any]]],
    *,
    fails: Callable[[], Made[Publisher[Any]]] | None = None,
    endless: Callable[[], Made[Publisher[Any]]] | None = None,
    opens: Callable[[], int] | None = None,
    cleanup: Callable[[], Awaitable[object]] | None = None,
    key: Callable[[Any], object] = essence,
    cold: bool = True,
    many: int = 300,
    patience: float = 10.0,
    exempt: Mapping[str, str] | None = None,
) -> list[Check]:
    """The checks of a publisher, one a rule: each can be a test of its own.

    Anything will do that has the methods of `rxstream.sinks.publisher.Publisher` and of its `Subscription`.

    Args:
        factory: Gives a fresh publisher of at least so many items, and its completion.
        fails: Gives one that fails, best after a few items, always the same.
        endless: Gives one that has a few items at least and does not end by itself.
        opens: As for `source_checks`.
        cleanup: As there.
        key: As there.
        cold: Whether it has the same for every subscriber.
        many: As there.
        patience: As there.
        exempt: As there.

    Raises:
        ConfigurationError: an option is not as described.
    """
    specimen = Specimen(
        factory=factory,
        fails=fails,
        endless=endless,
        opens=opens,
        cleanup=cleanup,
        key=key,
        cold=cold,
        many=many,
        patience=patience,
        exempt={} if exempt is None else exempt,
    )
    return _checks(PUBLISHER, specimen)


def _checks(rules: list[Rule], specimen: Specimen) -> list[Check]:
    _excused(specimen.exempt, [rule.number for rule in rules])
    return [Check(rule, specimen) for rule in rules]


def _excused(exempt: Mapping[str, str] | None, rules: Sequence[str]) -> Mapping[str, str]:
    if exempt is not None and not isinstance(exempt, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("exempt: must be a dict of the numbers of rules, and why each need not be kept")
    for number in exempt or {}:
        one_of("exempt", number, rules)
    return exempt or {}


def _place(rule: Rule) -> tuple[object, ...]:
    """Where a rule stands in the table: as the chapters have it, ours last."""
    chapter, _, number = rule.number.partition(".")
    return chapter, int(number)


def _require(*results: CheckResult) -> Verification:
    __tracebackhide__ = True
    verification = Verification(results)
    if not verification.passed:
        raise ContractViolation(verification)
    return verification


def verified(
    subject: T, rules: Sequence[tuple[str, str, Callable[[T], None]]], exempt: Mapping[str, str] | None
) -> Verification:
    """Hold `subject` against each of these rules: a number, what it says, and the experiment that finds out.

    Raises:
        ContractViolation: a rule is broken; the first exception that `subject` raised is its cause.
        ConfigurationError: there is no rule of a number that is exempt.
    """
    __tracebackhide__ = True
    excused = _excused(exempt, [number for number, _, _ in rules])
    raised: list[BaseException] = []

    def result(number: str, means: str, experiment: Callable[[T], None]) -> CheckResult:
        if number in excused:
            return CheckResult(number, means, "not applicable", excused[number] or "it is exempt")
        try:
            experiment(subject)
        except NotApplicable as reason:
            return CheckResult(number, means, "not applicable", str(reason))
        except Broken as found:
            raised.extend([found.__cause__] if found.__cause__ is not None else [])
            return CheckResult(number, means, "failed", str(found))
        except Exception as error:  # noqa: BLE001 - whatever it raises breaks the rule
            raised.append(error)
            return CheckResult(number, means, "failed", f"{type(error).__name__}: {error}")
        return CheckResult(number, means, "passed")

    verification = Verification(tuple(result(*rule) for rule in rules))
    if not verification.passed:
        raise ContractViolation(verification) from next(iter(raised), None)
    return verification


def _verifying(checks: Callable[P, list[Check]], said: str) -> Callable[P, Verification]:
    """A function that makes all the checks; what it is said to do is `said`."""

    @wraps(checks)
    def verify(*args: P.args, **kwargs: P.kwargs) -> Verification:
        __tracebackhide__ = True
        return _require(*(check.result() for check in checks(*args, **kwargs)))

    verify.__name__ = verify.__qualname__ = f"verify_{checks.__name__.removesuffix('_checks')}"
    verify.__doc__ = said
    vars(verify)["__signature__"] = signature(checks).replace(return_annotation="Verification")
    return verify


verify_source = _verifying(
    source_checks,
    """Make every check of a source, and give what came of them.

    It takes what `source_checks` takes: a factory that is given a number and makes a source of at least so many items, and
    options. An Observable that does not obey the gate says ``obeys_gate=False``; one made by RxPY's operators, ``guarded=True``.
    What a factory raises is raised.

    It waits for the checks, which have event loops of their own: in a coroutine, call it by ``asyncio.to_thread``.

    Example:
        >>> from rxstream import from_iterable
        >>> from rxstream.testing import verify_source
        >>> verify_source(lambda count: from_iterable([f"{number} " for number in range(count)])).passed
        True

    Raises:
        ContractViolation: a rule is broken; its message is the table of all rules.
        ConfigurationError: an option is not as described.
    """,
)
verify_publisher = _verifying(
    publisher_checks,
    """Make every check of a publisher, and give what came of them.

    It takes what `publisher_checks` takes, and waits as `verify_source` does.

    Example:
        >>> from rxstream import from_iterable
        >>> from rxstream.sinks.publisher import Publisher
        >>> from rxstream.testing import verify_publisher
        >>> verify_publisher(lambda count: Publisher(from_iterable([f"{number} " for number in range(count)]))).passed
        True

    Raises:
        ContractViolation: a rule is broken; its message is the table of all rules.
        ConfigurationError: an option is not as described.
    """,
)
