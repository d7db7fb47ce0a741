"""What was recorded comes again, byte for byte, without a network or a key; and nothing secret is in it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import rxstream
from rxstream.config import Request
from rxstream.errors import AuthError, ConfigurationError, RateLimited, ServerFault, StreamError, StreamIncomplete
from rxstream.events import Finished, Seam, is_content
from rxstream.observable import Stream
from rxstream.providers import decoder_for
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.local import LocalServer
from rxstream.testing import Cassette
from rxstream.testing.chaos import Call, ChaosServer, Script, Served
from rxstream.tracks import failover
from tests.support.server import ScriptedServer, page

KEY = "sk-a-key-that-nobody-may-see-0123456789"


def asked(server: ChaosServer | None, model: str = "one", prompt: str = "Why?") -> Stream[Any]:
    """A stream of a server; without one, of an address where nobody listens, and without a key."""
    if server is None:
        return rxstream.stream(f"compatible:{model}", prompt, base_url="http://127.0.0.1:9/v1")
    return rxstream.stream(f"compatible:{model}", prompt, base_url=server.base_url("openai-chat"), api_key=KEY)


def test_what_was_recorded_comes_again(tmp_path: Path) -> None:
    script = Script("Why ", "not? ", Call("weather", '{"city": "Paris"}'))
    with ChaosServer(script) as server, Cassette(tmp_path, name="test", recording=True) as recording:
        first = asked(server).run()
    with Cassette(tmp_path, name="test") as playing:
        again = asked(None).run()
    assert again.text == first.text == "Why not? "
    assert (again.tool_calls, again.usage) == (first.tool_calls, first.usage)
    assert recording.files == playing.files == [tmp_path / "test.compatible-one.1.sse"]
    assert Script.load(recording.files[0]).text == "Why not? "


def test_each_request_has_its_body_and_each_model_its_numbers(tmp_path: Path) -> None:
    async def both(server: ChaosServer | None) -> list[str]:
        async def text(model: str) -> str:
            return (await asked(server, model)).text

        return [*await asyncio.gather(text("one"), text("two")), await text("one")]

    def says(served: Served) -> str:
        model = served.json["model"]
        return f"{model} {sum(request.json['model'] == model for request in server.requests)}"

    with ChaosServer(says) as server, Cassette(tmp_path, name="test", recording=True):
        first = asyncio.run(both(server))
    assert first == ["one 1", "two 1", "one 2"]
    with Cassette(tmp_path, name="test"):
        assert asyncio.run(both(None)) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "test.compatible-one.1.sse",
        "test.compatible-one.2.sse",
        "test.compatible-two.1.sse",
    ]


def test_what_was_cut_is_cut_again(tmp_path: Path) -> None:
    with (
        ChaosServer("Why not?", faults="reset:content=1") as server,
        Cassette(tmp_path, name="test", recording=True),
        pytest.raises(rxstream.errors.StreamError) as first,
    ):
        asked(server).run()
    with Cassette(tmp_path, name="test"), pytest.raises(StreamIncomplete) as cut:
        asked(None).run()
    assert first.value.partial is not None
    assert cut.value.partial is not None
    assert cut.value.partial.text == first.value.partial.text == "Why"


def test_no_key_and_no_prompt_is_written_down(tmp_path: Path) -> None:
    with ChaosServer(f"You said {KEY}.") as server, Cassette(tmp_path, name="test", recording=True) as cassette:
        assert KEY in asked(server, prompt="a secret prompt").run().text
    body = cassette.files[0].read_text()
    assert KEY not in body
    assert "secret prompt" not in body
    assert "You said" in "".join(Script.load(cassette.files[0]).text)


def test_the_key_of_a_connection_that_is_gone_is_not_written_down_either(tmp_path: Path) -> None:
    """One that no pattern knows, and no environment."""
    key = "cnry9f3aZt0042-of-my-own"
    with ChaosServer(f"You said {key}.") as server, Cassette(tmp_path, name="test", recording=True) as cassette:
        rxstream.stream("compatible:one", "Why?", base_url=server.base_url("openai-chat"), api_key=key).run()
        gc.collect()
    assert key not in cassette.files[0].read_text()


def test_what_says_the_question_back_is_not_written_down(tmp_path: Path) -> None:
    body = b'data: {"instructions":"a secret","messages":["a secret"],"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'

    @asynccontextmanager
    async def answer() -> AsyncGenerator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncGenerator[bytes]:
            yield body

        yield pieces()

    asks = Request.build(provider="compatible", model="one", messages="Why?")
    source = Source(
        open=answer, decoder=lambda: decoder_for("compatible"), provider="compatible", model="one", asks=asks
    )
    with Cassette(tmp_path, name="test", recording=True) as cassette, pytest.raises(StreamIncomplete):
        Stream.of(pump(source)).run()
    assert b"a secret" not in cassette.files[0].read_bytes()
    assert b"Hi" in cassette.files[0].read_bytes()


def test_of_what_was_not_recorded_it_says_so(tmp_path: Path) -> None:
    said = r"nothing was recorded of test.openai-gpt_5.1.sse in"
    with Cassette(tmp_path, name="test"), pytest.raises(ConfigurationError, match=said):
        rxstream.stream("openai:gpt-5", "Why?").run()


def test_recorded_again_nothing_old_is_left_but_others(tmp_path: Path) -> None:
    for name in ("test.compatible-one.7.sse", "test.openai-gpt_4.1.2.sse", "test_other.compatible-one.1.sse"):
        (tmp_path / name).write_bytes(b"old")
    with ChaosServer("Why not?") as server, Cassette(tmp_path / ".", name="test", recording=True):
        asked(server).run()
    left = ["test.compatible-one.1.sse", "test_other.compatible-one.1.sse"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_a_test_that_fails_before_it_asks_anything_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "test.compatible-one.1.sse").write_bytes(b"old")
    with Cassette(tmp_path, name="test", recording=True) as cassette:
        pass
    assert (cassette.files, [path.read_bytes() for path in tmp_path.iterdir()]) == ([], [b"old"])


def test_what_has_a_longer_name_is_not_deleted(tmp_path: Path) -> None:
    others = ["test.it.compatible-one.1.sse", "test.5.compatible-one.1.sse", "test.compatible.sse", "test.sse"]
    for name in others:
        (tmp_path / name).write_bytes(b"another's")
    with ChaosServer("Why not?") as server, Cassette(tmp_path, name="test", recording=True) as cassette:
        asked(server).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, cassette.files[0].name])


def test_a_request_that_was_refused_and_asked_again_is_played_as_one(tmp_path: Path) -> None:
    def text(server: ChaosServer | None) -> str:
        return asked(server).pipe(rxstream.operators.retry_stream(delay=0.001)).run().text

    with ChaosServer("Why not?", faults=["503"]) as server, Cassette(tmp_path, name="test", recording=True):
        assert text(server) == "Why not?"
    with Cassette(tmp_path, name="test") as playing:
        assert text(None) == "Why not?"
    assert [path.name for path in playing.files] == ["test.compatible-one.1.sse"]


@pytest.mark.parametrize(
    ("provider", "dialect", "after_output"),
    [
        ("openai", "openai-responses", "resume"),
        ("compatible", "openai-chat", "restart"),
        ("compatible", "openai-chat", "continue_"),
        ("compatible", "openai-chat", "buffer"),
    ],
)
def test_an_answer_of_several_requests_is_played_as_one(
    provider: str, dialect: Any, after_output: Any, tmp_path: Path
) -> None:
    """Each request has its own: what is resumed goes on where it was cut."""

    def events(base_url: str) -> list[Any]:
        answer = rxstream.stream(f"{provider}:one", "Why?", base_url=base_url, api_key="any", keep_raw=False)
        again = rxstream.operators.retry_stream(after_output=after_output, delay=0.001)
        return [type(event) for event in answer.pipe(again) if is_content(event) or isinstance(event, (Seam, Finished))]

    faults = ["529", "close:content=2"]
    with (
        ChaosServer("Air scatters blue light.", faults=faults) as server,
        Cassette(tmp_path, name="test", recording=True) as recording,
    ):
        first = events(server.base_url(dialect))
    with Cassette(tmp_path, name="test"):
        assert events("http://127.0.0.1:9/v1") == first
    assert (len(recording.files), first[-1]) == (2, Finished)


def test_a_run_in_which_all_fails_leaves_what_was_recorded(tmp_path: Path) -> None:
    with ChaosServer("Why not?") as server, Cassette(tmp_path, name="test", recording=True):
        asked(server).run()
    with (
        ChaosServer("Why not?", faults="401") as server,
        Cassette(tmp_path, name="test", recording=True),
        pytest.raises(rxstream.errors.StreamError),
    ):
        asked(server).run()
    with Cassette(tmp_path, name="test"):
        assert asked(None).run().text == "Why not?"


@pytest.mark.parametrize(
    ("fault", "kind", "retry_after"),
    [("401", AuthError, None), ("429:retry_after=7", RateLimited, 7), ("500", ServerFault, None)],
)
def test_a_refusal_comes_again_with_all_that_it_said(
    fault: str, kind: type[StreamError], retry_after: float | None, tmp_path: Path
) -> None:
    with (
        ChaosServer("Why not?", faults=fault) as server,
        Cassette(tmp_path, name="test", recording=True) as recording,
        pytest.raises(kind) as first,
    ):
        asked(server, prompt="a secret prompt").run()
    assert [path.name for path in recording.files] == ["test.compatible-one.1.json"]
    with Cassette(tmp_path, name="test"):
        with pytest.raises(kind):
            asked(None).run()
        with pytest.raises(kind) as again:  # asked again, it is refused again
            asked(None).run()
    assert again.value.info() == first.value.info()
    assert (again.value.body, again.value.request_id) == (first.value.body, first.value.request_id)
    assert (again.value.retry_after, str(again.value)) == (retry_after, str(first.value))
    assert "secret" not in recording.files[0].read_text()


def test_no_key_and_no_prompt_is_in_a_refusal(tmp_path: Path) -> None:
    body = {"error": {"message": f"Incorrect API key provided: {KEY}"}, "messages": ["a secret prompt"]}
    with (
        ScriptedServer(page(401, json.dumps(body), content_type="application/json")) as server,
        Cassette(tmp_path, name="test", recording=True) as recording,
        pytest.raises(AuthError),
    ):
        rxstream.stream("compatible:one", "Why?", base_url=f"{server.url}/v1", api_key=KEY).run()
    written = recording.files[0].read_text()
    assert "Incorrect API key" in written
    assert KEY not in written
    assert "secret prompt" not in written


def test_who_answers_in_anothers_place_does_so_again(tmp_path: Path) -> None:
    def text(server: ChaosServer | None) -> str:
        return failover(asked(server, "one"), asked(server, "two")).run().text

    with ChaosServer("Why not?", faults=["401"]) as server, Cassette(tmp_path, name="test", recording=True):
        assert text(server) == "Why not?"
    with Cassette(tmp_path, name="test") as playing:
        assert text(None) == "Why not?"
    assert [path.name for path in playing.files] == ["test.compatible-one.1.json", "test.compatible-two.1.sse"]


def test_several_questions_at_once_have_each_its_own_answer(tmp_path: Path) -> None:
    """In whatever order they are asked."""

    async def ask(server: ChaosServer | None, *prompts: str) -> dict[str, str]:
        answers = await asyncio.gather(*(asked(server, prompt=prompt) for prompt in prompts))
        return {prompt: answer.text for prompt, answer in zip(prompts, answers, strict=True)}

    def says(served: Served) -> str:
        return f"You asked {served.json['messages'][-1]['content']}"

    prompts = ["a", "b", "c", "b"]
    with ChaosServer(says) as server, Cassette(tmp_path, name="test", recording=True) as recording:
        first = asyncio.run(ask(server, *prompts))
    assert first == {prompt: f"You asked {prompt}" for prompt in prompts}
    for order in (prompts, prompts[::-1], ["c", "a"]):
        with Cassette(tmp_path, name="test"):
            again = asyncio.run(ask(None, *order))
        assert again == {prompt: first[prompt] for prompt in order}
    assert [path.name.rpartition("-")[0] for path in recording.files] == [
        f"test.compatible-one.{number}" for number in range(1, 5)
    ]
    with Cassette(tmp_path, name="test"), pytest.raises(ConfigurationError, match=r"one\.2\.sse"):
        asyncio.run(ask(None, "a", "a"))
    with Cassette(tmp_path, name="test"):  # a question that has changed since gets what is left
        assert asyncio.run(ask(None, "A"))["A"] == "You asked a"


def test_a_tape_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "a.tape"
    with ChaosServer("Why not?") as server:
        asked(server).pipe(rxstream.operators.record(path, kind="bytes")).run()
    with Cassette(tmp_path, name="test") as cassette:
        assert rxstream.tape(path).run().text == "Why not?"
    assert cassette.files == []


def test_a_refusal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "test.compatible-one.1.json").write_text("[]")
    with Cassette(tmp_path, name="test"), pytest.raises(ConfigurationError, match=r"one\.1\.json is no refusal"):
        asked(None).run()


def test_it_can_be_entered_again(tmp_path: Path) -> None:
    recording, playing = Cassette(tmp_path, name="test", recording=True), Cassette(tmp_path, name="test")
    with ChaosServer("Why not?") as server:
        for _ in range(2):
            with recording:
                asked(server).run()
    for _ in range(2):
        with playing:
            assert asked(None).run().text == "Why not?"
    assert recording.files == playing.files == [tmp_path / "test.compatible-one.1.sse"]


def test_what_asks_no_model_is_as_it_was(tmp_path: Path) -> None:
    with Cassette(tmp_path, name="test") as cassette:
        assert rxstream.from_iterable(["Why ", "not?"]).run().text == "Why not?"
    assert cassette.files == []


def test_behind_it_models_are_asked_again(tmp_path: Path) -> None:
    with Cassette(tmp_path, name="test"):
        pass
    with ChaosServer("Why not?") as server:
        assert asked(server).run().text == "Why not?"


@pytest.mark.parametrize(
    ("options", "said"), [({"name": ""}, "name"), ({"name": 5}, "name"), ({"name": "a", "recording": 1}, "recording")]
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Cassette(tmp_path, **options)


@pytest.mark.local
def test_a_real_model_answers_once_and_then_from_the_file(local_server: LocalServer, tmp_path: Path) -> None:
    def ask(**options: Any) -> Stream[Any]:
        return rxstream.stream(f"local:{local_server.model}", "Say yes.", temperature=0, max_tokens=8, **options)

    with Cassette(tmp_path, name="test", recording=True):
        first = ask(base_url=f"{local_server.url}/v1", api_key=local_server.api_key).run()
    with Cassette(tmp_path, name="test"):
        again = ask(base_url="http://127.0.0.1:9/v1").run()
    assert again.text == first.text != ""
