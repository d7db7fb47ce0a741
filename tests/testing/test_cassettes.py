"""What was recorded comes again, byte for byte, without a network or a key; and nothing secret is in it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import rxstream
from rxstream.errors import ConfigurationError, StreamIncomplete
from rxstream.observable import Stream
from rxstream.providers import decoder_for
from rxstream.sources._pump import pump
from rxstream.sources._source import Source
from rxstream.sources.local import LocalServer
from rxstream.testing import Cassette
from rxstream.testing.chaos import Call, ChaosServer, Script, Served

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

    source = Source(open=answer, decoder=lambda: decoder_for("compatible"), provider="compatible", model="one")
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
    with Cassette(tmp_path / ".", name="test", recording=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["test_other.compatible-one.1.sse"]


def test_what_has_a_longer_name_is_not_deleted(tmp_path: Path) -> None:
    others = ["test.it.compatible-one.1.sse", "test.5.compatible-one.1.sse", "test.compatible.sse", "test.sse"]
    for name in others:
        (tmp_path / name).write_bytes(b"another's")
    with Cassette(tmp_path, name="test", recording=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_request_that_was_refused_and_asked_again_is_played_as_one(tmp_path: Path) -> None:
    def text(server: ChaosServer | None) -> str:
        return asked(server).pipe(rxstream.operators.retry_stream(delay=0.001)).run().text

    with ChaosServer("Why not?", faults=["503"]) as server, Cassette(tmp_path, name="test", recording=True):
        assert text(server) == "Why not?"
    with Cassette(tmp_path, name="test") as playing:
        assert text(None) == "Why not?"
    assert [path.name for path in playing.files] == ["test.compatible-one.1.sse"]


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
