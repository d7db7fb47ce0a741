"""``meter``: what a stream takes, measured as it passes."""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from msgspec import structs
from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxstream._asking import Asked, Asking, asking_of, label_of, request_of, through
from rxstream._blame import blamed
from rxstream._check import instance, kind_of, positive, show
from rxstream._probe import Place
from rxstream.aggregate import Answers
from rxstream.errors import Cancelled, ConfigurationError, StreamError, error_info
from rxstream.events import (
    CONTENT_EVENTS,
    ErrorInfo,
    Event,
    EventBase,
    Failed,
    Phase,
    Retracted,
    Retrying,
    Seam,
    Started,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from rxstream.events import Cancelled as Left
from rxstream.loop import LoopScheduler, call_on, running_loop
from rxstream.metrics import Measurement, MetricsSink, StreamMetrics, StreamOpened, StreamOutcome, TracingSink
from rxstream.operators._course import TELLING, Course
from rxstream.operators._outside import Outside
from rxstream.operators._spells import Spells
from rxstream.sketch import SMALLEST, Sketch

if TYPE_CHECKING:
    from rxstream.operators._course import Telling
    from rxstream.response import Response

__all__ = ["meter"]

_CONTENT: Final = frozenset(CONTENT_EVENTS)
_OURS: Final = frozenset({Failed, Left, Retracted, Retrying, Seam, UsageReported})
"""What is told, by us, of an attempt that failed or a track that was left; and what it used."""
_numbers = itertools.count(1)


def meter(*sinks: MetricsSink, label: str = "", stall: float = 3.0) -> Callable[[Observable[Event]], Asked]:
    """Measure the stream as it passes, and tell `sinks` when it is over: latencies, rate, queue, stalls, pauses, retries, usage.

    ::

        source:  --Started--"Hel"--"lo"--Finished|
             meter(sink)
        result:  --Started--"Hel"--"lo"--Finished|     the sink: StreamOpened … StreamMetrics

    Events pass unchanged. Each subscription is measured by itself, and told exactly once, however it ends. Put it behind
    ``retry_stream`` to measure what the user waits for, before it to measure each request; before a combination, to measure each
    track. Memory is constant: latencies are kept as a `rxstream.Sketch`.

    Output is timed by when its bytes were read, so neither a pause nor a slow consumer looks like a slow model.

    Example:
        >>> import rxstream
        >>> from rxstream.telemetry.memory import MemorySink
        >>> sink = MemorySink()
        >>> rxstream.from_iterable(["Hel", "lo"]).pipe(meter(sink)).run().text
        'Hello'
        >>> [(told.outcome, told.outputs, told.retries) for told in sink.streams]
        [('completed', 2, 0)]

    Args:
        sinks: Who is told: `rxstream.telemetry` has some; any object with a method ``record`` is one.
        label: What the stream is called; its track's name if not given.
        stall: Seconds without output, between two pieces of it, that count as a stall.

    Raises:
        ConfigurationError: there is no sink, one has no plain method ``record``, `label` is no string, or `stall` is not greater
            than 0.
    """
    positive("stall", stall)
    instance("label", label, str)
    if not sinks:
        raise ConfigurationError("meter() needs at least one sink")
    for number, sink in enumerate(sinks, 1):
        if isinstance(sink, type) or not callable(getattr(sink, "record", None)):
            raise ConfigurationError(f"sink {number}, {show(sink)}: must be an object with the method record")
        if inspect.iscoroutinefunction(sink.record):
            raise ConfigurationError(
                f"sink {number}, {show(sink)}: record must be a plain function, nobody would await it"
            )

    def metered(source: Observable[Event]) -> Asked:
        asking, name = asking_of(source), label or label_of(source)
        request = request_of(source)

        def measured(events: Observable[Event]) -> Asked:
            def subscribe(
                observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                on = LoopScheduler.of(scheduler)
                opened = _opened(asking, name, request, time.time() - on.turn.waited)
                return _Meter(opened, sinks, stall, observer, on).start(events)

            return Asked(subscribe, through(source, measured), label_of(source))

        return measured(source)

    return metered


def _opened(asking: Asking | None, label: str, request: object, started_at: float) -> StreamOpened:
    who = {} if asking is None else asking.key._asdict()
    return StreamOpened(id=next(_numbers), label=label, started_at=started_at, request=request, **who)


def _call(tell: Callable[..., object], *given: object) -> None:
    tell(*given)


class _Meter:
    """One subscription. `on_next` is the hot path: it looks up a type, subtracts, compares, and counts in a bucket."""

    detailed = False  # as a probe, it asks for the queue alone

    def __init__(
        self,
        opened: StreamOpened,
        sinks: Sequence[MetricsSink],
        stall: float,
        observer: abc.ObserverBase[Event],
        on: LoopScheduler,
    ) -> None:
        self._opened, self._sinks, self._observer, self._on = opened, sinks, observer, on
        self._emit: Callable[[Event], object] = observer.on_next
        self._time, self._gate = on.loop.time, on.gate
        self._upstream = SingleAssignmentDisposable()
        self._over = False
        self._last = self._time()
        self._begun = self._last - on.turn.waited
        self._gaps = Sketch()
        self._buckets, self._scale, self._shift = self._gaps.buckets, self._gaps.scale, self._gaps.shift
        self._stall = stall
        self._longest = -1.0  # a longer gap is looked at: a stall; the first output; what comes after a pause
        self._events = self._outputs = self._stalls = 0
        self._first_event: float | None = None
        self._first_chunk: float | None = None
        self._first_output: float | None = None
        self._stalled = self._left_out = 0.0
        self._course = Course()
        self._thought = False
        self._queue = Spells()
        self._queue.total = on.turn.waited
        self._pause = Spells()
        self._paused_since = self._paused_until = self._unseen = 0.0  # of the pauses since the last output
        tracing = [sink for sink in sinks if isinstance(sink, TracingSink)]
        self._tracing = tracing
        self._outside: Callable[..., object] = _call
        self._answers = Answers() if any(sink.wants_response for sink in tracing) else None

    def start(self, source: Observable[Event]) -> abc.DisposableBase:
        self._tell(self._opened)
        self._gate.watch(self._gate_changed)
        if self._gate.closed:
            self._gate_changed()
        on = self._on.with_probe(self)
        before = copy_context()
        contexts = ExitStack()
        try:
            for sink in self._tracing:
                self._guarded(partial(self._enter_context, contexts, sink))
            if self._tracing:
                self._outside = outside = Outside(before)
                self._emit = outside.around(self._observer.on_next)
            self._upstream.disposable = source.subscribe(self.on_next, self._fail, self._complete, scheduler=on)
        finally:
            self._guarded(contexts.close)
        return Disposable(self._dispose)

    def _enter_context(self, contexts: ExitStack, sink: TracingSink) -> None:
        contexts.enter_context(sink.around(self._opened))

    # --- events -----------------------------------------------------------------------------------------------------------

    def on_next(self, event: Event) -> None:
        self._events += 1
        kind = type(event)
        if kind in _CONTENT and (kind is not TextDelta or event.text):  # type: ignore[union-attr]  # only then it has a text
            at = event.at
            if at < self._last or not at:
                at = self._placed(at)
            gap = at - self._last
            if gap > self._longest:
                at = self._look_at(at)
            elif gap > SMALLEST:
                bucket = int(math.log(gap) * self._scale + self._shift)
                self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
            else:
                self._gaps.zeros += 1
            self._last = at
            self._outputs += 1
            if kind is ThinkingDelta:
                self._thought = True
        elif not self._note(event):
            return
        if self._answers is not None:
            self._answers.add(event)
        self._emit(event)

    def _placed(self, at: float) -> float:
        """When it came, where the event itself does not say so in the loop's time, or says that it came before another."""
        return max(self._last, self._time()) if at < self._begun or not at else self._last

    def _look_at(self, at: float) -> float:
        """The first output, a long gap, or one that a pause may be in; what comes out of the future has another's clock."""
        at = min(at, self._time())
        if self._first_output is None:
            self._first_output = at - self._begun
            if self._first_event is None:
                self._first_event = self._first_output
            if self._first_chunk is None:
                self._first_chunk = max(0.0, self._first_output - self._queue.total)
        else:
            pause = self._pause_before(at)
            gap = max(0.0, at - self._last - pause)
            self._left_out += pause
            self._gaps.add(gap)
            if gap > self._stall:
                self._stalls += 1
                self._stalled += gap
        self._longest = -1.0 if self._unseen else self._stall
        return at

    def _pause_before(self, at: float) -> float:
        """How much of the gap before `at` was a pause; of what was read in the pause, nothing: its time is its own."""
        if not self._unseen or at < self._paused_until:
            return 0.0
        pause = min(self._unseen, self._paused_until - max(self._paused_since, self._last))
        self._unseen = 0.0
        return max(0.0, pause)

    def _note(self, event: object) -> bool:
        """What is no content; False if it is no event at all."""
        if not isinstance(event, EventBase):
            self._refuse(event)
            return False
        kind = type(event)
        if self._first_chunk is None and (self._first_event is None or kind not in _OURS):
            self._note_first(event)
        if kind in TELLING:
            self._course.note(cast("Telling", event), self._time() - self._begun)
        return True

    def _note_first(self, event: EventBase) -> None:
        now = self._time()
        after = (event.at if self._last <= event.at <= now and event.at else now) - self._begun
        if self._first_event is None:
            self._first_event = after
        if type(event) not in _OURS:
            self._first_chunk = max(0.0, after - self._queue.total)

    # --- where it waits -------------------------------------------------------------------------------------------------------

    def enter(self, place: Place) -> None:
        if place == "queue":
            self._queue.begin(self._time())

    def leave(self, place: Place) -> None:
        if place == "queue":
            self._queue.end(self._time())

    def _gate_changed(self) -> None:
        """From any thread, but one at a time: the gate sees to it."""
        now = self._time()
        if self._gate.closed:
            if not self._pause.open:  # told of it twice, where it was closed while this began
                self._pause.begin(now)
            return
        since = self._pause.since
        if self._pause.end(now):
            if not self._unseen:
                self._paused_since = since
            self._unseen += now - since
            self._paused_until = now
            self._longest = -1.0

    # --- endings --------------------------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        self._end("cancelled" if isinstance(error, Cancelled) else "failed", error)
        self._outside(self._observer.on_error, error)

    def _complete(self) -> None:
        self._end("completed")
        self._outside(self._observer.on_completed)

    def _refuse(self, item: object) -> None:
        error = ConfigurationError(f"meter gets {kind_of(item)}, not an event: put it before text() or map()")
        self._upstream.dispose()
        self._fail(error)

    def _dispose(self) -> None:
        """From any thread. Whoever leaves has cancelled, but for an error of his own, or where the answer is whole."""
        error = blamed()
        self._upstream.dispose()
        loop = self._on.loop
        end = partial(self._end, "failed" if error else "completed" if self._course.whole else "cancelled", error)
        if not loop.is_running() or running_loop() is loop:
            end()  # also where no loop is there to do it on
        else:
            call_on(loop, end)

    def _end(self, outcome: StreamOutcome, error: Exception | None = None) -> None:
        if self._over:
            return
        self._over = True
        self._gate.unwatch(self._gate_changed)
        now = self._time()
        self._pause.close(now)
        self._queue.close(now)
        self._tell(self._metrics(outcome, error, now))

    def _metrics(self, outcome: StreamOutcome, error: Exception | None, now: float) -> StreamMetrics:
        course, first, opened = self._course, self._first_output, self._opened
        started = course.started or Started()
        return StreamMetrics(
            opened=opened,
            outcome=outcome,
            duration=now - self._begun,
            error=None if error is None else self._told(error),
            finish_reason=None if course.finished is None else course.finished.reason,
            response_id=started.id,
            response_model=started.model,
            provider=started.provider or opened.provider,
            first_event=self._first_event,
            first_chunk=self._first_chunk,
            first_output=first,
            gaps=self._gaps,
            speaking=0.0 if first is None else max(0.0, self._last - self._begun - first - self._left_out),
            events=self._events,
            outputs=self._outputs,
            thought=self._thought,
            usage=course.usage,
            queue=self._queue.total,
            pauses=self._pause.times,
            paused=self._pause.total,
            stalls=self._stalls,
            stalled=self._stalled,
            retries=course.retries,
            retried=tuple(course.retried),
            retracted=course.retracted,
            response=self._answer(),
        )

    def _told(self, error: Exception) -> ErrorInfo:
        """`error` as data; of one that is the subscriber's, how far the stream was when it came."""
        if isinstance(error, StreamError) or self._first_event is None:
            return error_info(error)
        speaking: Phase = "first_output" if self._first_output is None else "output"
        return structs.replace(error_info(error), phase="finish" if self._course.whole else speaking)

    def _answer(self) -> Response | None:
        return self._answers.response() if self._answers is not None and self._answers.count < 2 else None

    def _tell(self, measurement: Measurement) -> None:
        for sink in self._sinks:
            self._guarded(partial(sink.record, measurement))

    def _guarded(self, call: Callable[[], object]) -> None:
        """What a sink raises changes nothing for the stream."""
        try:
            call()
        except Exception as raised:  # noqa: BLE001 - the sink's own
            context = {"message": "a sink of metrics raised an exception", "exception": raised}
            call_on(self._on.loop, partial(self._on.loop.call_exception_handler, context))
