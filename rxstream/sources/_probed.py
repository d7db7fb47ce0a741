"""A source that tells probes where its time goes: setting up, connecting, waiting for bytes, decoding them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from rxstream._probe import Probe, spent_in
from rxstream.errors import StreamError
from rxstream.events import Event
from rxstream.sources._source import Feed, Source

__all__ = ["probed"]

D = TypeVar("D")


def probed(source: Source[D], probes: Sequence[Probe]) -> Source[D]:
    """`source`, with those of `probes` told that want to know each read; itself where there is none."""
    detailed = tuple(probe for probe in probes if probe.detailed)
    if not detailed:
        return source
    return replace(
        source,
        prepare=None if source.prepare is None else partial(_prepare, source.prepare, detailed),
        open=partial(_Opened, source, detailed),
        decoder=lambda: _Decoder(source.decoder(), detailed),
    )


async def _prepare(prepare: Callable[[], Awaitable[None]], probes: Sequence[Probe]) -> None:
    with spent_in("setup", probes):
        await prepare()


class _Opened(AbstractAsyncContextManager[AsyncIterator[Any]]):
    def __init__(self, source: Source[Any], probes: Sequence[Probe]) -> None:
        self._inner = source.open()
        self._probes = probes

    async def __aenter__(self) -> AsyncIterator[Any]:
        with spent_in("network", self._probes):
            return _Body(await self._inner.__aenter__(), self._probes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)


class _Body(AsyncIterator[Any]):
    def __init__(self, body: AsyncIterator[Any], probes: Sequence[Probe]) -> None:
        self.rate_limits = getattr(body, "rate_limits", None)
        self.drain = getattr(body, "drain", None)
        self._pull = body.__anext__
        self._probes = probes

    async def __anext__(self) -> Any:
        with spent_in("provider", self._probes):
            return await self._pull()


class _Decoder:
    def __init__(self, decoder: Feed[Any], probes: Sequence[Probe]) -> None:
        self._decoder = decoder
        self._probes = probes

    @property
    def finished(self) -> bool:
        return self._decoder.finished

    @property
    def failure(self) -> StreamError | None:
        return self._decoder.failure

    def feed(self, data: Any, /) -> list[Event]:
        with spent_in("decoding", self._probes):
            return self._decoder.feed(data)

    def close(self) -> list[Event]:
        with spent_in("decoding", self._probes):
            return self._decoder.close()
