"""A handler that sends a stream to somebody else: over a websocket, or through any function that takes a string."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

from rxstream._check import one_of, show
from rxstream.errors import ConfigurationError, error_info
from rxstream.events import Event, Failed, encode
from rxstream.sinks._hooks import set_hooks
from rxstream.sinks.callback import is_async
from rxstream.sinks.handler import StreamHandler

__all__ = ["SenderStreamHandler"]

_METHODS = ("send_text", "send_str", "send")


class SenderStreamHandler(StreamHandler):
    """Sends the stream as strings.

    Example:
        >>> import rxstream
        >>> sent = []
        >>> handler = rxstream.SenderStreamHandler(sent.append, what="events")
        >>> _ = rxstream.from_iterable(["to be"]).start(handler).result()
        >>> sent[1]
        '{"type":"text-delta","seq":1,"at":...,"text":"to be"}'

    Args:
        send: A function, or a coroutine function, of a string; or an object with such a method ``send_text`` (Starlette),
            ``send_str`` (aiohttp) or ``send`` (websockets).
        what: ``text``: the pieces of the answer's text, and nothing else; ``events``: every event as JSON, and the error that
            ended the stream as a ``failed`` event.

    Raises:
        ConfigurationError: `send` can send nothing; `what` is neither.
    """

    def __init__(self, send: object, *, what: Literal["text", "events"] = "text") -> None:
        one_of("what", what, ("text", "events"))
        found = next((getattr(send, name) for name in _METHODS if callable(getattr(send, name, None))), send)
        if not callable(found):
            raise ConfigurationError(f"send={show(send)}: must be a function, or have send_text, send_str or send")
        self._send = cast("Callable[[str], Any]", found)
        say = self._say_later if is_async(self._send) else self._say
        if what == "text":
            set_hooks(self, {"on_token_received": partial(say, _text)})
        else:
            set_hooks(self, {"on_event": partial(say, _event), "on_stream_error": partial(say, _failed)})

    def _say(self, word: Callable[..., str], *what: Any) -> Any:
        return self._send(word(*what))  # it may be a plain function that returns a coroutine

    async def _say_later(self, word: Callable[..., str], *what: Any) -> None:
        await self._send(word(*what))


def _text(token: str, _index: int) -> str:
    return token


def _event(event: Event) -> str:
    return encode(event).decode()


def _failed(error: Exception) -> str:
    return _event(Failed(error=error_info(error)))
