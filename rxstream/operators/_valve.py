"""``valve``: a tap anywhere in a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from rxstream._backlog import Backlog, BufferStatistics, Overflow
from rxstream._check import count, flag, instance, one_of
from rxstream.errors import ConfigurationError
from rxstream.gate import Gate
from rxstream.loop import LoopScheduler, call_on

__all__ = ["valve"]

T = TypeVar("T")
_READ_AHEAD = 64
_RULES: dict[str, Overflow] = {
    "hold": "hold",
    "drop_newest": "drop_newest",
    "drop_oldest": "drop_oldest",
    "latest": "drop_oldest",
    "error": "error",
}
_FIXED = {"latest": 1, "error": 0}
"""What the policies keep that leave no choice."""


def valve(
    gate: Gate | Observable[bool],
    *,
    closed: Literal["hold", "drop_newest", "drop_oldest", "latest", "error"] = "hold",
    read_ahead: int | None = None,
    initially_open: bool = True,
    statistics: BufferStatistics | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Let items through while `gate` is open.

    ::

        gate:    --T------F-----------T--------|
        source:  --a--b--c--d--e--f-------g----|
             valve(gate)
        result:  --a--b---------------cdef-g---|

    What happens while it is closed is `closed`:

    * ``hold``: nothing is lost. `read_ahead` items wait here, then the source is held until a quarter of them is left. A
      source that obeys no gate may go 65 536 items over; then the stream ends in an error.
    * ``drop_newest``, ``drop_oldest``: the first `read_ahead` items are kept, or the last.
    * ``latest``: the last item is kept.
    * ``error``: the first item that comes ends the stream, at once.

    Of events only text, thinking, refusals, log probabilities, status and heartbeats are dropped, and gaps in ``seq`` tell;
    all others are kept and do not count.

    When it opens, what waits comes first, in order. An end, proper or not, comes after that and so when it opens. Only the
    failure of a `gate` that is an Observable comes at once, after what waits: nobody is left to open it.

    The subscriber's own gate is obeyed as well, and the source obeys both.

    RxJava's extensions have it as ``valve``, Akka Streams as ``Valve``.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> from rxstream import Gate
        >>> tap = Gate()
        >>> rx.of(1, 2, 3).pipe(valve(tap), ops.to_list()).run()
        [1, 2, 3]

    Args:
        gate: What opens and closes it. An Observable, which may speak in any thread, says True for open; its end leaves the
            valve as it is, its error ends the stream.
        closed: What to do with what comes while it is closed.
        read_ahead: Items that wait while it is closed; 64 by default. ``latest`` and ``error`` have no choice.
        initially_open: Of an Observable: whether the valve is open before it has said anything.
        statistics: Filled in; may be read from any thread.

    Raises:
        ConfigurationError: an option is not as described. A subscriber gets `LimitExceeded`.
    """
    one_of("closed", closed, _RULES)
    flag("initially_open", initially_open)
    if not isinstance(gate, (Gate, Observable)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"gate={gate!r}: must be a Gate or an Observable of bools")
    if isinstance(gate, Gate) and not initially_open:
        raise ConfigurationError("initially_open=False: a Gate is open or closed by itself; hold it")
    if read_ahead is not None and closed in _FIXED:
        raise ConfigurationError(f"read_ahead={read_ahead!r}: closed={closed!r} keeps {_FIXED[closed]}")
    ahead = _READ_AHEAD if read_ahead is None else count("read_ahead", read_ahead, least=int(closed == "hold"))
    capacity = _FIXED.get(closed, ahead)

    instance("statistics", statistics, BufferStatistics)

    def valved(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            clock = LoopScheduler.of(scheduler)
            own = gate if isinstance(gate, Gate) else Gate()
            backlog = Backlog(
                observer,
                clock,
                capacity=capacity,
                overflow=_RULES[closed],
                valve=own,
                statistics=statistics,
            )
            if isinstance(gate, Gate):
                return backlog.connect(source)
            turn = _Turn(own, initially_open)

            def failed(error: Exception) -> None:
                call_on(clock.loop, partial(backlog.give_up, error))  # a control may be in any thread

            control = gate.subscribe(turn, failed, scheduler=clock.with_gate(Gate()))
            return CompositeDisposable(control, backlog.connect(source))

        return Observable(subscribe)

    return valved


class _Turn:
    """Opens and closes a gate."""

    def __init__(self, gate: Gate, is_open: bool) -> None:
        self._gate = gate
        self(is_open)

    def __call__(self, is_open: bool) -> None:
        if is_open:
            self._gate.release("valve")
        else:
            self._gate.hold("valve")
