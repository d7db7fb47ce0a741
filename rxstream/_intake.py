"""What is handed to a manager: anything that gives events, and what is known of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, cast

from msgspec.structs import replace
from reactivex import Observable

from rxstream._asking import label_of
from rxstream._check import instance, show
from rxstream.conversion import from_iterable
from rxstream.creation import from_sdk
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.segment import TextUnit
from rxstream.sinks.handler import StreamHandler, StreamMetadata, as_handler
from rxstream.sources.adopt import is_sdk_stream
from rxstream.stream_config import StreamConfig

__all__ = ["handlers_of", "ids_of", "metadata_of", "stream_of", "token_of"]

_TEXTS = ("stream_id", "label", "provider", "model", "request_id", "parent_id", "trace_id")
_TOKENS: Final[Mapping[str, TextUnit]] = {
    "character": "character",
    "word": "word",
    "sentence": "sentence",
    "segment": "code_fence",
}


def token_of(config: StreamConfig) -> Literal["delta"] | TextUnit:
    """What a token is to the handlers of `config`, by its mode."""
    return _TOKENS.get(config.mode, "delta")


def stream_of(source: object) -> Stream[Event]:
    """`source` as a stream of events.

    Raises:
        ConfigurationError: it gives none.
    """
    if isinstance(source, Observable):
        events = cast("Observable[Event]", source)
        return Stream.of(events, label=label_of(events))
    if is_sdk_stream(source):
        return from_sdk(cast("Any", source))
    return from_iterable(cast("Any", source))


def handlers_of(given: Iterable[object]) -> list[StreamHandler]:
    """The handlers of one stream.

    Raises:
        ConfigurationError: they are none, or it is one that is in no list.
    """
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"handlers={show(given)}: must be a list of handlers")
    return [as_handler(handler) for handler in given]


def ids_of(streams: Iterable[str]) -> Iterable[str]:
    """The ids of streams; one that is in no list would be taken for its letters.

    Raises:
        ConfigurationError: they are none.
    """
    if isinstance(streams, str) or not isinstance(streams, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"streams={show(streams)}: must be a list of ids, or a function of the metadata")
    return streams


def metadata_of(
    given: StreamMetadata | Mapping[str, Any] | None, source: Stream[Event], stream_id: str | None = None
) -> StreamMetadata:
    """What is known of `source`: what was given, and what it tells itself.

    Raises:
        ConfigurationError: it was given in a way that says nothing.
    """
    metadata = given if isinstance(given, StreamMetadata) else _read({} if given is None else given)
    instance("stream_id", stream_id, str)
    for name in _TEXTS:
        if not isinstance(value := getattr(metadata, name), str):
            raise ConfigurationError(f"metadata: {name}={show(value)}: must be a string")
    provider = model = ""
    if source.asking is not None:
        with contextlib.suppress(ConfigurationError):  # the environment is wrong: the stream will say so
            provider, model, _ = source.asking.key
    return replace(
        metadata,
        stream_id=stream_id or metadata.stream_id,
        label=metadata.label or source.label,
        provider=metadata.provider or provider,
        model=metadata.model or model,
        started_at=0.0,  # it has not
    )


def _read(given: Mapping[str, Any]) -> StreamMetadata:
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"metadata={show(given)}: must be a StreamMetadata or a dict")
    known = {name: value for name, value in given.items() if name in _TEXTS}
    others = {name: value for name, value in given.items() if name not in (*_TEXTS, "extra", "started_at")}
    if not isinstance(extra := given.get("extra", {}), Mapping):
        raise ConfigurationError(f"metadata: extra={show(extra)}: must be a dict")
    return StreamMetadata(**known, extra={**extra, **others})
