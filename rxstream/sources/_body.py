"""The bytes of one response, as they come.

Rules of this module:

* One network read is one piece; nothing is joined or cut. A pull of one piece costs about a microsecond.
* Whatever goes wrong is a `StreamError`. A compressed body that was cut is one, too: it has a length to tell by.
* Memory is bounded whatever the server sends: compressed bodies are inflated 64 KiB at a time.
* What is closed holds no response: an error that somebody keeps may hold our frames.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from rxstream.errors import LimitExceeded, ProtocolError, StreamError, StreamIncomplete
from rxstream.events import RateLimits

__all__ = ["Body"]

_PLAIN: Final = ("", "identity")
_GRAM: Final = 12
"""Letters of what may be a key that a server says back, in another spelling."""
_INFLATED: Final = 64 * 1024
_DRAIN_SECONDS: Final = 0.1
_DRAIN_BYTES: Final = 64 * 1024


class Body:
    """An async iterator of bytes, made of a response.

    Args:
        pieces: The raw body.
        encoding: The response's ``Content-Encoding``.
        max_bytes: How many bytes may come out, or None for no limit.
        torn: Makes the error of what `pieces` raises.
        close: Closes the connection if the body was not read to its end.
        rate_limits: What the response's headers say of the provider's limits.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        encoding: str,
        max_bytes: int | None,
        torn: Callable[[Exception], StreamError],
        close: Callable[[], Awaitable[None]],
        rate_limits: RateLimits | None = None,
    ) -> None:
        self.rate_limits = rate_limits
        self._raw: Callable[[], Awaitable[bytes]] = pieces.__anext__
        self._encoding = encoding.strip().lower()
        self._inflater: _Inflater | None = None
        self._max_bytes = max_bytes
        self._torn = torn
        self._close = close
        self._taken = 0
        self._pull = self._raw if self._encoding in _PLAIN else self._read_inflated

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            Disconnected: the connection broke.
            StreamIncomplete: the body is compressed, and ended before its own end.
            ProtocolError: the body is compressed in a way that we cannot read, or not as it says.
            LimitExceeded: more bytes than allowed.
        """
        try:
            data = await self._pull()
        except (StopAsyncIteration, StreamError):
            raise
        except Exception as exc:  # noqa: BLE001 - each transport has its own; none may leave
            error: StreamError = self._torn(exc)
        else:
            self._taken += len(data)
            if self._max_bytes is None or self._taken <= self._max_bytes:
                return data
            error = LimitExceeded(
                f"the stream is longer than the {self._max_bytes} bytes that limits.stream_bytes allows"
            )
        raise error  # outside of `except`: theirs must not be tied to ours

    async def _read_inflated(self) -> bytes:
        inflater = self._inflater = self._inflater or _Inflater(self._encoding)
        while not (data := inflater.take()):
            try:
                inflater.give(await self._raw())
            except StopAsyncIteration:
                if not inflater.whole:
                    raise StreamIncomplete("the compressed body was cut: it ended before its own end") from None
                raise
        return data

    async def head(self, size: int) -> bytes:
        """What comes within a second, `size` bytes at most: for an error to show."""
        parts: list[bytes] = []
        with suppress(TimeoutError, StreamError):
            async with asyncio.timeout(1.0):
                async for data in self:
                    parts.append(data)
                    if self._taken >= size:
                        break
        return b"".join(parts)[:size]

    async def drain(self) -> None:
        """Read the little that follows the provider's last mark, so that the connection can be used again.

        Takes 0.1 seconds at most; what is not over by then will be closed. Never fails.
        """
        start = self._taken
        with suppress(TimeoutError, StreamError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in self:
                    if self._taken - start > _DRAIN_BYTES:
                        break

    async def aclose(self) -> None:
        """Close the connection, or give it back if the body was read to its end. Never fails."""
        with suppress(Exception):  # it is closed, which is what we wanted; the stream's own outcome must not change
            await self._close()
        self._raw = self._pull = _over
        self._close = _nothing


async def _over() -> bytes:
    raise StopAsyncIteration


async def _nothing() -> None:
    """It is closed already."""


class _Inflater:
    """gzip or deflate, a bounded piece at a time.

    Raises:
        ProtocolError: the encoding is another one.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            how = f"with {encoding}" if encoding.isalnum() and len(encoding) < _GRAM else "in a way that we do not know"
            raise ProtocolError(f"the body is compressed {how}, although it was asked for as it is")
        self._raw_deflate_too = encoding == "deflate"
        self._zlib = zlib.decompressobj(wbits=47)  # a gzip or zlib header
        self._rest = b""
        self._held_back = False

    @property
    def whole(self) -> bool:
        """Whether the data up to here end where the format says."""
        return self._zlib.eof

    def give(self, data: bytes) -> None:
        self._rest = data

    def take(self) -> bytes:
        """The next piece, or nothing if more is to be given first.

        Raises:
            ProtocolError: the data are not compressed in this format.
        """
        while self._rest or self._held_back:
            if self._zlib.eof:  # gzip files may follow each other
                self._zlib = zlib.decompressobj(wbits=47)
            try:
                data = self._zlib.decompress(self._rest, _INFLATED)
            except zlib.error as exc:
                if not self._raw_deflate_too:
                    raise ProtocolError(f"the body is not what its Content-Encoding says: {exc}") from None
                self._zlib = zlib.decompressobj(wbits=-15)  # some servers leave the zlib header out
                data = b""
            else:
                self._rest = self._zlib.unused_data or self._zlib.unconsumed_tail
            self._held_back = len(data) == _INFLATED and not self._zlib.eof
            self._raw_deflate_too = False
            if data:
                return data
        return b""
