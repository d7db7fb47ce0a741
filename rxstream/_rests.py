"""What is left to do for the streams of a manager that are over: to close what their sources opened, and to tell slow handlers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, NamedTuple

from rxstream.gate import Gate
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks._lane import Caller

__all__ = ["Rest", "Rests"]

_LOOK: Final = 0.001
"""Seconds between two looks at whether sources have closed."""
_MANY: Final = 64
"""They are looked through when there are so many."""


class Rest(NamedTuple):
    """What may be left to do for a stream."""

    gate: Gate
    dispatch: Dispatch | None
    """None if nobody waits to be told."""

    @classmethod
    def of(cls, gate: Gate, dispatch: Dispatch) -> Rest:
        """That of a stream with this gate and these handlers."""
        return cls(gate, dispatch if _waiting(dispatch) else None)

    @property
    def done(self) -> bool:
        """Whether nothing is."""
        return not self.gate.watched and not (self.dispatch is not None and _waiting(self.dispatch))

    async def settled(self, caller: Caller) -> None:
        """Wait until it is done, but for the handler that `caller` is in: that would wait for itself."""
        if self.dispatch is not None:
            await self.dispatch.settled(caller)
        while self.gate.watched:  # noqa: ASYNC110 - whoever watches it is not made to tell that he does no more
            await asyncio.sleep(_LOOK)

    async def given_up(self, caller: Caller) -> None:
        """Forget what waits for slow handlers, and break off the call that is at work, unless `caller` is in it."""
        if self.dispatch is not None and not self.dispatch.calls(caller):
            self.dispatch.dispose()
            await self.dispatch.settled()


class Rests:
    """Those of all streams. Used on the manager's loop."""

    def __init__(self) -> None:
        self._rests: list[Rest] = []
        self._most = _MANY

    def add(self, rest: Rest) -> None:
        """One more."""
        self._rests.append(rest)
        if len(self._rests) > self._most:
            self._rests = [rest for rest in self._rests if not rest.done]
            self._most = 2 * len(self._rests) + _MANY

    async def settled(self, timeout: float, caller: Caller) -> None:  # noqa: ASYNC109 - it ends otherwise then, and raises nothing
        """Wait until all are done, at most `timeout` seconds; what is left then is given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for rest in self._rests:
                    await rest.settled(caller)
        for rest in self._rests:
            await rest.given_up(caller)


def _waiting(dispatch: Dispatch) -> bool:
    return any(figure.waiting for figure in dispatch.figures().values())
