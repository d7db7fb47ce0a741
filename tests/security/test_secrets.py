"""No key leaves: planted ones are looked for in all that comes of every fault.

``RXSTREAM_LONG=1`` plays every fault, and says the keys in every spelling at every place.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import string
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream import operators as rxo
from rxstream import tracks
from rxstream._asking import asking_of
from rxstream._secrets import Secrets
from rxstream.config import Request
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import encode
from rxstream.policy import Retry
from rxstream.providers import provider
from rxstream.providers._shared import mask
from rxstream.providers.compatible import Dialect
from rxstream.sources._clients import ClientKey, close_clients
from rxstream.sources._conversation import ModelAsking
from rxstream.sources.local import LocalServer
from rxstream.sources.sdk import Connection
from rxstream.testing.chaos import FAULTS, ChaosServer, Fault
from tests.support.asking import DIALECTS, GOOD
from tests.support.canary import FORMS, HEADER, KEY, PASSWORD, PROMPT, reached, spilt, told
from tests.support.live import Transport, everywhere, no_task_left, watch
from tests.support.server import CLOSE, END, HANG, RESET, Head, Script, ScriptedServer, Wire, closed_port, page, sse

LONG: Final = os.environ.get("RXSTREAM_LONG") == "1"
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


Asked: TypeAlias = Callable[..., rxstream.Stream[Any]]
"""Asks as `stream_from` does, with these options."""


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
    return sse(error_json(name, said), "error" if name == "anthropic" else "")


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
    "headers of a page": lambda _, said: page(200, "<html>", request_id=said, x_request_id=said),
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
    rows = list(FORMS) if LONG else ["as it is", random.choice(list(FORMS))]  # noqa: S311 - a sample

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


# --- every fault there is -------------------------------------------------------------------------------------------------

OFTEN: Final = ("400", "401", "429", "error", "bad_json", "bad_utf8", "cut_event", "reset", "html", "stall", "refuse")
"""What is played in every run."""
CHAOS: Final[dict[str, Dialect]] = {"compatible": "openai-chat", "anthropic": "anthropic", "openai": "openai-responses"}


@pytest.mark.parametrize("kind", list(FAULTS) if LONG else OFTEN)
async def test_no_fault_tells_a_key(
    kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not the error, not the events on tape, not our log, not a stream's or a session's repr, not the console."""
    caplog.set_level(logging.DEBUG)

    async def check(name: str, transport: Transport) -> None:
        with ChaosServer("one two three four five", faults=Fault(kind)) as server:
            stream = rxstream.stream(
                f"{name}:m",
                PROMPT,
                base_url=server.base_url(CHAOS[name]),
                api_key=KEY,
                extra_headers={"X-Gateway-Token": f"Bearer {HEADER}"},
                transport=transport,
                timeouts={"connect": 2.0, "idle": 0.4, "total": 3.0},
                limits={"events": 2000},
            )
            retried = stream.pipe(rxo.retry_stream(attempts=2, after_output="restart", delay=0.01, budget=None))
            outcome = await watch(retried, patience=30)
        assert not leaks(outcome.ends[0])
        for text in map(repr, (stream, retried, asking_of(stream))):
            assert not told(text, KEY)
            assert not told(text, HEADER)
        if outcome.ends[0] is not None:
            assert not reached(outcome.ends[0], SDKS)
            assert PROMPT not in "".join(spilt(outcome.ends[0]))
        for event in outcome.events:
            assert not told(encode(event).decode(), KEY)

    await everywhere(check)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("rxstream")]
    assert not [text for text in ours if told(text, KEY) or told(text, HEADER) or PROMPT in text]
    theirs = [record for record in caplog.records if told(text := record.getMessage(), KEY) or told(text, HEADER)]
    assert not theirs, "an SDK logs the key"
    assert KEY not in "".join(capfd.readouterr())


