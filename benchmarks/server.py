"""A loopback server for benchmarks, in a process of its own: it answers as fast as it is read, or at a given pace.

The model's name says how: ``burst-20000`` is 20 000 events at once, one HTTP chunk an event, written 200 at a time;
``paced-2000`` is 2000 events 250 µs apart, each written alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

PACE = 0.00025
"""Seconds between two events of a paced answer."""
BURST = 200
"""Events that are written together, some 64 KiB."""

_CHAT = (
    '{"id":"chatcmpl-9xyzABCDEFGHijklmnop","object":"chat.completion.chunk","created":1795234055,'
    '"model":"bench-model-2026-10-01","service_tier":"default","system_fingerprint":"fp_0123456789",'
    '"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}],"usage":%s}'
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"


def _sse(data: str, event: str = "") -> bytes:
    return (f"event: {event}\n" if event else "").encode() + f"data: {data}\n\n".encode()


def _chat(count: int) -> list[bytes]:
    delta = _sse(_CHAT % ('{"content":" word"}', "null", "null"))
    usage = '{"prompt_tokens":9,"completion_tokens":%d,"total_tokens":%d}' % (count, count + 9)
    return [
        _sse(_CHAT % ('{"role":"assistant","content":""}', "null", "null")),
        *[delta] * count,
        _sse(_CHAT % ("{}", '"stop"', "null")),
        _sse(_CHAT.replace('[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]', "[]") % usage),
        _sse("[DONE]"),
    ]


def _responses(count: int) -> list[bytes]:
    response = '{"id":"resp_1","object":"response","created_at":1,"status":"%s","model":"bench","output":[]%s}'
    usage = (
        ',"usage":{"input_tokens":9,"output_tokens":%d,"total_tokens":%d,"input_tokens_details":{"cached_tokens":0},'
        '"output_tokens_details":{"reasoning_tokens":0}}' % (count, count + 9)
    )
    opened = '{"type":"response.created","sequence_number":0,"response":%s}' % (response % ("in_progress", ""))
    item = '{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}'
    pieces = [
        _sse(opened, "response.created"),
        _sse(
            '{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":%s}' % item,
            "response.output_item.added",
        ),
    ]
    pieces += [
        _sse(
            '{"type":"response.output_text.delta","sequence_number":%d,"item_id":"msg_0123456789abcdef0123456789",'
            '"output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"aBcDeFgHiJk"}' % number,
            "response.output_text.delta",
        )
        for number in range(2, count + 2)
    ]
    closed = '{"type":"response.completed","sequence_number":%d,"response":%s}' % (
        count + 2,
        response % ("completed", usage),
    )
    return [*pieces, _sse(closed, "response.completed")]


def _messages(count: int) -> list[bytes]:
    start = (
        '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"bench","content":[],'
        '"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}'
    )
    block = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
    delta = _sse(
        '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word"}}', "content_block_delta"
    )
    end = (
        '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":%d}}'
        % count
    )
    return [
        _sse(start, "message_start"),
        _sse(block, "content_block_start"),
        *[delta] * count,
        _sse('{"type":"content_block_stop","index":0}', "content_block_stop"),
        _sse(end, "message_delta"),
        _sse('{"type":"message_stop"}', "message_stop"),
    ]


ANSWERS = {"/v1/chat/completions": _chat, "/v1/responses": _responses, "/v1/messages": _messages}


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while request := await reader.readuntil(b"\r\n\r\n"):
            head = request.decode("latin-1")
            length = next(
                int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
            )
            model: str = json.loads(await reader.readexactly(length))["model"]
            how, count = model.split("-")
            pieces = ANSWERS[head.split(" ")[1]](int(count))
            writer.write(_HEAD)
            if how == "paced":
                for piece in pieces:
                    writer.write(_chunk(piece))
                    await writer.drain()  # tells that the client has left
                    await asyncio.sleep(PACE)
            else:
                for at in range(0, len(pieces), BURST):
                    writer.write(b"".join(map(_chunk, pieces[at : at + BURST])))
                    await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    writer.close()


def _main(pipe: Connection) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a running server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
