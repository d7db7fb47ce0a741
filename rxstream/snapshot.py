"""What one track has come to so far, as a value that does not change.

Rules of this module:

* A `Snapshot` costs the same however long the text is: the text is joined when it is asked for.
* Times are seconds since the request, None where it has not come to that. The caller has the clock, not this module.
* `Retracted` and text that goes on in another attempt are obeyed, as in `rxstream.aggregate`; the text is that of the
  first choice.
"""

from __future__ import annotations

from io import StringIO
from typing import Literal

import msgspec

from rxstream._fold import Fold
from rxstream.events import (
    CONTENT_EVENTS,
    ErrorInfo,
    Event,
    Failed,
    Finished,
    FinishReason,
    PartEnd,
    Retracted,
    Started,
    TextDelta,
    UsageReported,
)
from rxstream.usage import Usage

__all__ = ["Said", "Snapshot", "SnapshotFold", "SnapshotStatus"]

SnapshotStatus = Literal["waiting", "active", "completed", "failed", "cancelled"]
"""``waiting`` nothing came yet; ``active`` events come; the others are final."""

_CONTENT = frozenset(CONTENT_EVENTS)


class Said:
    """The first characters of a text that goes on being written: made without copying them."""

    __slots__ = ("_buffer", "_length", "_text")

    def __init__(self, buffer: StringIO, length: int) -> None:
        self._buffer = buffer
        self._length = length
        self._text: str | None = None

    @classmethod
    def of(cls, text: str) -> Said:
        """All of `text`."""
        return cls(StringIO(text), len(text))

    def grown_from(self, before: Said) -> bool:
        """Whether this is `before` and what was written after it; if not, the text was changed, too."""
        return self._buffer is before._buffer and self._length >= before._length

    def __len__(self) -> int:
        return self._length

    def __str__(self) -> str:
        """The text."""
        if self._text is None:
            self._text = self._buffer.getvalue()[: self._length]
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Said) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        text = str(self)
        return repr(text if len(text) <= 40 else f"{text[:39]}…")


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one track at one moment."""

    label: str
    status: SnapshotStatus = "waiting"
    said: Said
    """The answer's text so far; `text` has it as a string."""
    model: str = ""
    provider: str = ""
    outputs: int = 0
    """Events with content; with most providers one is about a token."""
    first_output: float | None = None
    """When the first content came."""
    last_output: float | None = None
    ended: float | None = None
    """When it completed, failed or was cancelled."""
    usage: Usage = Usage()
    """Of all its attempts, as far as it was reported."""
    finish_reason: FinishReason | None = None
    """Why the model stopped; None if it has not."""
    error: ErrorInfo | None = None
    """What the track failed of."""

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return str(self.said)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in ("waiting", "active")


class SnapshotFold:
    """Folds the events of one track, one at a time, into its `Snapshot`.

    Args:
        label: What the track is called.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._fold = Fold()
        self._buffer = StringIO()
        self._length = 0
        self._key = (0, 0)
        self._status: SnapshotStatus = "waiting"
        self._outputs = 0
        self._first: float | None = None
        self._last: float | None = None
        self._ended: float | None = None
        self._usage = Usage()
        self._error: ErrorInfo | None = None
        self._changes = 0
        self._made: tuple[int, Snapshot] | None = None  # after so many changes

    def add(self, event: Event, at: float) -> bool:
        """Takes the next event, that came `at` seconds after the request; whether it changed what a snapshot shows."""
        kind = type(event)
        changed = self._status == "waiting"
        if changed:
            self._status = "active"
        self._fold.add(event)
        if kind in _CONTENT:
            changed = True
            self._outputs += 1
            self._last = at
            if self._first is None:
                self._first = at
            if isinstance(event, TextDelta):
                self._write(event)
        elif isinstance(event, Retracted) or (isinstance(event, PartEnd) and event.text is not None):
            changed = True
            self._rewrite()
        elif isinstance(event, Failed):
            self._error = event.error
        if isinstance(event, (Started, UsageReported, Finished, Retracted)):
            changed = True
            self._usage = self._fold.total_usage()
        self._changes += changed
        return changed

    def end(self, status: SnapshotStatus, at: float) -> None:
        """The track is over, since `at` seconds after the request."""
        self._status, self._ended = status, at
        self._usage = self._fold.total_usage()
        self._changes += 1

    def snapshot(self) -> Snapshot:
        """The state so far; the same object as long as it is the same state. From any thread."""
        changes, made = self._changes, self._made  # one that changes while it is made is not kept
        if made is None or made[0] != changes:
            made = self._made = changes, self._make()
        return made[1]

    def _make(self) -> Snapshot:
        fold = self._fold
        return Snapshot(
            label=self._label,
            status=self._status,
            said=Said(self._buffer, self._length),
            model=fold.model,
            provider=fold.provider,
            outputs=self._outputs,
            first_output=self._first,
            last_output=self._last,
            ended=self._ended,
            usage=self._usage,
            finish_reason=fold.finished.reason if fold.finished is not None else None,
            error=self._error if self._status in ("failed", "cancelled") else None,
        )

    def _write(self, event: TextDelta) -> None:
        if event.choice:
            return
        key = (event.attempt, event.part)
        if key < self._key:  # a part that stands before one that has begun
            self._rewrite()
            return
        self._key = key
        self._length += self._buffer.write(event.text)

    def _rewrite(self) -> None:
        """Begins another buffer: snapshots that were made keep theirs."""
        texts = self._fold.texts
        keys = sorted(key for key in texts if key[1] == 0)
        buffer = StringIO()
        length = sum(buffer.write(texts[key].getvalue()) for key in keys)
        self._buffer, self._length = buffer, length
        self._key = (keys[-1][0], keys[-1][2]) if keys else (0, 0)
