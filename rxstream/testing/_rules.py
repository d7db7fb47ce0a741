"""What a rule is, what is held against it, and how one is held against the other.

Each check has a thread and an event loop of its own: what it leaves behind does not disturb the next, one that blocks its
loop is found out, and a running loop is no hindrance.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rxstream.testing._lab import Broken, Lab, NotApplicable, Specimen

__all__ = ["CheckResult", "Need", "Outcome", "Rule", "examine", "rules_of"]

Outcome: TypeAlias = Literal["passed", "failed", "not applicable"]
Need: TypeAlias = Literal["gate", "fails", "opens", "cold", "once"]
_LACKING: Mapping[Need, str] = {
    "gate": "it does not obey the gate",
    "fails": "no fails= was given",
    "opens": "no opens= was given",
    "cold": "it can be subscribed to only once",
    "once": "it can be subscribed to again",
}


@dataclass(frozen=True)
class CheckResult:
    """What came of one check."""

    rule: str
    """The number of the rule, as in Reactive Streams; with a G those that rxstream adds for its gate."""
    means: str
    """What the rule says."""
    outcome: Outcome
    detail: str = ""
    """How it was broken; why it does not apply."""


@dataclass(frozen=True)
class Rule:
    """A rule, and the experiment that finds out whether it is kept."""

    number: str
    means: str
    needs: tuple[Need, ...]
    experiment: Callable[[Lab], Awaitable[None]]

    def lacking(self, specimen: Specimen) -> str:
        """Why it does not apply to `specimen`; empty if it does."""
        has = {
            "gate": specimen.obeys_gate,
            "fails": specimen.fails is not None,
            "opens": specimen.opens is not None,
            "cold": specimen.cold,
            "once": not specimen.cold,
        }
        exempt = specimen.exempt.get(self.number, "")
        return exempt or "; ".join(_LACKING[need] for need in self.needs if not has[need])


def rules_of(
    rules: list[Rule],
) -> Callable[..., Callable[[Callable[[Lab], Awaitable[None]]], Callable[[Lab], Awaitable[None]]]]:
    """A decorator that makes an experiment a rule of `rules`."""

    def rule(
        number: str, means: str, *needs: Need
    ) -> Callable[[Callable[[Lab], Awaitable[None]]], Callable[[Lab], Awaitable[None]]]:
        def add(experiment: Callable[[Lab], Awaitable[None]]) -> Callable[[Lab], Awaitable[None]]:
            rules.append(Rule(number, means, needs, experiment))
            return experiment

        return add

    return rule


def examine(rule: Rule, specimen: Specimen) -> CheckResult:
    """Hold `specimen` against `rule`."""
    if lacking := rule.lacking(specimen):
        return CheckResult(rule.number, rule.means, "not applicable", lacking)
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(_experiment(rule, specimen))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, name=f"rxstream-rule-{rule.number}", daemon=True)
    thread.start()
    thread.join(specimen.patience * 6)
    found: Any = outcome[0] if outcome else Broken("the event loop is blocked, for ever or for very long")
    if isinstance(found, NotApplicable):
        return CheckResult(rule.number, rule.means, "not applicable", str(found))
    if found is None:
        return CheckResult(rule.number, rule.means, "passed")
    detail = str(found) if isinstance(found, Broken) else f"{type(found).__name__}: {found}"
    return CheckResult(rule.number, rule.means, "failed", detail)


async def _experiment(rule: Rule, specimen: Specimen) -> None:
    lab = Lab(specimen)
    try:
        async with asyncio.timeout(specimen.patience * 4):
            await rule.experiment(lab)
        gc.collect(1)  # a task that is forgotten tells the loop of what it raised
        lab.must(not lab.raised, f"it raised into the event loop: {'; '.join(lab.raised)}")
    finally:
        lab.leave()
        if specimen.cleanup is not None:
            await specimen.cleanup()
