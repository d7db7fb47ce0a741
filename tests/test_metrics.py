"""What can be read off what was measured."""

from __future__ import annotations

import pickle

import msgspec
import pytest

import rxstream
from rxstream.metrics import MetricsSink, StreamMetrics, StreamOpened, TracingSink
from rxstream.sketch import Sketch
from rxstream.telemetry.logs import LoggingSink
from rxstream.telemetry.memory import MemorySink
from rxstream.usage import Usage


def told(
    *,
    usage: Usage | None = None,
    outputs: int = 0,
    speaking: float = 0.0,
    thought: bool = False,
    response_model: str = "",
    opened: StreamOpened | None = None,
) -> StreamMetrics:
    opened = opened or StreamOpened(id=1, model="asked")
    return StreamMetrics(
        opened=opened,
        outcome="completed",
        duration=10.0,
        gaps=Sketch(),
        usage=usage,
        outputs=outputs,
        speaking=speaking,
        thought=thought,
        response_model=response_model,
    )


def test_tokens_are_the_reported_ones_or_the_pieces() -> None:
    assert told(outputs=7).output_tokens == 7
    assert told(outputs=7, usage=Usage(provenance="partial", input_tokens=3)).output_tokens == 7
    assert told(outputs=7, usage=Usage(provenance="reported", output_tokens=0)).output_tokens == 0


def test_what_was_reported_before_the_stream_was_cut_short_is_not_all() -> None:
    """Anthropic says at the start that there is one token; what an attempt used that failed is not what the next one does."""
    early = Usage(provenance="partial", output_tokens=1)
    assert told(outputs=11, speaking=2.0, usage=early).output_tokens == 11
    assert told(outputs=11, speaking=2.0, usage=early).rate == 5.0
    assert told(outputs=5, usage=Usage(provenance="estimated", output_tokens=9)).output_tokens == 9


def test_the_rate_is_of_the_time_between_the_first_and_the_last() -> None:
    assert told(outputs=11, speaking=2.0).rate == 5.0
    assert told(outputs=11, speaking=0.0).rate is None
    assert told(outputs=1, speaking=2.0).rate is None


def test_reasoning_that_was_not_streamed_is_not_in_the_rate() -> None:
    usage = Usage(provenance="reported", output_tokens=1011, reasoning_tokens=1000)
    assert told(usage=usage, outputs=11, speaking=2.0).rate == 5.0
    assert told(usage=usage, outputs=11, speaking=2.0, thought=True).rate == 505.0
    assert told(usage=Usage(provenance="reported", output_tokens=9, reasoning_tokens=9), speaking=2.0).rate is None


def test_the_model_is_the_one_that_answered() -> None:
    assert told().model == "asked"
    assert told(response_model="answered").model == "answered"


@pytest.mark.parametrize("sink", [MemorySink(), LoggingSink()])
def test_a_plain_sink_is_no_tracing_one(sink: MetricsSink) -> None:
    assert not isinstance(sink, TracingSink)


def test_they_go_from_one_process_to_another() -> None:
    metrics = told(outputs=3)
    assert pickle.loads(pickle.dumps(metrics)) == metrics  # noqa: S301 - our own


def test_no_repr_tells_what_was_said() -> None:
    request = rxstream.Request(provider="p", model="m", messages=[rxstream.Message(role="user", content="a secret")])
    opened = StreamOpened(id=7, label="poet", model="m", request=request)
    metrics = msgspec.structs.replace(told(opened=opened), response=rxstream.Response(id="a secret"))
    assert repr(opened) == "<StreamOpened 7 poet>"
    assert repr(StreamOpened(id=1)) == "<StreamOpened 1 a stream>"
    assert repr(metrics) == "<StreamMetrics 7 poet completed, 10.000 s>"
    assert "secret" not in f"{opened} {metrics}"