RECOVERIES: Final[dict[str, Callable[[Asked], rxstream.Stream[Any]]]] = {
    "on_error": lambda ask: ask(
        on_error=Retry(attempts=2, delay=0.01), guards=[rxstream.CircuitBreaker(at_least=1, open_for=0.05)]
    ),
    "partly": lambda ask: ask(on_error="complete_partial"),
    "restart": lambda ask: ask().pipe(rxo.retry_stream(attempts=2, after_output="restart", delay=0.01)),
    "continue_": lambda ask: ask().pipe(rxo.retry_stream(attempts=2, after_output="continue_", delay=0.01)),
    "buffer": lambda ask: ask().pipe(rxo.retry_stream(attempts=2, after_output="buffer", delay=0.01)),
    "failover": lambda ask: tracks.failover(
        ask(label="a"), ask(label="b"), after_output="restart", when=lambda _: True
    ),
    "hedge": lambda ask: tracks.hedge(ask(label="a"), ask(label="b"), after=0.01),
    "race": lambda ask: tracks.race(ask(label="a"), ask(label="b")),
    "merge": lambda ask: tracks.merge(ask(label="a"), ask(label="b")),
    "guards": lambda ask: ask().pipe(
        rxo.guard(
            rxstream.CircuitBreaker(at_least=1, open_for=0.05),
            rxstream.Bulkhead(1),
            rxstream.RateLimiter(requests_per_minute=900),
        ),
        rxo.retry_stream(attempts=3, delay=0.01),
    ),
    "limits": lambda ask: ask(limits={"characters": 2, "event_bytes": 4000}).pipe(
        rxo.timeouts(total=5), rxo.limit(tokens=1)
    ),
}
"""What makes an error of errors, or goes on after one; a breaker's refusal is one more."""


