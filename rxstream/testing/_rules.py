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
from typing import Literal, TypeAlias

from rxstream.testing._lab import Broken, Lab, NotApplicable, Specimen, Unmade

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
        if self.number in specimen.exempt:
            return specimen.exempt[self.number] or "it is exempt"
        return "; ".join(_LACKING[need] for need in self.needs if not has[need])


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
    """Hold `specimen` against `rule`.

    What a factory raises is raised.
    """
    if lacking := rule.lacking(specimen):
        return CheckResult(rule.number, rule.means, "not applicable", lacking)
    blocked = Broken("the event loop is blocked, for ever or for very long")
    outcome: list[BaseException | None] = [blocked]

    def run() -> None:
        with asyncio.Runner() as runner:
            outcome[0] = runner.run(_outcome(rule, specimen))

    thread = threading.Thread(target=run, name=f"rxstream-rule-{rule.number}", daemon=True)
    thread.start()
    thread.join(specimen.patience * 6)
    found = outcome[0] or (Broken("a task of its own cannot be cancelled") if thread.is_alive() else None)
    if isinstance(found, Unmade) and found.__cause__ is not None:
        raise found.__cause__
    if isinstance(found, NotApplicable):
        return CheckResult(rule.number, rule.means, "not applicable", str(found))
    if found is None:
        return CheckResult(rule.number, rule.means, "passed")
    detail = str(found) if isinstance(found, Broken) else f"{type(found).__name__}: {found}"
    return CheckResult(rule.number, rule.means, "failed", detail)


async def _outcome(rule: Rule, specimen: Specimen) -> BaseException | None:
    """How the rule is broken; None if it is kept."""
    try:
        await _experiment(rule, specimen)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
        return error
    return None


async def _experiment(rule: Rule, specimen: Specimen) -> None:
    lab = Lab(specimen)
    most = specimen.patience * 4
    limit = asyncio.timeout(most)
    try:
        async with limit:
            await rule.experiment(lab)
        gc.collect(1)  # a task that is forgotten tells the loop of what it raised
        lab.must(not lab.raised, f"it raised into the event loop: {'; '.join(lab.raised)}")
    except TimeoutError:
        lab.must(not limit.expired(), f"all in all it took more than {most:g} s")
        raise
    finally:
        lab.leave()
        if specimen.cleanup is not None:
            await specimen.cleanup()
