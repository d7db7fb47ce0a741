"""What a handler of streams may be told: the methods, all doing nothing, and which of them one has made its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rxstream._check import show
from rxstream.errors import ConfigurationError

if TYPE_CHECKING:
    from rxstream.events import Event, ToolCall
    from rxstream.operators import Progress
    from rxstream.response import Response
    from rxstream.usage import Usage

__all__ = ["HOOKS", "Hook", "Hooks", "StreamMetadata", "hooks_of", "set_hooks"]

Hook = Callable[..., Any]


class StreamMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a stream when it starts; empty where it is not."""

    stream_id: str = ""
    label: str = ""
    """What the track is called; the ``source`` of its events."""
    provider: str = ""
    model: str = ""
    request_id: str = ""
    parent_id: str = ""
    """Of the stream that this one belongs to."""
    trace_id: str = ""
    started_at: float = 0.0
    """Seconds since 1970."""
    extra: Mapping[str, Any] = {}
    """Your own."""


class Hooks:
    """What can be told of a stream. Each method may be a coroutine function in a subclass; none has to be there."""

    def for_stream(self, metadata: StreamMetadata) -> Hooks:  # noqa: ARG002 - for those who keep streams apart
        """Who serves the stream: this one, or another handler, so that several streams do not mix."""
        return self

    def dismissed(self) -> None:
        """You serve the stream no more, and are not told its end: you were removed, the subscription was disposed, or the
        loop goes down, on which nothing of yours can be awaited any more.

        It is for what you hold. It must be quick, a plain function; with a thread of your own it is called beside that.
        """

    def on_stream_start(self, metadata: StreamMetadata) -> Any:
        """The stream starts; or you were added to one that runs."""

    def on_token_received(self, token: str, index: int) -> Any:
        """A piece of the answer's text, as the provider sends it, or in the unit that was asked for; counted from 0."""

    def on_stream_complete(self, full_response: Response) -> Any:
        """The stream has reached its proper end. Nothing comes after it."""

    def on_stream_error(self, error: Exception) -> Any:
        """The stream has ended, and not well; a `rxstream.errors.StreamError` holds what arrived. Nothing comes after it."""

    def on_event(self, event: Event) -> Any:
        """Any event, the pieces of text among them; before what it means, as below."""

    def on_usage(self, usage: Usage) -> Any:
        """Token counts so far; they replace those before."""

    def on_tool_call(self, call: ToolCall) -> Any:
        """A tool call is whole."""

    def on_progress(self, progress: Progress) -> Any:
        """How far the answer is, a few times a second."""

    def on_pause(self) -> Any:
        """Somebody paused the stream."""

    def on_resume(self) -> Any:
        """The stream goes on."""

    def on_cancel(self, reason: str) -> Any:
        """Somebody cancelled the stream; ``on_stream_error`` with `rxstream.errors.Cancelled` follows."""


HOOKS: Final = tuple(name for name in vars(Hooks) if name.startswith("on_"))
"""Their names."""


def hooks_of(handler: Hooks) -> dict[str, Hook]:
    """The methods that `handler` has itself, by their names: those of `Hooks` need not be called.

    Raises:
        ConfigurationError: it is no handler, nor has it a method of one: somebody's `for_stream` gave it.
    """
    found: dict[str, Hook] = {}
    for name in HOOKS:
        method = getattr(handler, name, None)
        if callable(method) and getattr(method, "__func__", method) is not getattr(Hooks, name):
            found[name] = method
    if not found and not isinstance(handler, Hooks):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"for_stream returned {show(handler)}: it must return a handler")
    return found


def set_hooks(handler: Hooks, methods: Mapping[str, Hook]) -> None:
    """Give `handler` methods of its own, by their names, in place of its class's."""
    for name, method in methods.items():
        setattr(handler, name, method)
