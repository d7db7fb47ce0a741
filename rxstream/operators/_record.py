"""``record``: a stream, written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from reactivex import Observable, abc

from rxstream._asking import Asked, label_of, through
from rxstream._cut import Cut
from rxstream._log import facts, log
from rxstream._outlet import Outlet
from rxstream.errors import RecordingFailed
from rxstream.events import Event, EventBase
from rxstream.loop import LoopScheduler, call_on

if TYPE_CHECKING:
    from rxstream.tapes.record import Settings
    from rxstream.tapes.redact import Rule

__all__ = ["record"]


def record(
    path: str | os.PathLike[str],
    *,
    kind: Literal["events", "bytes"] = "events",
    redact: Sequence[Rule] = ("keys", "prompts"),
    secrets: Sequence[str] = (),
    keep_raw: bool = False,
    max_bytes: int = 64 * 1024 * 1024,
    files: int = 1,
    required: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[Observable[Event]], Asked]:
    """Write a stream down on a tape, which `rxstream.tape` plays; the stream itself passes unchanged.

    ::

        source:  --Started--"Hel"--"lo"--Finished--|
             record("answer.tape")
        result:  --Started--"Hel"--"lo"--Finished--|

    A tape of ``events`` has what comes here, and when. One of ``bytes`` has what the requests above read from the network,
    which is decoded again when it is played; it needs a model's stream. What is on a tape is always the beginning of the
    truth: when something cannot be written the tape ends there, the stream goes on, and the logger ``rxstream`` is told once.

    A thread of its own writes the file, so it may be some milliseconds behind: `rxstream.tape` waits for what this process is
    about to write, and so does the end of the process. What waits for the disk is at most 8 MiB.

    Each subscription is a recording of its own, which takes the place of the one before it.

    Example:
        >>> import os, tempfile
        >>> import rxstream
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "answer.tape")
        ...     answer = rxstream.from_iterable(["Hel", "lo"]).pipe(record(path)).run()
        ...     rxstream.tape(path).run().text
        'Hello'

    Args:
        path: The file. One that is no tape is not written over.
        kind: ``"events"`` or ``"bytes"``.
        redact: What is struck out: ``"keys"``, ``"prompts"`` (which some providers say back), ``"text"`` (what the model says),
            and functions that get each text and give what is to stand there. See `rxstream.tapes.redact`.
        secrets: More keys to strike out, besides those that this process and its environment have.
        keep_raw: Write the provider's bytes behind each event, too.
        max_bytes: How long a file may be.
        files: How many files there may be; with more than one a full one, and that of a recording before, becomes ``path.1``,
            that ``path.2``, and so on. With one, the tape ends where it is full.
        required: The stream fails when it cannot be recorded, and completes only when all of it is in the file.
        metadata: What is to stand at the beginning of the tape: anything that JSON can say. Only keys, and what functions strike
            out, are struck out of it.

    Raises:
        ConfigurationError: an option is not as described; the folder is not there, or the file is something else. A subscriber
            gets `rxstream.errors.RecordingFailed` if the tape was `required`.
    """
    from rxstream.tapes.record import Settings  # noqa: PLC0415 - needs the providers, which the import of stream() does not

    settings = Settings(
        path,
        kind=kind,
        redact=redact,
        secrets=secrets,
        keep_raw=keep_raw,
        max_bytes=max_bytes,
        files=files,
        required=required,
        metadata=metadata,
    )

    def recorded(source: Observable[Event]) -> Asked:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Recording(settings, observer, LoopScheduler.of(scheduler)).subscribe(source)

        return Asked(subscribe, through(source, recorded), label_of(source))

    return recorded


class _Recording(Cut):
    """One subscription: its tape."""

    def __init__(self, settings: Settings, observer: abc.ObserverBase[Event], scheduler: LoopScheduler) -> None:
        from rxstream.tapes.record import TapeRecorder  # noqa: PLC0415 - as above

        self._tape = TapeRecorder(settings, scheduler.loop.time, self._failed)
        self._writes = settings.kind == "events"
        self._required = settings.required
        super().__init__(observer, scheduler if self._writes else scheduler.with_tap(self._tape))

    def on_next(self, event: Event) -> None:
        item = cast("object", event)
        if not isinstance(item, EventBase):
            self.refuse(item, "record")
            return
        if self._writes:
            self._tape.event(event)
        if self._required:
            if self.over:  # it could not be written: it is not delivered either
                return
            self.fold(event)
        self.emit(event)

    def release(self) -> None:
        self._tape.end("cancelled")

    def _on_error(self, error: Exception) -> None:
        self._tape.end("error", error)
        super()._on_error(error)

    def _on_completed(self) -> None:
        if self._required:
            self._tape.end("completed", then=partial(call_on, self.scheduler.loop, self._complete))
        else:
            self._tape.end("completed")
            super()._on_completed()

    def _complete(self) -> None:
        """All of it is on the tape."""
        if not self.over:
            self._end()
            self._outlet = Outlet(self._observer, self.scheduler)  # the gate may be closed by now
            self._outlet.on_completed()

    def _failed(self, error: RecordingFailed) -> None:
        call_on(self.scheduler.loop, partial(self._give_up, error))

    def _give_up(self, error: RecordingFailed) -> None:
        if self.over:  # too late to fail
            log.warning("%s", error.message, extra=facts("recording-failed", error=error))
        self.cut(error)
