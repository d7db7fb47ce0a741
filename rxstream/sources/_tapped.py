"""A source whose bytes somebody else sees, too; or, in tests, has recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from rxstream._check import kind_of
from rxstream._tap import Tap, TappedRequest
from rxstream.errors import ConfigurationError
from rxstream.sources._source import Source

__all__ = ["shapes", "tapped"]

D = TypeVar("D")

shapes: list[Callable[[Source[Any]], Source[Any]]] = []
"""What is made of every source before it is opened: a test answers from a file what would be asked of a model."""


def tapped(source: Source[D], taps: Sequence[Tap]) -> Source[D]:
    """`source`, whose requests `taps` are told of."""
    for shape in shapes:
        source = shape(source)
    for tap in taps:
        source = replace(source, open=partial(_Tapped, source, tap))
    return source


class _Tapped(AbstractAsyncContextManager[AsyncIterator[Any]]):
    """One request."""

    def __init__(self, source: Source[Any], tap: Tap) -> None:
        self._inner = source.open()
        self._told = tap.request(provider=source.provider, model=source.model, source=source.label)

    async def __aenter__(self) -> AsyncIterator[Any]:
        try:
            body = await self._inner.__aenter__()
        except Exception as error:
            self._told.end("error", error)
            raise
        except BaseException:
            self._told.end("left")
            raise
        self._told.answered(getattr(body, "rate_limits", None))
        return _Body(body, self._told)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._told.end("left")
        return await self._inner.__aexit__(kind, error, traceback)


class _Body(AsyncIterator[Any]):
    def __init__(self, body: AsyncIterator[Any], told: TappedRequest) -> None:
        self.rate_limits = getattr(body, "rate_limits", None)
        self.drain = getattr(body, "drain", None)
        self._pull = body.__anext__
        self._told = told

    async def __anext__(self) -> Any:
        try:
            data = await self._pull()
        except StopAsyncIteration:
            self._told.end("end")
            raise
        except Exception as error:
            self._told.end("error", error)
            raise
        if not isinstance(data, bytes):
            raise ConfigurationError(f"the source gives {kind_of(data)}, not bytes: record its events instead")
        self._told.data(data)
        return data
