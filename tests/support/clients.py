"""Clients to be certified: one that does everything right, in few lines, and relatives of it that each do one thing wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from rxstream.errors import ProtocolError, StreamError, StreamIncomplete, UnexpectedContentType
from rxstream.events import Event, TextDelta, ToolCall, ToolCallDelta, ToolCallStart, UsageReported, is_content
from rxstream.providers import decoder_for
from rxstream.testing.certify import Piece, Question
from rxstream.typing import Decoder

__all__ = ["Client", "answer", "endless", "faulty", "refusing", "silent", "wordy"]


class Client:
    """Speaks Chat Completions over a bare socket; `answer` is what is certified."""

    breaks: ClassVar[tuple[str, ...]] = ()
    """The rows that it fails, and no others."""
    verdict: ClassVar[str] = "fail"

    def __init__(self) -> None:
        self.said = ""

    async def answer(self, question: Question) -> AsyncGenerator[Piece]:
        """One streamed answer."""
        if question.dialect != "openai-chat":
            raise NotImplementedError(question.dialect)
        self.said = ""
        async with aclosing(self.events(question)) as events:
            async for event in events:
                match event:
                    case TextDelta():
                        self.said += event.text
                        yield event.text
                    case UsageReported():
                        yield {"usage": self.usage(event.usage.input_tokens, event.usage.output_tokens)}
                    case _:
                        for call in self.calls(event):
                            yield {"tool_call": call}

    async def events(self, question: Question) -> AsyncGenerator[Event]:
        """What the body says; it is the clock of what is said that runs."""
        clock = asyncio.get_running_loop().time
        decoder = decoder_for("compatible", keep_raw=False)
        deadline = clock() + question.timeout
        async with self.connected(question) as reader:
            chunked = await self.head(reader, deadline)
            async with aclosing(self.body(reader, chunked=chunked)) as body:
                while not self.done(finished=decoder.finished):
                    async with asyncio.timeout_at(deadline):
                        data = await anext(body, b"")
                    said, error = self.decoded(decoder, data)
                    for event in said:
                        yield event
                    if self.alive() or any(map(is_content, said)):
                        deadline = clock() + question.timeout
                    if error is not None:
                        self.failed(error)
                    if error is not None or not data:
                        return

    def decoded(self, decoder: Decoder, data: bytes) -> tuple[list[Event], StreamError | None]:
        try:
            return (decoder.feed(self.mangled(data)) if data else decoder.close()), decoder.failure
        except StreamError as error:
            return [], error

    @asynccontextmanager
    async def connected(self, question: Question) -> AsyncIterator[asyncio.StreamReader]:
        where = urlsplit(question.base_url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        body = json.dumps({"model": question.model, "stream": True}).encode()
        head = f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        try:
            yield reader
        finally:
            writer.close()

    async def head(self, reader: asyncio.StreamReader, deadline: float) -> bool:
        """Whether the body is chunked."""
        async with asyncio.timeout_at(deadline):
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in said or b"text/event-stream" not in said:
            raise ConnectionError(said.decode())
        return b"chunked" in said

    async def body(self, reader: asyncio.StreamReader, *, chunked: bool) -> AsyncGenerator[bytes]:
        while not chunked:
            if not (data := await reader.read(65536)):
                return
            yield data
        while size := int((await reader.readuntil(b"\r\n")).decode(), 16):
            yield (await reader.readexactly(size + 2))[:-2]

    # --- what relatives do otherwise --------------------------------------------------------------------------------------

    def done(self, *, finished: bool) -> bool:
        return finished

    def alive(self) -> bool:
        """Whether any bytes at all are progress."""
        return False

    def mangled(self, data: bytes) -> bytes:
        return data

    def failed(self, error: StreamError) -> None:
        raise error

    def usage(self, given: int | None, made: int | None) -> dict[str, int | None]:
        return {"input_tokens": given, "output_tokens": made}

    def calls(self, event: Event) -> Iterator[dict[str, str]]:
        if isinstance(event, ToolCall):
            yield {"name": event.name, "arguments": event.arguments}


class SwallowsTruncation(Client):
    breaks = ("truncation",)
    verdict = "silent"

    def failed(self, error: StreamError) -> None:
        if not (self.said and isinstance(error, StreamIncomplete)):
            raise error


class SwallowsErrors(Client):
    breaks = ("error",)
    verdict = "silent"

    def failed(self, error: StreamError) -> None:
        if isinstance(error, StreamIncomplete):
            raise error


class SaysItAgain(Client):
    breaks = ("once",)

    async def events(self, question: Question) -> AsyncGenerator[Event]:
        try:
            async for event in super().events(question):
                yield event
        except (ConnectionError, EOFError):
            if not self.said:
                raise
            async for event in super().events(question):
                yield event


class LeaksWhenCancelled(Client):
    breaks = ("cancel-before-headers", "cancel-before-event", "cancel-between-tokens", "cancel-in-flood")

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[object] = []

    @asynccontextmanager
    async def connected(self, question: Question) -> AsyncIterator[asyncio.StreamReader]:
        connection = super().connected(question)
        reader = await connection.__aenter__()
        self.kept += [connection, reader]
        try:
            yield reader
        except asyncio.CancelledError:
            raise
        except BaseException:
            await connection.__aexit__(None, None, None)
            raise
        else:
            await connection.__aexit__(None, None, None)


class HangsOnPings(Client):
    breaks = ("pings",)
    verdict = "hangs"

    def alive(self) -> bool:
        return True


class MixesUpTools(Client):
    breaks = ("tools",)

    def calls(self, event: Event) -> Iterator[dict[str, str]]:
        if isinstance(event, ToolCallStart):
            self.open = getattr(self, "open", [])
            self.open.append([event.name, ""])
        elif isinstance(event, ToolCallDelta):
            self.open[-1][1] += event.arguments  # that of the call that was begun last
        elif isinstance(event, ToolCall):
            yield from ({"name": name, "arguments": arguments} for name, arguments in self.open)
            self.open = []


class DecodesEachRead(Client):
    breaks = ("utf8",)

    def mangled(self, data: bytes) -> bytes:
        return data.decode(errors="replace").encode()


class SumsUsage(Client):
    breaks = ("usage",)

    def __init__(self) -> None:
        super().__init__()
        self.sum = 0

    def usage(self, given: int | None, made: int | None) -> dict[str, int | None]:
        self.sum = (self.sum if self.said != "" else 0) + (made or 0)
        return {"input_tokens": given, "output_tokens": self.sum}


class WaitsForTheClose(Client):
    breaks = ("lingering",)

    def done(self, *, finished: bool) -> bool:
        return False


class BelievesAnyPage(Client):
    breaks = ("no-stream",)
    verdict = "silent"

    async def head(self, reader: asyncio.StreamReader, deadline: float) -> bool:
        async with asyncio.timeout_at(deadline):
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in said:
            raise ConnectionError(said.decode())
        return b"chunked" in said

    def failed(self, error: StreamError) -> None:
        if self.said or not isinstance(error, (StreamIncomplete, UnexpectedContentType, ProtocolError)):
            raise error


class AsksAgainWithABadKey(Client):
    breaks = ("refused",)

    async def events(self, question: Question) -> AsyncGenerator[Event]:
        try:
            async for event in super().events(question):
                yield event
        except ConnectionError as error:
            if " 401 " not in str(error):
                raise
            async for event in super().events(question):
                yield event


class DropsBlanks(Client):
    breaks = ("text",)

    async def answer(self, question: Question) -> AsyncGenerator[Piece]:
        async for piece in super().answer(question):
            if not isinstance(piece, str) or piece.strip():
                yield piece


class DropsWhatComesWithTheEnd(Client):
    """The last text of a read that also holds the end."""

    breaks = ("splits", "utf8", "spellings")

    def decoded(self, decoder: Decoder, data: bytes) -> tuple[list[Event], StreamError | None]:
        said, error = super().decoded(decoder, data)
        return [event for event in said if not (decoder.finished and isinstance(event, TextDelta))], error


class SaysOnePieceTwice(Client):
    breaks = ("text", "splits", "spellings", "usage", "lingering")

    async def answer(self, question: Question) -> AsyncGenerator[Piece]:
        count = 0
        async for piece in super().answer(question):
            yield piece
            count += isinstance(piece, str)
            if count == 2 and isinstance(piece, str):
                yield piece


class GoesOnBehindItsBack(Client):
    """What it does, it does in a task of its own, which nobody cancels."""

    breaks = ("cancel-before-headers", "cancel-before-event", "cancel-between-tokens", "cancel-in-flood")

    async def answer(self, question: Question) -> AsyncGenerator[Piece]:
        told: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._tell(question, told))
        while (piece := await told.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def _tell(self, question: Question, told: asyncio.Queue[Piece | BaseException | None]) -> None:
        try:
            async for piece in super().answer(question):
                told.put_nowait(piece)
            told.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - it is raised elsewhere
            told.put_nowait(error)


class NeedsABlank(Client):
    breaks = ("spellings",)

    def mangled(self, data: bytes) -> bytes:
        return data.replace(b"data:{", b": {").replace(b"data:[", b": [")


class KeepsTheLine(Client):
    """Ends in time, but leaves its connection open for as long as it lives."""

    breaks = ("released",)

    @asynccontextmanager
    async def connected(self, question: Question) -> AsyncIterator[asyncio.StreamReader]:
        connection = super().connected(question)
        reader = await connection.__aenter__()
        try:
            yield reader
        except (asyncio.CancelledError, GeneratorExit, OSError, EOFError):
            await connection.__aexit__(None, None, None)
            raise
        except BaseException:
            self.kept = connection, reader
            raise
        else:
            self.kept = connection, reader


def faulty() -> list[type[Client]]:
    """All that do one thing wrong."""
    return Client.__subclasses__()


# --- odd ones -----------------------------------------------------------------------------------------------------------------


async def answer(question: Question) -> AsyncGenerator[Piece]:
    """The good one, as a function of this module."""
    async for piece in Client().answer(question):
        yield piece


async def silent(question: Question) -> AsyncGenerator[Piece]:
    """One that passes a cut answer for a whole one."""
    async for piece in SwallowsTruncation().answer(question):
        yield piece


def wordy(question: Question) -> Iterator[Piece]:
    """The good one, for those who block."""
    loop = asyncio.new_event_loop()
    items = Client().answer(question)
    try:
        while (piece := loop.run_until_complete(anext(items, None))) is not None:
            yield piece
    finally:
        loop.run_until_complete(items.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def refusing(question: Question) -> AsyncGenerator[Piece]:
    """Speaks no dialect at all."""
    raise NotImplementedError(question.dialect)


async def endless(question: Question) -> AsyncGenerator[Piece]:
    """Keeps the loop to itself, whatever it is told."""
    async for piece in Client().answer(question):
        yield piece
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
