"""``switch_latest``: a new prompt ends the answer to the one before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._check import function, kind_of
from rxstream._outlet import Outlet
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.observable import Stream
from rxstream.tracks._attempts import parting
from rxstream.tracks._lane import AnswerLabels, Lane, checked

__all__ = ["switch_latest"]

P = TypeVar("P")


def switch_latest(prompts: Observable[P], ask: Callable[[P], Observable[Event]]) -> Stream[Event]:
    """Answer each prompt, until the next one comes: then its request is closed at once, and the next one is made.

    ::

        prompts: --"Who"------"Who is"--------------|
             switch_latest(prompts, ask)
        result:  ----#1("A")--Cancelled#1---#2("B")--#2("C")--Finished#2--|

    For completion while somebody types. It is Rx's ``switch_map``, with an end for each answer: one that is closed ends with
    what it had used (`UsageReported`) and `Cancelled`, one that fails with `Failed`, and the next prompt is answered all the
    same. The events of the n-th answer carry the label of its stream and ``#n`` (``answer#n`` where it has none), so that no two
    answers mix: take them apart with `rxstream.operators.responses` or ``group_by``. Completes when there are no more prompts
    and the last answer has ended.

    Example:
        >>> import reactivex as rx
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> from rxstream import tracks
        >>> answers = tracks.switch_latest(rx.of("a", "b"), lambda prompt: rxstream.from_iterable([prompt.upper()]))
        >>> {label: answer.text for label, answer in answers.pipe(rxo.responses()).run().items()}
        {'answer#1': '', 'answer#2': 'B'}

    Args:
        prompts: They may come from any thread.
        ask: Makes the stream that answers a prompt; what it raises ends all.

    Returns:
        The events of all answers. Fails when `prompts` does.

    Raises:
        ConfigurationError: `prompts` is no Observable, or `ask` no function.
    """
    if not isinstance(prompts, Observable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"prompts is {kind_of(prompts)}, not an Observable")
    function("ask", ask)

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _Switch(ask, observer, LoopScheduler.of(scheduler)).start(prompts)

    return Stream(subscribe)


class _Numbered(AnswerLabels):
    """With the number of the prompt."""

    def of(self, lane: int, source: str, *, attempt: int | None = None) -> str:
        return f"{super().of(lane, source or 'answer', attempt=attempt)}#{lane + 1}"


class _Switch(Generic[P]):
    def __init__(
        self, ask: Callable[[P], Observable[Event]], observer: abc.ObserverBase[Event], scheduler: LoopScheduler
    ) -> None:
        self._ask = ask
        self._scheduler = scheduler
        self._outlet = Outlet(observer, scheduler, overflowed=self._stop)
        self._prompts = SingleAssignmentDisposable()
        self._lane: Lane | None = None
        self._number = 0
        self._last = False  # there are no more prompts
        self._over = False

    def start(self, prompts: Observable[P]) -> abc.DisposableBase:
        self._prompts.disposable = prompts.subscribe(
            lambda prompt: self._call(partial(self._answer, prompt)),
            lambda error: self._call(partial(self._end, error)),
            lambda: self._call(self._no_more),
            scheduler=self._scheduler,
        )
        return Disposable(partial(self._call, self._dispose))

    def _call(self, action: Callable[[], None]) -> None:
        call_on(self._scheduler.loop, action)

    def _answer(self, prompt: P) -> None:
        if self._over:
            return
        self._number += 1
        number = self._number
        if self._lane is not None and not self._lane.over:
            self._outlet.items.extend(parting(self._lane, "a newer prompt came"))
            self._outlet.flush()
        if self._outdated(number):
            return
        try:
            (source,) = checked((self._ask(prompt),))
        except Exception as error:  # noqa: BLE001 - the user's own
            self._end(error)
            return
        if not self._outdated(number):
            self._lane = Lane(
                number - 1,
                source,
                self._scheduler,
                labels=_Numbered(),
                on_event=lambda _, event: self._outlet.on_next(event),
                on_end=lambda _: self._complete(),
            )
            self._lane.start()

    def _outdated(self, number: int) -> bool:
        """Whether a newer prompt has come, or nobody listens any more: from within what was called."""
        return self._over or number != self._number

    def _no_more(self) -> None:
        self._last = True
        self._complete()

    def _complete(self) -> None:
        if self._last and (self._lane is None or self._lane.over):
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._stop()
        if error is None:
            self._outlet.on_completed()
        else:
            self._outlet.on_error(error)

    def _stop(self) -> None:
        self._over = True
        self._prompts.dispose()
        if self._lane is not None:
            self._lane.close()

    def _dispose(self) -> None:
        self._outlet.dispose()
        self._stop()
