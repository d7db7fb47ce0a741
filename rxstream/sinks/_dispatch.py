"""Tells the handlers of one stream what happens in it.

Rules of this module:

* All is done on the stream's loop: handlers are told in the order in which they were added, each event to all of them before the
  next.
* A handler with coroutine functions, or with a thread of its own, has a queue: it delays nobody.
* What one raises is its own affair, as its `HandlerPolicy` says; the others go on.
* Each is told the end once, last, or dismissed where its loop goes down; after that, after `remove` and `dispose`, nothing.
* Only methods that a handler has itself are called; which these are is found out when it begins to serve.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, cast

from rxstream._log import facts, log, trace
from rxstream._pieces import Pieces
from rxstream.errors import Cancelled, ConfigurationError, HandlerDetached, LimitExceeded, LoopShutDown
from rxstream.events import Cancelled as TrackCancelled
from rxstream.events import Event, Failed, Finished, Retracted, TextDelta, ToolCall, UsageReported
from rxstream.loop import LoopScheduler, contain
from rxstream.segment import TextUnit
from rxstream.sinks._hooks import Hook, Hooks, StreamMetadata
from rxstream.sinks._lane import Caller, Lane, TooSlow
from rxstream.sinks._policy import HandlerFigures, HandlerPolicy

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Dispatch", "HandlerFigures", "HandlerPolicy"]

_DEFAULT = HandlerPolicy()
_CUTTING = (TextDelta, Finished, Failed, TrackCancelled, Retracted)
"""Events that may complete a piece of text."""
_MEANT: dict[type, str] = {UsageReported: "on_usage", ToolCall: "on_tool_call"}


class _Tokens:
    """The pieces of text that the event at hand has completed, in one unit."""

    __slots__ = ("_pieces", "count", "first", "new")

    def __init__(self, by: Literal["delta"] | TextUnit) -> None:
        self._pieces = None if by == "delta" else Pieces(by)
        self.new: list[str] = []
        self.first = 0
        self.count = 0

    def feed(self, event: Event) -> None:
        """Take an event."""
        if self._pieces is not None:
            self._set(self._pieces.feed(event))
        else:
            self._set([event.text] if isinstance(event, TextDelta) and event.choice == 0 and event.text else [])

    def close(self) -> None:
        """The stream has ended."""
        self._set([] if self._pieces is None else self._pieces.close())

    def _set(self, new: list[str]) -> None:
        self.new = new
        self.first = self.count
        self.count += len(new)


_Row = tuple[Lane, Hook, Any, "_Tokens | None"]
"""Whom to call, with what of the event: itself, a field of it, or the tokens that it completed."""


class Dispatch:
    """The handlers of one stream. It is used on the scheduler's loop alone.

    Args:
        metadata: What is known of the stream.
        scheduler: The stream's: its loop, and its gate, which a handler may hold.
        fail: How to end the stream with an error while it is not calling `on_next`, for policies that end it; it comes back by
            `on_error`. None: `on_next` raises it when it is called next.
    """

    def __init__(
        self, metadata: StreamMetadata, scheduler: LoopScheduler, *, fail: Callable[[Exception], object] | None = None
    ) -> None:
        self.metadata = metadata
        self._scheduler = scheduler
        self._fail = fail
        self._lanes: dict[str, Lane] = {}
        self._tokens: dict[str, _Tokens] = {"delta": _Tokens("delta")}
        self._rows: dict[type, tuple[_Row, ...]] = {}
        self._failure: Exception | None = None
        self._begun = self._over = self._paused = self._cancelled = self._busy = False

    # --- who ------------------------------------------------------------------------------------------------------------

    def add(self, handler_id: str, handler: Hooks, policy: HandlerPolicy = _DEFAULT) -> bool:
        """Tell `handler`, too, from now on; of a stream that runs it is told the start at once, and that it is paused, if it is.

        Returns:
            False if the stream is over.

        Raises:
            ConfigurationError: `handler_id` is taken.
        """
        if handler_id in self._lanes:
            raise ConfigurationError(f"handler {handler_id!r} serves this stream already")
        if self._over:
            return False
        lane = self._lanes[handler_id] = Lane(handler_id, handler, policy)
        if self._begun:
            self._open(lane)
            self._rows.clear()
            if self._paused:
                self._tell(lane, "on_pause")
        return True

    def remove(self, handler_id: str) -> bool:
        """Tell it no more; a call of it that is at work is broken off. False: there is none of that id."""
        lane = self._lanes.pop(handler_id, None)
        if lane is None:
            return False
        lane.close()
        self._rows.clear()
        return True

    def figures(self) -> dict[str, HandlerFigures]:
        """What each handler has been told, by its id, in the order in which they were added."""
        return {lane.id: lane.figures for lane in list(self._lanes.values())}

    def wants(self, hook: str) -> bool:
        """Whether any of them has the method `hook`; asked once it has begun."""
        return any(hook in lane.hooks for lane in self._lanes.values())

    # --- what -----------------------------------------------------------------------------------------------------------

    def start(self, metadata: StreamMetadata | None = None) -> None:
        """The stream starts; told by the first event, too. `metadata` in place of that known before."""
        if self._begun or self._over:
            return
        self._begun = True
        self.metadata = self.metadata if metadata is None else metadata
        self._each(self._open)

    def on_next(self, event: Event) -> None:
        """Tell them what happened.

        Raises:
            Exception: what a handler raised whose policy is that this ends the stream, once all were told.
        """
        if self._over:
            return
        self._busy = True
        try:
            if not self._begun:
                self.start()
            kind = type(event)
            rows = self._rows.get(kind)
            if rows is None:
                rows = self._rows[kind] = self._find(kind)
            if kind in _CUTTING:
                for unit in self._tokens.values():
                    unit.feed(event)
            for lane, hook, field, tokens in rows:
                if lane.over:
                    continue
                if tokens is not None:
                    self._tell_tokens(lane, hook, tokens)
                    continue
                lane.calls += 1
                try:
                    made = hook(event if field is None else getattr(event, field))
                except BaseException as error:  # noqa: BLE001 - the handler's own
                    self._trouble(lane, error)
                else:
                    if made is not None:
                        self._await("", lane, made)
        finally:
            self._busy = False
        self._raise_failure()

    def on_completed(self, response: Response) -> None:
        """The stream has reached its proper end."""
        if self._failure is not None:
            self.on_error(self._failure)
        else:
            self._end("on_stream_complete", response)

    def on_error(self, error: Exception) -> None:
        """The stream has ended with `error`."""
        try:
            if isinstance(error, Cancelled) and not self._cancelled:
                self.cancelled(error.reason)
        finally:
            if isinstance(error, LoopShutDown):
                for lane in list(self._lanes.values()):
                    if lane.queue is not None and not lane.over:
                        lane.close()  # whatever it has to await will never come
            self._end("on_stream_error", error)

    def paused(self) -> None:
        """Somebody paused the stream."""
        if not self._paused:
            self._paused = True
            self._tell_all("on_pause")

    def resumed(self) -> None:
        """The stream goes on."""
        if self._paused:
            self._paused = False
            self._tell_all("on_resume")

    def cancelled(self, reason: str = "") -> None:
        """Somebody cancelled the stream; `on_error` follows."""
        if not self._cancelled:
            self._cancelled = True
            self._tell_all("on_cancel", reason)

    def progress(self, progress: object) -> None:
        """How far the stream is, for handlers that want it (`wants`)."""
        self._tell_all("on_progress", progress)

    # --- after ----------------------------------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Tell nobody anything more, and forget what waits."""
        self._over = True
        self._rows.clear()
        for lane in list(self._lanes.values()):
            lane.close()

    async def settled(self, caller: Caller | None = None) -> None:
        """Wait until nothing waits for a slow handler any more, except for one that `caller` is in."""
        for lane in list(self._lanes.values()):
            if lane.queue is not None and not (caller is not None and lane.queue.calls(caller)):
                await lane.queue.settled()

    def calls(self, caller: Caller) -> bool:
        """Whether `caller` is in a call of a slow handler."""
        return any(lane.queue is not None and lane.queue.calls(caller) for lane in self._lanes.values())

    # --- telling --------------------------------------------------------------------------------------------------------

    def _each(self, tell: Callable[[Lane], object]) -> None:
        """Tell those that are told anything, in order; also if one of them ends the program."""

        def told(lane: Lane) -> None:
            if not lane.over:
                tell(lane)

        with ExitStack() as rest:
            for lane in reversed(self._lanes.values()):
                rest.callback(told, lane)

    def _open(self, lane: Lane) -> None:
        try:
            lane.open(self.metadata, self._scheduler, self._trouble)
        except BaseException as error:  # noqa: BLE001 - its own `for_stream`
            lane.calls += 1
            lane.over = lane.detached = True
            self._trouble(lane, error)
            return
        if "on_token_received" in lane.hooks and lane.policy.by not in self._tokens:
            self._tokens[lane.policy.by] = _Tokens(lane.policy.by)
        self._tell(lane, "on_stream_start", self.metadata)

    def _find(self, kind: type) -> tuple[_Row, ...]:
        """Whom to call for events of this kind, in order."""
        rows: list[_Row] = []
        meant = _MEANT.get(kind)
        for lane in self._lanes.values():
            if lane.over:
                continue
            hooks = lane.hooks
            if (hook := hooks.get("on_event")) is not None:
                rows.append((lane, hook, None, None))
            if (hook := hooks.get("on_token_received")) is not None and kind in _CUTTING:
                rows.append((lane, hook, None, self._tokens[lane.policy.by]))
            if meant is not None and (hook := hooks.get(meant)) is not None:
                rows.append((lane, hook, "usage" if kind is UsageReported else None, None))
        return tuple(rows)

    def _tell_tokens(self, lane: Lane, hook: Hook, tokens: _Tokens) -> None:
        index = tokens.first
        for token in tokens.new:
            lane.calls += 1
            try:
                made = hook(token, index)
            except BaseException as error:  # noqa: BLE001 - the handler's own
                self._trouble(lane, error)
            else:
                if made is not None:
                    self._await("", lane, made)
            if lane.over:
                return
            index += 1

    def _tell(self, lane: Lane, name: str, *arguments: Any) -> None:
        hook = lane.hooks.get(name)
        if hook is None or lane.over:
            return
        self._call(name, lane, hook, *arguments)

    def _call(self, name: str, lane: Lane, hook: Hook, *arguments: Any) -> None:
        lane.calls += 1
        try:
            made = hook(*arguments)
        except BaseException as error:  # noqa: BLE001 - the handler's own
            self._trouble(lane, error)
        else:
            if made is not None:
                self._await(name, lane, made)

    def _await(self, name: str, lane: Lane, made: object) -> None:
        """What a plain function has returned: if it is to be awaited, so are those of that handler from now on."""
        if hasattr(type(made), "__await__"):
            lane.follow(name, cast("Awaitable[object]", made), self._scheduler, self._trouble)
            self._rows.clear()

    def _tell_all(self, name: str, *arguments: Any) -> None:
        if self._begun and not self._over:
            self._each(lambda lane: self._tell(lane, name, *arguments))

    def _end(self, name: str, what: object) -> None:
        self.start()
        if self._over:
            return
        for tokens in self._tokens.values():
            tokens.close()
        try:
            self._each(self._tell_rest)
        finally:
            self._over = True  # from here on nobody can be added
            self._each(lambda lane: self._tell_last(lane, name, what))
            self._rows.clear()

    def _tell_rest(self, lane: Lane) -> None:
        hook = lane.hooks.get("on_token_received")
        if hook is not None:
            self._tell_tokens(lane, hook, self._tokens[lane.policy.by])

    def _tell_last(self, lane: Lane, name: str, what: object) -> None:
        hook = lane.hooks.get(name)
        if lane.queue is None:
            lane.over = lane.told = True
        if hook is not None:
            self._call(name, lane, hook, what)
        lane.release() if lane.queue is None else lane.queue.finish()

    # --- trouble ----------------------------------------------------------------------------------------------------------

    def _trouble(self, lane: Lane, error: BaseException) -> None:
        """A handler has raised, or is too slow."""
        error = contain(error)
        policy = lane.policy
        if isinstance(error, TooSlow):
            if policy.slow in ("hold", "error"):
                self._raise(LimitExceeded(str(error)))
            elif not lane.over:
                self._detach(lane, error)
            return
        lane.failures += 1
        if lane.failures == 1:
            known = facts("handler-raised", error=error, handler=lane.id)
            then = "its stream ends" if policy.on_failure == "raise" else "further failures of it are only counted"
            kind = type(error).__name__
            log.error("handler %s raised %s; %s", lane.id, kind, then, exc_info=trace(error), extra=known)
        if policy.on_failure == "raise":
            self._raise(error)
        elif policy.on_failure == "detach" and lane.failures >= policy.failures and not lane.over:
            self._detach(lane, error)

    def _raise(self, error: Exception) -> None:
        """End the stream, unless it is over."""
        if self._over or self._failure is not None:
            return
        if self._busy or self._fail is None:
            self._failure = error
        else:
            self._fail(error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _detach(self, lane: Lane, why: Exception) -> None:
        """Serve this one no longer, and tell it so."""
        lane.over = lane.detached = True
        self._rows.clear()
        told = HandlerDetached(f"handler {lane.id} was detached from its stream: {why}", handler_id=lane.id)
        told.__cause__ = why
        log.warning(
            "handler %s was detached from its stream",
            lane.id,
            extra=facts("handler-detached", error=why, handler=lane.id),
        )
        if lane.queue is not None:
            lane.queue.clear()
        self._tell_last(lane, "on_stream_error", told)