@pytest.mark.parametrize("how", RECOVERIES)
@pytest.mark.parametrize("where", list(ECHOES) if LONG else ["a JSON error", "an error event"])
async def test_no_recovery_tells_a_key(how: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither what is told of the attempts that failed, nor the error in the end, nor our log."""
    caplog.set_level(logging.DEBUG)
    form = random.choice(list(FORMS))  # noqa: S311 - a sample

    async def check(name: str, transport: Transport) -> None:
        said = f"you sent {FORMS[form](KEY)} and {FORMS[form](HEADER)}"
        with ScriptedServer(ECHOES[where](name, said)) as server:
            stream = RECOVERIES[how](partial(stream_from, server, name, transport))
            outcome = await watch(stream)
        assert not leaks(outcome.ends[0]), (form, leaks(outcome.ends[0])[:3])
        if outcome.ends[0] is not None:
            assert isinstance(outcome.ends[0], StreamError)
            assert not reached(outcome.error, SDKS)
            assert PROMPT not in "".join(spilt(outcome.error))
        assert outcome.ends[0] is not None or how == "partly"
        for event in outcome.events:
            text = encode(event).decode() + repr(event)
            assert not told(text, KEY), text
            assert not told(text, HEADER), text

    await everywhere(check)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("rxstream")]
    assert not [text for text in ours if told(text, KEY) or told(text, HEADER) or PROMPT in text]


async def test_the_text_of_a_model_is_never_changed() -> None:
    """A key that a model says is text like any other: delivered, kept, and in the partial answer of an error."""

    async def check(name: str, transport: Transport) -> None:
        said = json.dumps(KEY)[1:-1]
        with ScriptedServer([*GOOD[name]("Hel", f" {KEY} ", "lo", terminal=False), END]) as server:
            outcome = await watch(stream_from(server, name, transport))
        assert said
        assert outcome.text == f"Hel {KEY} lo"
        assert outcome.error.partial is not None
        assert outcome.error.partial.text == f"Hel {KEY} lo"
        assert KEY not in str(outcome.error)

    await everywhere(check)


# --- what is to be seen of an object ----------------------------------------------------------------------------------------


def test_no_repr_shows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nothing that a user, a debugger or a traceback with locals comes to see."""
    monkeypatch.setenv("OPENAI_API_KEY", PASSWORD)
    row = provider("compatible")
    connection = Connection.to(row, base_url="http://127.0.0.1:1/v1", api_key=KEY)
    named = rxstream.stream(
        "compatible:m", PROMPT, base_url="http://127.0.0.1:1/v1", api_key=KEY, extra_headers={"X-Token": HEADER}
    )
    request = Request.build(provider="openai", model="m", messages="hi", extra_headers={"X-Token": HEADER})
    asking = asking_of(named)
    assert isinstance(asking, ModelAsking)
    key = ClientKey(sdk="openai", base_url="http://127.0.0.1:1", api_key=KEY, transport="httpx2")
    seen = [connection, named, request, key, asking, asking.key, named.pipe(rxo.retry_stream()), Secrets([KEY, HEADER])]
    for thing in [*seen, LocalServer(api_key=KEY), asking.source]:
        for text in (repr(thing), str(thing)):
            assert not told(text, KEY), text
            assert not told(text, HEADER), text
            assert not told(text, PASSWORD), text
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(connection)


async def test_a_refusal_keeps_no_key() -> None:
    """What only the subscriber is told, too: its traceback, with all locals."""
    async with openai.AsyncOpenAI(base_url="http://127.0.0.1:1", api_key=KEY) as client:
        with pytest.raises(ConfigurationError, match="anthropic needs an AsyncAnthropic") as refused:
            rxstream.stream("anthropic:m", PROMPT, client=client)
    outcome = await watch(rxstream.stream("compatible:m", PROMPT, api_key=KEY, extra_headers={"X-Token": HEADER}))
    [error] = outcome.ends
    assert not told(str(refused.value), KEY)
    assert isinstance(error, ConfigurationError)
    assert not leaks(error)
    assert not reached(error, SDKS)


@pytest.mark.parametrize("header", [f"{HEADER}\r\nX-Injected: yes", f"{HEADER}\n", f"{HEADER}\x00", f"{HEADER}☃"])
async def test_a_header_that_cannot_be_sent(header: str) -> None:
    """It is refused by its name, at once, and not shown."""
    with pytest.raises(ConfigurationError) as refused:
        rxstream.stream("openai:m", "hi", extra_headers={"X-Gateway-Token": header})
    assert "extra_headers" in str(refused.value)
    assert "X-Gateway-Token" in str(refused.value)
    assert not told(str(refused.value), HEADER)


@pytest.mark.parametrize("name", ["", "X Token", "X:Token", "X\r\nToken", "ü"])
def test_a_name_of_a_header_that_cannot_be_sent(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^extra_headers: .* is no name of a header"):
        rxstream.stream("openai:m", "hi", extra_headers={name: "x"})


async def test_no_key_of_your_own_client_is_told() -> None:
    """Neither its key nor those among its own headers."""
    for form in ("as it is", "in JSON", "percent-encoded", "in base64"):
        said = f"{FORMS[form](KEY)} {FORMS[form](HEADER)}"
        with ScriptedServer(page(401, json.dumps({"error": said}), content_type="application/json")) as server:
            async with openai.AsyncOpenAI(
                base_url=server.url, api_key=KEY, default_headers={"X-Token": HEADER}
            ) as client:
                outcome = await watch(rxstream.stream("openai-chat:m", PROMPT, client=client))
        assert not leaks(outcome.error)
        assert not reached(outcome.error, SDKS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what the SDKs make of aiohttp
@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
async def test_no_password_of_a_proxy_is_told(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that the environment names, where nobody listens, or that refuses and says it back."""
    await close_clients()
    refusal = page(407, f"no: {PASSWORD} {FORMS['in Basic, behind a user'](PASSWORD)}")
    with ScriptedServer(refusal) as proxy:
        for port in (closed_port(), proxy.port):
            monkeypatch.setenv("HTTP_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{port}")
            monkeypatch.setenv("http_proxy", f"http://me:{PASSWORD}@127.0.0.1:{port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            stream = rxstream.stream(
                "compatible:m", PROMPT, base_url="http://proxied.invalid/v1", api_key=KEY, transport=transport
            )
            outcome = await watch(stream)
            assert not [text for text in spilt(outcome.error) if told(text, PASSWORD) or told(text, KEY)]
            await close_clients()


# --- striking ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [KEY, HEADER, PASSWORD, "sk-abc_DEF-0123456789.xyz"])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_struck_out_in_every_spelling(form: str, secret: str) -> None:
    """And what stands around it is left."""
    struck = Secrets([secret]).strike(f"you sent {FORMS[form](secret)} here")
    assert not told(struck, secret)
    assert struck.startswith("you sent ")
    assert struck.endswith(" here")


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=12, max_size=60), st.data())
def test_a_piece_of_a_key_is_struck_out(secret: str, data: st.DataObject) -> None:
    """Twelve signs of it in a row never stay."""
    start = data.draw(st.integers(0, len(secret) - 12))
    piece = secret[start : data.draw(st.integers(start + 12, len(secret)))]
    assert piece not in Secrets([secret]).strike(f"({piece})")


@given(st.text(), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_can_be_struck(text: str, secrets: list[str]) -> None:
    """No secret stays as it is; without secrets, and without what looks like a key, nothing changes."""
    struck = Secrets(secrets).strike(text)
    assert not [
        secret for secret in secrets if len(secret.replace("\\", "")) > 3 and secret in struck and "*" not in secret
    ]
    assert Secrets([]).strike(text) == mask(text)
