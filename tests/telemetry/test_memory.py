"""What the sink in memory counts, shows and draws."""

from __future__ import annotations

import logging
import threading
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

import rxstream
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError
from rxstream.events import ErrorInfo
from rxstream.messages import Message
from rxstream.metrics import StreamMetrics, StreamOpened, StreamOutcome
from rxstream.sketch import Sketch
from rxstream.telemetry.logs import LoggingSink
from rxstream.telemetry.memory import MemorySink
from rxstream.usage import Usage


def told(
    number: int = 1, *, model: str = "m", outcome: StreamOutcome = "completed", gaps: tuple[float, ...] = (0.02,)
) -> StreamMetrics:
    sketch = Sketch()
    for gap in gaps:
        sketch.add(gap)
    return StreamMetrics(
        opened=StreamOpened(id=number, label="track", provider="someone", model=model),
        outcome=outcome,
        duration=2.0,
        error=ErrorInfo(kind="Overloaded", message="busy") if outcome == "failed" else None,
        provider="someone",
        first_event=0.3,
        first_output=0.5,
        gaps=sketch,
        speaking=1.0,
        events=5,
        outputs=4,
        usage=Usage(provenance="reported", input_tokens=10, output_tokens=21, cache_read_tokens=4, raw={"input": 10}),
        queue=0.25,
        pauses=1,
        paused=0.125,
        stalls=2,
        stalled=8.0,
        retries=3,
    )


def test_it_adds_up() -> None:
    sink = MemorySink()
    outcomes: tuple[StreamOutcome, ...] = ("completed", "failed", "cancelled", "completed")
    for number, outcome in enumerate(outcomes):
        sink.record(StreamOpened(id=number))
        sink.record(told(number, outcome=outcome))
    totals = sink.totals
    assert (totals.streams, totals.outcomes["completed"], totals.errors["Overloaded"]) == (4, 2, 1)
    assert (totals.events, totals.outputs, totals.tokens) == (20, 16, 84)
    assert (totals.retries, totals.stalls, totals.pauses) == (12, 8, 4)
    assert (totals.queued, totals.paused, totals.stalled) == (1.0, 0.5, 32.0)
    assert totals.usage == Usage(provenance="reported", input_tokens=40, output_tokens=84, cache_read_tokens=16)
    assert totals.first_output.quantile(0.5) == pytest.approx(0.5, rel=0.01)
    assert totals.rate.quantile(0.5) == pytest.approx(20, rel=0.01)


def test_the_report_is_a_table() -> None:
    sink = MemorySink()
    sink.record(told(1, outcome="failed"))
    sink.record(told(2, model="another"))
    sink.record(StreamOpened(id=3))
    first, failed, tokens, head, *rows = sink.report().splitlines()
    assert first == "2 streams: 1 failed, 1 completed, 1 open"
    assert failed == "failed with Overloaded (1)"
    assert tokens == "tokens (reported): 20 in, 42 out"
    assert [row.split()[:3] for row in rows] == [["someone:m", "1", "1"], ["someone:another", "1", "0"]]
    assert len({len(row) for row in (head, *rows)}) == 1
    assert "20 ms" in rows[0]


def test_of_nothing_there_is_a_report_and_a_picture_too() -> None:
    sink = MemorySink()
    assert sink.report() == "0 streams: none yet"
    ET.fromstring(sink.plot())  # noqa: S314 - our own


def test_the_picture_has_a_line_for_each_model_and_figure_and_no_markup_of_theirs() -> None:
    sink = MemorySink()
    sink.record(told(1))
    sink.record(told(2, model="<script>&"))
    picture = sink.plot()
    root = ET.fromstring(picture)  # noqa: S314 - our own
    assert len(root.findall("{*}polyline")) == 8
    assert "<script>" not in picture


