"""A stream with a handler: what ``Stream.subscribe`` and ``Stream.start`` do with one."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import Any

from reactivex import Observable, Observer, abc
from reactivex.disposable import Disposable

from rxstream._asking import asking_of
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.loop import LoopScheduler, call_on
from rxstream.session import SessionStatus, StreamSession
from rxstream.sinks._observing import Observing
from rxstream.sinks.handler import StreamHandler, StreamMetadata

__all__ = ["start_handler", "subscribe_handler"]


def subscribe_handler(
    source: Observable[Any], handler: StreamHandler, label: str, scheduler: abc.SchedulerBase | None
) -> abc.DisposableBase:
    """Subscribe `source` for `handler`."""
    on = LoopScheduler.of(scheduler)
    observing = Observing(handler, _metadata(source, label), on)
    observing.start()
    observing.subscription.disposable = source.subscribe(
        observing.on_next, observing.on_error, observing.on_completed, scheduler=on
    )
    return Disposable(observing.dispose)


def start_handler(source: Observable[Event], handler: StreamHandler, label: str) -> StreamSession:
    """A running session of `source` that tells `handler`, of pauses too."""

    def on_next(event: Event) -> None:  # the session comes first: its gate is the one to hold
        observing.on_next(event)

    def on_error(error: Exception) -> None:
        observing.on_error(error)

    def on_completed() -> None:
        observing.on_completed()

    told: Observer[Event] = Observer(on_next, on_error, on_completed)
    session = StreamSession(source, told, label=label, changed=lambda status: _tell(observing, session, status))
    on = LoopScheduler(session.loop, gate=session.gate)
    observing = Observing(handler, _metadata(source, label), on, fail=session.fail, answer=lambda: session.partial)
    observing.start()
    return session.start()


def _tell(observing: Observing, session: StreamSession, status: SessionStatus) -> None:
    if status == "paused":
        call_on(session.loop, observing.dispatch.paused)
    elif status == "active":
        call_on(session.loop, observing.dispatch.resumed)


def _metadata(source: Observable[Any], label: str) -> StreamMetadata:
    known = partial(StreamMetadata, stream_id=uuid.uuid4().hex, label=label, started_at=time.time())
    asking = asking_of(source)
    try:
        return known() if asking is None else known(provider=asking.key.provider, model=asking.key.model)
    except ConfigurationError:  # which the request will tell
        return known()
