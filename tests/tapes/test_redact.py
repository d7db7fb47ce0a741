"""No key and no prompt is on a tape: planted ones are looked for, in every form in which a server may say them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream import operators as rxo
from rxstream._secrets import Secrets
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import (
    ErrorInfo,
    Event,
    Failed,
    Finished,
    Logprobs,
    Media,
    PartEnd,
    Raw,
    Retrying,
    ServerTool,
    Started,
    Status,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    UsageReported,
)
from rxstream.providers import decoder_for
from rxstream.tapes._writer import flush
from rxstream.tapes.read import load
from rxstream.tapes.record import RequestTape, TapeRecorder
from rxstream.tapes.redact import Redactor, Rule
from rxstream.testing import Scripted
from tests.support.canary import FORMS, KEY, PROMPT, told


def lines_that_say(said: str) -> list[Event]:
    """Events that say it wherever an event can say something."""
    return [
        Started(id=said, model=said, provider=said),
        Status(status=said, payload={"deep": [{said: said}]}),
        TextDelta(text=f"you said {said}, didn't you?"),
        ToolCallDelta(arguments=json.dumps({"key": said})),
        Raw(name=said, payload=said, raw=said.encode()),
        Finished(reason="stop", raw_reason=said, details={"quoted": json.dumps(said)}),
    ]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_key_is_on_no_tape_of_events(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    events = lines_that_say(FORMS[form](KEY))
    rxstream.replay(events).pipe(rxo.record(path, secrets=[KEY], keep_raw=True, metadata={"key": KEY})).run()
    tape = load(path)
    assert len(tape.events) == len(events)
    written = path.read_text()
    raws = b"".join(event.raw or b"" for event in tape.events).decode("latin-1")
    assert not told(written + raws, KEY)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_key_is_in_no_line_of_a_body(form: str) -> None:
    said = FORMS[form](KEY)
    body = f'event: x\ndata: {{"a":{json.dumps(said)}}}\n\ndata: {said}\n: {said}\nid: {said}\n\n'
    struck = Redactor(["keys"], [KEY]).body(body.encode())
    assert not told(struck.decode(), KEY)
    assert struck.count(b"\n") == body.count("\n")
    assert list(json.loads(struck.splitlines()[1][6:])) == ["a"]


def test_what_stands_beside_a_payload_of_many_lines_is_looked_at_too() -> None:
    body = f": {KEY}\nid: {KEY}\ndata: a\n: {KEY}\ndata: %s\n\n"
    assert Redactor(["keys"], [KEY]).body((body % "b").encode()) == b": ***\nid: ***\ndata: a\n: ***\ndata: b\n\n"
    assert Redactor(["keys"], [KEY]).body((body % KEY).encode()) == b": ***\nid: ***\n: ***\ndata: a ***\n\n"


def test_an_event_of_very_many_lines_takes_no_longer_than_one_of_few() -> None:
    """Lines that are taken out were looked for in a list of them: this took minutes."""
    struck = Redactor(["keys"], [KEY]).body(b"data:\n" * 200_000 + b"data: " + KEY.encode() + b"\n\n")
    assert struck.split() == [b"data:", b"***"]


def test_what_a_rule_makes_of_a_line_is_one_line() -> None:
    redactor = Redactor([lambda text: f"<{text}>\n\n"])
    assert redactor.body(b": a\r\ndata: b\r\n\r\n") == b"<: a> \r\ndata: <b> \r\n\r\n"


def test_keys_of_the_environment_and_of_connections_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "plain-looking-word-of-the-environment")
    connection = Secrets(["another-plain-looking-word"])
    said = "plain-looking-word-of-the-environment another-plain-looking-word"
    path = tmp_path / "a.tape"
    rxstream.from_iterable([said]).pipe(rxo.record(path)).run()
    assert [event.text for event in load(path).events if isinstance(event, TextDelta)] == ["*** ***"]
    del connection


def test_a_key_in_an_error_is_struck_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    source = rxstream.Stream.of(Scripted(["a", Disconnected(f"gone with {KEY}")]).events())
    with pytest.raises(Disconnected):
        source.pipe(rxo.record(path, secrets=[KEY])).run()
    flush()
    assert not told(path.read_text(), KEY)
    with pytest.raises(Disconnected, match=r"gone with \*\*\*"):
        rxstream.tape(path).run()


def test_what_looks_like_a_key_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(["it is sk-proj-abcdefgh1234 and AIzaSyA1234567890 and Bearer abcdef.ghi"]).pipe(
        rxo.record(path)
    ).run()
    assert rxstream.tape(path, speed="max").run().text == "it is *** and *** and Bearer ***"


def test_a_prompt_that_is_said_back_is_struck_out() -> None:
    redactor = Redactor(["prompts"])
    payload = {
        "type": "response.created",
        "response": {"id": "r", "instructions": PROMPT, "model": "m", "tools": [], "user": PROMPT},
        "__verbose": {"prompt": PROMPT, "messages": [{"role": "user", "content": PROMPT}]},
    }
    line = b"data: " + json.dumps(payload).encode() + b"\r\n"
    struck = redactor.body(line)
    assert PROMPT.encode() not in struck
    assert struck.endswith(b"}\r\n")
    assert json.loads(struck[6:])["response"]["model"] == "m"
    raw = redactor.payload(json.dumps(payload).encode())  # as an event keeps it
    assert PROMPT.encode() not in raw
    assert json.loads(raw)["type"] == "response.created"
    event = redactor.json(json.dumps({"t": 1, "e": {"type": "status", "status": "x", "payload": payload}}).encode())
    assert PROMPT.encode() not in event


SCHEMA = {"type": "object", "description": PROMPT, "properties": {PROMPT: {"enum": [PROMPT]}}}
ASKED: dict[str, Any] = {
    "instructions": [{"role": "system", "content": [{"type": "input_text", "text": PROMPT}]}],
    "input": [{"role": "user", "content": PROMPT}],
    "tools": [{"type": "function", "name": "f", "description": PROMPT, "parameters": SCHEMA}],
    "tool_choice": {"type": "function", "name": PROMPT},
    "text": {"format": {"type": "json_schema", "name": PROMPT, "schema": SCHEMA}},
    "response_format": {"type": "json_schema", "json_schema": SCHEMA},
    "prompt": {"id": "p", "variables": {"name": PROMPT}},
    "metadata": {"who": PROMPT},
    "chat_history": [PROMPT],
    "generation_settings": {"grammar": PROMPT, "stop": [PROMPT]},
    "prompt_token_ids": [3, 14, 15],
    **dict.fromkeys(("system_prompt", "prompt_cache_key", "safety_identifier", "user", "prompt_text"), PROMPT),
}
"""What a request says, as providers say it back."""
DONE_SAYING: dict[str, Any] = {
    "id": "r",
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [
        {"type": "message", "id": "i", "content": [{"type": "output_text", "text": "Blue."}]},
        {"type": "tool_search_output", "id": "j", "tools": ASKED["tools"]},
    ],
    "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5},
}


def echoes() -> dict[str, bytes]:
    """Bodies that say all of the request back, in the shapes in which servers may."""
    whole = {"type": "response.completed", "response": {**DONE_SAYING, **ASKED, "new_in_2031": {"of": [PROMPT]}}}
    chunk = {"choices": [{"index": 0, "delta": {"content": "Blue."}, "finish_reason": "stop"}], **ASKED}
    failed = {
        "error": {"message": "no", "metadata": {"raw": json.dumps({"messages": [PROMPT]}), "flagged_input": PROMPT}}
    }
    pretty = b"".join(b"data: %b\r\n" % line.encode() for line in json.dumps(whole, indent=1).splitlines())
    return {
        "as it is": b"event: response.completed\ndata: %b\n\n" % json.dumps(whole).encode(),
        "without spaces": b"\xef\xbb\xbfdata:%b\r\n\r\n" % msgspec.json.encode(whole),
        "on many lines": b"id: 1\r\n%b\r\n" % pretty,
        "as text": b"data: %b\n\n" % json.dumps({"type": "x", "raw": json.dumps(whole)}).encode(),
        "beside the choices": b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({**chunk, "__verbose": ASKED}).encode(),
        "in an error": b"data: %b\n\n" % json.dumps(failed).encode(),
        "in a comment": b": %b\n\n" % json.dumps(ASKED).encode(),
    }


class Sheet:
    """In place of a tape: what is written down of a body."""

    def __init__(self) -> None:
        self.said = b""
        self.redactor = Redactor(["keys", "prompts"])

    def piece(self, number: int, data: bytes) -> None:
        self.said += self.redactor.body(data)

    def line(self, line: object) -> None: ...

    def now(self) -> float:
        return 0.0


def written(*pieces: bytes) -> bytes:
    """What is written down of a body that comes in these pieces."""
    sheet = Sheet()
    request = RequestTape(cast("TapeRecorder", sheet), 1)
    for piece in pieces:
        request.data(piece)
    request.end("end")
    return sheet.said


@pytest.mark.parametrize("shape", echoes())
def test_nothing_of_a_request_that_is_said_back_is_written_down(shape: str) -> None:
    """However the body is cut, and wherever it breaks off: each byte is tried in one of the shapes or another."""
    body = echoes()[shape]
    whole = written(body)
    for at in range(len(shape), len(body), 13):
        assert written(body[:at], body[at:]) == whole
        for said in (whole, written(body[:at])):
            assert b"cnryPrompt" not in said
            assert b"14" not in said
    assert shape in ("in an error", "in a comment") or b"Blue." in whole


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_it_may_be_cut_at_any_byte(ending: str) -> None:
    lines = [
        f'data: {{"tools":["{PROMPT}"]}}',
        "",
        "data: [",
        'data: {"user":',
        f'data: "{PROMPT}"}}]',
        "",
        "data: [DONE]",
        "",
    ]
    body = "".join(line + ending for line in lines).encode()
    whole = written(body)
    assert whole.decode() == ending.join(
        ['data: {"tools":"***"}', "", 'data: [{"user":"***"}]', "", "data: [DONE]", "", ""]
    )
    for at in range(len(body)):
        assert written(body[:at], body[at:]) == written(*(body[i : i + 1] for i in range(at)), body[at:]) == whole
        assert b"cnryPrompt" not in written(body[:at])


def test_of_an_answer_that_says_the_request_back_the_answer_stays() -> None:
    decoder = decoder_for("openai", keep_raw=False)
    events = [*decoder.feed(written(echoes()["on many lines"])), *decoder.close()]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Blue."]
    assert [event.usage.total_tokens for event in events if isinstance(event, UsageReported)] == [5]
    assert isinstance(events[-1], Finished)


def test_nothing_of_a_request_is_in_an_event(tmp_path: Path) -> None:
    """Nor in the bytes behind it, which may be many lines of JSON."""
    path = tmp_path / "a.tape"
    events: list[Event] = [
        Raw(name="x", payload=ASKED, raw=json.dumps(ASKED, indent=1).encode()),
        PartEnd(payload={"type": "tool_search_output", "tools": ASKED["tools"]}),
        ServerTool(step="result", payload=json.dumps(ASKED)),
        ToolCall(id="c", name="draw", arguments='{"prompt":"a cat"}'),
        Finished(reason="stop", details=ASKED),
    ]
    rxstream.replay(events).pipe(rxo.record(path, keep_raw=True)).run()
    tape = load(path)
    said = path.read_text() + repr([event.raw for event in tape.events])
    assert "cnryPrompt" not in said
    assert [event.arguments for event in tape.events if isinstance(event, ToolCall)] == ['{"prompt":"a cat"}']


def test_what_whoever_records_says_stays_but_for_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    said = {"prompt": "greeting-3", "user": "Ada", "text": "said", "key": KEY}
    rules: list[Rule] = ["keys", "prompts", "text", lambda text: text.replace("Ada", "N. N.")]
    rxstream.from_iterable(["a"]).pipe(rxo.record(path, redact=rules, secrets=[KEY], metadata=said)).run()
    assert load(path).header.metadata == {"prompt": "greeting-3", "user": "N. N.", "text": "said", "key": "***"}


def test_what_a_rule_raises_is_not_blamed_on_the_metadata(tmp_path: Path) -> None:
    def rule(text: str) -> str:
        raise ValueError(f"what is {text!r}?")

    with pytest.raises(ValueError, match="what is 'me'"):
        rxo.record(
            tmp_path / "a.tape", redact=[lambda text: text if text == "who" else rule(text)], metadata={"who": "me"}
        )


def test_text_is_dots_and_keeps_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(["The sky, ", "blue!"]).pipe(rxo.record(path, redact=["text"])).run()
    assert rxstream.tape(path, speed="max").run().text == "··· ···, ····!"


def test_a_rule_of_ones_own_gets_each_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    rxstream.from_iterable(["Ask Ishmael ", "of Nantucket."]).pipe(
        rxo.record(path, redact=["keys", lambda text: text.replace("Ishmael", "N. N.")])
    ).run()
    assert rxstream.tape(path, speed="max").run().text == "Ask N. N. of Nantucket."


def test_what_has_nothing_to_hide_stays_byte_for_byte() -> None:
    body = 'event: x\r\ndata:{"a" : "☃ b", "n":1.50}\r\n\r\n: ping\n\ndata: [DONE]\n\n'.encode() + b"\xff\xfe\n"
    assert Redactor(["keys", "prompts"], [KEY]).body(body) == body
    assert Redactor([]).body(body) == body
    assert Redactor([]).json(b'{"a" : 1}') == b'{"a" : 1}'


def test_json_that_is_none_is_text() -> None:
    redactor = Redactor(["keys", "prompts"], [KEY])
    assert redactor.body(b'{"a": sk-abcdefghijkl') == b'{"a": ***'
    assert Redactor(["text", "prompts", "keys"]).body(b"data: [DONE]\n") == b"data: [DONE]\n"


def test_half_a_line_says_no_prompt() -> None:
    """As a connection leaves it that breaks in the midst of one."""
    redactor = Redactor(["keys", "prompts"], [KEY])
    assert redactor.body(b'data: {"a":1,"prompt": "xxx') == b'data: {"a":1,***'
    assert redactor.body(b'{"a":"\\"user\\":\\"xxx\r\n') == b'{"a":"\\***\r\n'
    assert redactor.body(b'data: {"a":"xxx') == b'data: {"a":"xxx'
    assert Redactor(["text"]).body(b'data: {"a":"xxx') == 'data: {"·":"···'.encode()


def test_short_keys_and_long_texts() -> None:
    redactor = Redactor(["keys"], ["k3y!", "a-longer-secret-word"])
    for said in ("k3y!", "a-longer-secret-word"):
        for around in ("", "word " * 50):
            assert said not in redactor.json(json.dumps(around + said + around).encode()).decode()
    assert not redactor.passes("so k3y! it is")
    assert redactor.passes("nothing here")


WORDS = ("sk", "pk", "rk", "xai", "gsk", "pplx", "csk", "nvapi", "hf", "fw", "r8", "tgp")
PREFIXES = [f"{word}{dash}" for word in WORDS for dash in "-_"]
PIECES = [
    "k3y!",
    "a-longer-",
    "secret-word",
    "bearer ",
    "BEARER ",
    "API key provided: ",
    "API KEY PROVIDED: ",
    "eyJ",
    "a",
    ".b.c",
    "AIza",
    " ",
    "abcdef",
]


@given(st.lists(st.sampled_from(PREFIXES) | st.sampled_from(PIECES)))
def test_what_passes_holds_no_key(pieces: list[str]) -> None:
    """Short texts are not looked at, and in others only for signs of one."""
    said = "".join(pieces)
    redactor = Redactor(["keys"], ["k3y!", "a-longer-secret-word"])
    assert redactor.passes(said) <= (Secrets(["k3y!", "a-longer-secret-word"]).strike(said) == said)
    assert Redactor(["keys"], ["a-longer-secret-word"]).passes(said) <= (Secrets([]).strike(said) == said)


@pytest.mark.parametrize("rules", ["keys", ["keyz"], [3], 7])
def test_what_is_no_rule_is_refused(rules: object) -> None:
    with pytest.raises(ConfigurationError, match="redact"):
        Redactor(rules)  # type: ignore[arg-type]  # what it is for


def test_what_a_model_says_is_dots_wherever_it_says_it() -> None:
    """Its tokens with their probabilities, the arguments of its calls, its code; what happened stays."""
    said = {
        "logprobs": {"content": [{"token": "Paris", "bytes": [80, 97], "top_logprobs": [{"token": "Paris"}]}]},
        "content_block": {"type": "tool_use", "name": "weather", "input": {"city": "Paris", "days": [{"in": "Paris"}]}},
        "item": {"type": "code_interpreter_call", "code": "Paris", "outputs": [{"type": "logs", "logs": "Paris"}]},
    }
    struck = json.loads(Redactor(["text"]).body(json.dumps(said).encode()))
    assert "Paris" not in json.dumps(struck)
    assert struck["logprobs"]["content"][0]["bytes"] == []
    assert struck["content_block"]["name"] == "weather"
    error = b'{"error":{"type":"x","code":"insufficient_quota","message":"no"}}'
    assert Redactor(["text"]).body(error) == error


EVENTS: list[Event] = [
    *lines_that_say("said"),
    Logprobs(content=[{"token": "a", "bytes": [1]}]),
    Media(kind="audio", data="QUJD"),
    Failed(error=ErrorInfo(kind="TimedOut", message="x", phase="output")),
    Retrying(error=ErrorInfo(kind="TimedOut", message="x")),
    Finished(reason="stop"),
]


@pytest.mark.parametrize(
    "options",
    [
        {"redact": ["text"], "keep_raw": True},
        {"redact": [str.upper], "keep_raw": True},
        {"redact": [lambda _: "x"], "keep_raw": True},
        {"secrets": ["stop", "text", "finished", "type", "text-delta", "message"]},
    ],
)
def test_a_tape_can_be_read_whatever_is_struck_out(options: dict[str, Any], tmp_path: Path) -> None:
    """A rule, or a key such as people use for servers of their own, that is a word of the format does not break it."""
    path = tmp_path / "a.tape"
    rxstream.replay(EVENTS).pipe(rxo.record(path, **options)).run()
    assert list(map(type, load(path).events)) == list(map(type, EVENTS))


def test_what_a_rule_leaves_unreadable_is_not_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tape ends there, and can be read."""
    path = tmp_path / "a.tape"
    events: list[Event] = [TextDelta(text="a"), Raw(raw=b"sk-abcdefgh12345678"), Finished(reason="stop")]
    rule: Any = len
    rxstream.replay(events).pipe(rxo.record(path, redact=[rule])).run()
    tape = load(path)
    assert tape.end is not None
    assert tape.end.end == "cut"
    assert "something cannot be written" in caplog.text


@pytest.mark.parametrize("key", [b"a-key-in-bytes", "abc", "", None])
def test_what_is_no_key_is_refused(key: Any, tmp_path: Path) -> None:
    """Else it would be written down, and nobody told."""
    with pytest.raises(ConfigurationError, match="secrets: a key is"):
        rxo.record(tmp_path / "a.tape", secrets=[key])
