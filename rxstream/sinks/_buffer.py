"""What stands between a stream and a consumer that asks for its items: a buffer with a limit, in reach of any thread.

Rules of this module:

* At its high mark the buffer holds the stream's gate, at its low mark it releases it. Where the consumer would rather
  have what is new, or be told, it drops or fails instead; what it drops it counts.
* A source that does not stop when it is held has a limit, too.
* An end comes after all that waits, and is told once.
* The buffer knows nothing of its consumer, so that a consumer that is forgotten can go, and the request with it.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Generic, Literal, TypeAlias, TypeVar

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxstream._blame import because_of, foreign
from rxstream._check import count, kind_of, one_of
from rxstream._outlet import MOST
from rxstream.errors import ConfigurationError, LimitExceeded
from rxstream.gate import Gate

__all__ = ["HIGH", "LOW", "Buffer", "Overflow", "refuse_other"]

T = TypeVar("T")
HIGH, LOW = 64, 16
"""Items in the buffer at which the stream is held, and released again."""
Overflow: TypeAlias = Literal["hold", "drop_oldest", "drop_newest", "latest", "error"]
"""What a full buffer does: hold the source; drop what has waited longest, or what comes; keep but the last; fail."""
_OVERFLOWS = ("hold", "drop_oldest", "drop_newest", "latest", "error")
_numbers = itertools.count(1)


def refuse_other(source: object) -> None:
    """Refuse what is no Observable.

    Raises:
        ConfigurationError: `source` is none.
    """
    if not isinstance(source, Observable):
        raise ConfigurationError(
            f"source is {kind_of(source)}, not a Stream or another Observable; rxstream.from_iterable makes one"
        )


class Buffer(Generic[T]):
    """What has arrived and was not asked for yet.

    Args:
        name: What its hold is called in ``gate.holds``; a number is added.
        gate: Of the stream.
        high: Items at which the gate is held, or that may wait.
        low: Items at which it is released; by default a quarter of `high`.
        overflow: What to do when it is full.

    Raises:
        ConfigurationError: an option is not as described.
    """

    def __init__(
        self, name: str, gate: Gate, *, high: int = HIGH, low: int | None = None, overflow: Overflow = "hold"
    ) -> None:
        self.high = count("high", high)
        self.low = high * LOW // HIGH if low is None else count("low", low, least=0)
        if self.low >= high:
            raise ConfigurationError(f"low={low}: must be less than high={high}")
        one_of("overflow", overflow, _OVERFLOWS)
        self._most = {"hold": max(MOST, high), "latest": 1}.get(overflow, high)
        self._overflow = overflow
        self.name = f"{name}-{next(_numbers)}"
        self.gate = gate
        # A full deque with a maximum drops its oldest by itself, and is never empty meanwhile: no lock is needed.
        self.items: deque[T] = deque(maxlen=self._most if overflow in ("drop_oldest", "latest") else None)
        self.dropped = 0
        self.error: Exception | None = None
        self.ended = False
        self.subscription = SingleAssignmentDisposable()
        """Of what fills it."""

    def on_next(self, item: T) -> None:
        if self.ended or (len(self.items) >= self._most and not self._admit()):
            return
        self.items.append(item)
        if len(self.items) == self.high and self._overflow == "hold":
            self._hold()
        self.wake()

    def on_error(self, error: Exception) -> None:
        self.error = error
        with because_of(foreign(error)):
            self.subscription.dispose()
        self.on_completed()

    def on_completed(self) -> None:
        self.ended = True
        self.gate.release(self.name)
        self.wake()

    def wake(self) -> None:
        """Tell the consumer that something has come, from any thread. To be overridden."""

    def take(self) -> T:
        """The next item; asked for only if there is one."""
        item = self.items.popleft()
        if len(self.items) == self.low:
            self.gate.release(self.name)
        return item

    def emptied(self) -> None:
        """There is nothing left: a producer in another thread may have held the gate after we had emptied it."""
        if self.gate.closed and not self.items:
            self.gate.release(self.name)

    def end(self) -> Exception | None:
        """The error to tell, once; None at the proper end."""
        error, self.error = self.error, None
        return error

    def close(self) -> None:
        """Nobody wants more: dispose what fills it. What is there can still be taken."""
        self.subscription.dispose()
        self.on_completed()

    def _hold(self) -> None:
        self.gate.hold(self.name)
        if self.ended:  # in this very moment, by another thread
            self.gate.release(self.name)

    def _admit(self) -> bool:
        """Whether an item that finds the buffer full goes in all the same."""
        if self._overflow in ("hold", "error"):
            self.subscription.dispose()
            self.on_error(
                LimitExceeded(f"more than {self._most} items wait for a consumer that is slower than the stream")
            )
            return False
        self.dropped += 1
        return self._overflow != "drop_newest"
