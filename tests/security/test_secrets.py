"""No key leaves: planted ones are looked for in all that comes of every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

import rxstream
from rxstream.errors import StreamError
from rxstream.events import encode
from tests.support.asking import DIALECTS, GOOD
from tests.support.canary import FORMS, HEADER, KEY, PROMPT, reached, spilt, told
from tests.support.live import Transport, everywhere, no_task_left, watch
from tests.support.server import CLOSE, END, HANG, RESET, Head, Script, ScriptedServer, Wire, page, sse

SDKS: Final = ("openai", "anthropic", "httpx2", "httpcore2", "aiohttp", "h11", "multidict", "httpx2_aiohttp")


def stream_from(server: ScriptedServer, name: str, transport: Transport, **options: Any) -> rxstream.Stream[Any]:
    """An answer of the server, asked with a planted key, a planted header and a planted prompt."""
    return rxstream.stream(
        f"{name}:scripted-1",
        PROMPT,
        base_url=server.url + DIALECTS[name],
        api_key=KEY,
        extra_headers={"X-Gateway-Token": f"Bearer {HEADER}"},
        transport=transport,
        **options,
    )


def leaks(thing: Any) -> list[str]:
    """Where a key stands in what can be got of `thing`."""
    found: list[str] = []
    for text in spilt(thing):
        for secret in (KEY, HEADER):
            found += [f"{secret[:8]} {form}: {text[:300]!r}" for form in told(text, secret)]
    return found


def begun(name: str) -> list[bytes]:
    return GOOD[name]("Hel", terminal=False)


def error_json(name: str, said: str, kind: str = "invalid_request_error") -> Any:
    if name == "anthropic":
        return {"type": "error", "error": {"type": kind, "message": said}, "request_id": said}
    return {"error": {"message": said, "type": kind, "param": said, "code": said}}


def error_event(name: str, said: str) -> bytes:
    if name == "openai":
        return sse({"type": "error", "sequence_number": 4, "code": said, "message": said, "param": None}, "error")
    return sse(error_json(name, said), "error" if name == "anthropic" else None)


ECHOES: Final[dict[str, Callable[[str, str], Script]]] = {
    "a JSON error": lambda name, said: page(401, json.dumps(error_json(name, said)), content_type="application/json"),
    "a JSON error that is a text": lambda name, said: page(
        400, json.dumps({"error": said}), content_type="application/json"
    ),
    "a JSON error in bad JSON": lambda _, said: page(500, f'{{"error": "{said}', content_type="application/json"),
    "a page of an error": lambda _, said: page(403, f"<html><p>{said}</p></html>"),
    "plain text": lambda _, said: page(400, said, content_type="text/plain"),
    "text cut at our limit": lambda _, said: page(400, "x" * (2048 - len(said) // 2) + said, content_type="text/plain"),
    "text cut at the limit of a message": lambda _, said: page(
        400, "x" * (500 - len(said) // 2) + said, content_type="text/plain"
    ),
    "a good status and JSON": lambda name, said: page(
        200, json.dumps(error_json(name, said)), content_type="application/json"
    ),
    "a good status and a page": lambda _, said: page(200, f"<html>{said}</html>"),
    "a redirect": lambda _, said: page(302, "", location=f"https://me:{said}@elsewhere.example/{said}?key={said}"),
    "headers": lambda name, said: page(
        429,
        json.dumps(error_json(name, "slow down")),
        content_type="application/json",
        request_id=said,
        x_request_id=said,
        www_authenticate=said,
        server=said,
        retry_after=said,
    ),
    "a content type": lambda _, said: page(200, "x", content_type=f"text/{said}"),
    "an encoding": lambda name, said: [Head(headers={"content-encoding": said}), *GOOD[name]("Hel")],
    "an error event": lambda name, said: [*begun(name), error_event(name, said), HANG],
    "an error event at once": lambda name, said: [error_event(name, said), HANG],
    "an error event in bad JSON": lambda name, said: [*begun(name), f'data: {{"error": {said}\n\n'.encode(), HANG],
    "an error event in two pieces": lambda name, said: [
        *begun(name),
        (event := error_event(name, said))[: (half := event.index(b"cnry") + 6 if b"cnry" in event else 20)],
        event[half:],
        HANG,
    ],
    "the status line": lambda _, said: [Wire(f"HTTP/1.1 500 {said}\r\ncontent-length: 0\r\n\r\n".encode()), END],
    "no HTTP": lambda _, said: [Wire(f"{said}\r\n\r\n".encode()), CLOSE],
    "a broken header": lambda _, said: [Wire(f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode()), CLOSE],
    "a broken chunk": lambda _, said: [Head(), Wire(f"{said}\r\n".encode()), RESET],
}
"""Where a server may say what it was sent."""


@pytest.mark.parametrize("where", ECHOES)
async def test_an_echo_is_struck_out(where: str) -> None:
    """In no form, of nothing that can be got of the error, nor of the objects that it keeps."""
    rows = [form for form in FORMS if where == "a JSON error" or form in ("as it is", "in Basic, behind a user")]

    async def check(name: str, transport: Transport, form: str) -> None:
        said = f"you sent {FORMS[form](KEY)} and {FORMS[form](HEADER)}"
        with ScriptedServer(ECHOES[where](name, said)) as server:
            outcome = await watch(stream_from(server, name, transport))
        assert not leaks(outcome.ends[0]), (form, leaks(outcome.ends[0])[:3])
        assert isinstance(outcome.ends[0], StreamError)
        assert not reached(outcome.error, SDKS)
        assert PROMPT not in "".join(spilt(outcome.error))
        assert not [event for event in outcome.events if told(encode(event).decode(), KEY)]

    for form in rows:
        await everywhere(partial(check, form=form))
    await no_task_left()
