"""A handler made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rxstream._check import at_least_one, function
from rxstream.events import Event, ToolCall
from rxstream.sinks._hooks import set_hooks
from rxstream.sinks.handler import StreamHandler, StreamMetadata
from rxstream.usage import Usage

if TYPE_CHECKING:
    from rxstream.operators import Progress
    from rxstream.response import Response

__all__ = ["CallbackStreamHandler"]


class CallbackStreamHandler(StreamHandler):
    """Calls your functions, plain or coroutine functions: those that you give.

    Example:
        >>> import rxstream
        >>> handler = rxstream.CallbackStreamHandler(
        ...     on_token=lambda token, index: print(index, token),
        ...     on_complete=lambda response: print(response.finish_reason),
        ... )
        >>> _ = rxstream.from_iterable(["to", "be"]).start(handler).result()
        0 to
        1 be
        stop

    Args:
        on_start: Called with the stream's `StreamMetadata`.
        on_token: Called with each piece of text and its number.
        on_complete: Called with the `Response`.
        on_error: Called with the error that ended the stream.
        on_event: Called with each event.
        on_usage: Called with token counts.
        on_tool_call: Called with each tool call that is whole.
        on_progress: Called a few times a second with a `rxstream.operators.Progress`.
        on_pause: Called when somebody pauses the stream.
        on_resume: Called when it goes on.
        on_cancel: Called with the reason when somebody cancels it.

    Raises:
        ConfigurationError: one of them is no function, or none is given.
    """

    def __init__(
        self,
        *,
        on_start: Callable[[StreamMetadata], Any] | None = None,
        on_token: Callable[[str, int], Any] | None = None,
        on_complete: Callable[[Response], Any] | None = None,
        on_error: Callable[[Exception], Any] | None = None,
        on_event: Callable[[Event], Any] | None = None,
        on_usage: Callable[[Usage], Any] | None = None,
        on_tool_call: Callable[[ToolCall], Any] | None = None,
        on_progress: Callable[[Progress], Any] | None = None,
        on_pause: Callable[[], Any] | None = None,
        on_resume: Callable[[], Any] | None = None,
        on_cancel: Callable[[str], Any] | None = None,
    ) -> None:
        same = {
            "on_event": on_event,
            "on_usage": on_usage,
            "on_tool_call": on_tool_call,
            "on_progress": on_progress,
            "on_pause": on_pause,
            "on_resume": on_resume,
            "on_cancel": on_cancel,
        }
        given = {"on_start": on_start, "on_token": on_token, "on_complete": on_complete, "on_error": on_error, **same}
        at_least_one(**given)
        for name, callback in given.items():
            if callback is not None:
                function(name, callback)
        methods: dict[str, Callable[..., Any] | None] = {
            "on_stream_start": on_start,
            "on_token_received": on_token,
            "on_stream_complete": on_complete,
            "on_stream_error": on_error,
            **same,
        }
        set_hooks(self, {name: method for name, method in methods.items() if method is not None})