@pytest.mark.parametrize(
    "bad", ["m\x1b[31m", "m\nERROR forged", "m\u202ejpg", "m" * 10_000], ids=["escape", "line", "bidi", "long"]
)
def test_a_models_name_is_a_name_and_nothing_else(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    """A provider says what its model is called: in a terminal, a log, a picture, a repr."""
    sink, metrics = MemorySink(), told(model=bad)
    sink.record(metrics)
    with caplog.at_level(logging.INFO):
        LoggingSink().record(metrics)
    ET.fromstring(sink.plot())  # noqa: S314 - our own
    for text in (sink.report(), sink.plot(), caplog.messages[0], repr(metrics), repr(metrics.opened)):
        assert all(char.isprintable() for char in text.replace("\n", ""))
        assert not any(line.startswith("ERROR") for line in text.splitlines())
        assert len(text) < 5000


def test_the_picture_says_of_whom_there_is_no_line() -> None:
    """Six lines can be told apart: those of the models that were asked most."""
    sink = MemorySink()
    for number in range(9):
        for _ in range(1 + number):
            sink.record(told(model=f"m-{number}"))
    picture = sink.plot()
    names = [f"m-{number}" for number in range(9) if f"m-{number} (" in picture]
    assert names == ["m-3", "m-4", "m-5", "m-6", "m-7", "m-8"]
    assert "and 3 more, with fewer streams" in picture
    assert "more, with" not in MemorySink().plot()


def test_its_repr_says_what_it_has() -> None:
    sink = MemorySink()
    assert repr(sink) == "<MemorySink of 0 streams: none yet>"
    sink.record(told(1))
    sink.record(told(2, outcome="failed"))
    sink.record(StreamOpened(id=3))
    assert repr(sink) == "<MemorySink of 2 streams: 1 completed, 1 failed, 1 open>"
    assert repr(sink.totals) == "<Totals of 2 streams: 1 completed, 1 failed>"


def test_it_keeps_neither_requests_nor_answers() -> None:
    sink = MemorySink()
    request = rxstream.Request(provider="p", model="m", messages=[Message(role="user", content="a very long prompt")])
    opened = StreamOpened(id=1, model="m", request=request)
    sink.record(structs.replace(told(), opened=opened, response=rxstream.Response()))
    (kept,) = sink.streams
    assert (kept.opened.id, kept.opened.request, kept.response) == (1, None, None)


def test_what_it_keeps_is_bounded() -> None:
    sink = MemorySink(keep=5, models=3)
    for number in range(50):
        sink.record(StreamOpened(id=number))
        sink.record(told(number, model=f"model-{number}"))
    assert (len(sink.streams), sink.totals.streams, sink.open) == (5, 50, 0)
    assert len(sink.by_model) == 4
    assert sink.by_model["", "others"].streams == 47


@given(st.lists(st.lists(st.floats(min_value=0.001, max_value=10), min_size=1), min_size=1, max_size=5))
def test_the_gaps_of_all_are_those_of_each(streams: list[list[float]]) -> None:
    sink, whole = MemorySink(), Sketch()
    for number, gaps in enumerate(streams):
        sink.record(told(number, gaps=tuple(gaps)))
        for gap in gaps:
            whole.add(gap)
    assert sink.totals.gaps == whole


def test_any_thread_may_tell_and_ask() -> None:
    sink = MemorySink(keep=10)

    def work(start: int) -> None:
        for number in range(start, start + 200):
            sink.record(StreamOpened(id=number))
            sink.record(told(number))
            sink.report()

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sink.totals.streams, sink.totals.gaps.count, sink.open) == (800, 800, 0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keep"):
        MemorySink(keep=-1)
    with pytest.raises(ConfigurationError, match="models"):
        MemorySink(models=0)


def test_totals_are_those_of_the_moment() -> None:
    sink = MemorySink()
    before, stream = sink.totals, rxstream.from_iterable(["a", "b"], label="a").pipe(rxo.meter(sink))
    stream.run()
    between, one = sink.totals, sink.by_model["iterable", "a"]
    stream.run()
    assert [before.streams, between.streams, one.streams, sink.totals.streams] == [0, 1, 1, 2]
    assert [between.gaps.count, one.duration.count, sink.by_model["iterable", "a"].gaps.count] == [1, 1, 2]
