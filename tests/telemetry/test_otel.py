"""Metrics and spans, by the names that the released conventions have, in every way that a stream ends."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import reactivex as rx
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode
from reactivex import operators as ops

import rxstream
from rxstream import events as ev
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, MissingDependency, Overloaded, StreamError, error_info
from rxstream.messages import ImagePart, Message, OpaquePart, TextPart, ThinkingPart, ToolCall, ToolResult
from rxstream.sketch import Sketch
from rxstream.telemetry import _content, _instruments, _names
from rxstream.telemetry.otel import OpenTelemetrySink
from rxstream.testing.chaos import FAULTS, ChaosServer
from rxstream.testing.virtual import settle, virtual_time
from tests.support.contests import Field, Told, reported, started
from tests.support.scripted import DONE, HANG, Step

PROMPT, ANSWER = "who may read this", "nobody but you"


class Collected:
    """What an SDK was given."""

    def __init__(self, **options: Any) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader])
        self.sink = OpenTelemetrySink(tracer_provider=self.traces, meter_provider=meters, **options)
        self.tracer = self.traces.get_tracer("tests")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    @property
    def points(self) -> dict[str, list[Any]]:
        """The points of each metric."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found


@pytest.fixture(autouse=True)
def _no_opt_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_names.OPT_IN, raising=False)
    monkeypatch.delenv(_names.CONTENT, raising=False)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def total(points: list[Any]) -> float:
    return sum(getattr(point, "value", getattr(point, "sum", 0)) for point in points)


CHARGED = ev.UsageReported(usage=rxstream.Usage(provenance="reported", cost=0.5))
ENDS: list[tuple[str, list[Step], str, StatusCode]] = [
    (
        "completes",
        [1, started("m-1"), 1, "a", 1, "b", reported(9, input_tokens=4), DONE],
        "completed",
        StatusCode.UNSET,
    ),
    ("fails", [1, started("m-1"), 1, "a", Overloaded(ANSWER)], "failed", StatusCode.ERROR),
    ("says nothing and fails", [2, Overloaded(ANSWER)], "failed", StatusCode.ERROR),
    ("is left", [1, "a", HANG], "cancelled", StatusCode.UNSET),
    ("costs", [1, "a", CHARGED, 1, DONE], "completed", StatusCode.UNSET),
    ("is left in silence", [HANG], "cancelled", StatusCode.UNSET),
]


@pytest.mark.parametrize(("how", "steps", "outcome", "status"), ENDS, ids=[end[0] for end in ENDS])
@virtual_time
async def test_however_it_ends_there_is_one_span(how: str, steps: list[Step], outcome: str, status: StatusCode) -> None:
    collected = Collected()
    told = Told(Field().track("a", *steps).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    told.subscription.dispose()
    await settle()
    span = collected.span
    found = attributes(span)
    assert (found["rxstream.outcome"], span.status.status_code, found["rxstream.label"]) == (outcome, status, "a")
    assert found.get("error.type") == ("Overloaded" if outcome == "failed" else None)
    assert ANSWER not in str(span.to_json())
    assert span.end_time is not None
    assert span.start_time is not None
    seconds = {"completes": 3, "fails": 2, "costs": 2, "says nothing and fails": 2}.get(how, 10)
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(seconds, abs=1e-6)
    points = collected.points
    assert ("rxstream.stream.cost" in points) is (how == "costs")
    assert total(points["rxstream.streams.active"]) == 0
    (ended,) = points["rxstream.streams.ended"]
    assert (ended.value, ended.attributes["rxstream.outcome"]) == (1, outcome)


@virtual_time
async def test_metrics_are_those_of_the_stream() -> None:
    collected = Collected()
    Told(Field().track("a", *ENDS[0][1]).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    points = collected.points
    (duration,) = points["gen_ai.client.operation.duration"]
    assert (duration.count, duration.sum, duration.explicit_bounds) == (1, 3, _names.SECONDS)
    assert duration.attributes["gen_ai.response.model"] == "m-1"
    assert "error.type" not in duration.attributes
    assert total(points["gen_ai.client.operation.time_to_first_chunk"]) == 1
    assert total(points["rxstream.stream.time_to_first_output"]) == 2
    assert total(points["gen_ai.client.operation.time_per_output_chunk"]) == pytest.approx(1, rel=0.01)
    used = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage"]}
    assert used == {"input": 4, "output": 9}
    assert total(points["rxstream.stream.events"]) == 5
    assert total(points["rxstream.stream.outputs"]) == 2
    assert total(points["rxstream.stream.output_rate"]) == 8


@virtual_time
async def test_retries_are_events_of_the_span() -> None:
    collected, field, tries = Collected(), Field(), [1]

    def attempt(_: object) -> rx.Observable[ev.Event]:
        steps: list[Step] = [1, Overloaded("busy")] if tries else [1, "a", DONE]
        tries.clear()
        return field.track("a", *steps)

    Told(rx.defer(attempt).pipe(rxo.retry_stream(), rxo.meter(collected.sink)))
    await asyncio.sleep(100)
    (event,) = collected.span.events
    assert event.name == "rxstream.retry"
    assert dict(event.attributes or {})["error.type"] == "Overloaded"
    assert event.timestamp - (collected.span.start_time or 0) == pytest.approx(1e9, rel=1e-6)
    (retried,) = collected.points["rxstream.stream.retries"]
    assert (retried.value, retried.attributes["error.type"]) == (1, "Overloaded")


@virtual_time
async def test_of_very_many_retries_all_are_counted() -> None:
    collected = Collected()
    retrying = ev.Retrying(error=error_info(Overloaded("busy")))
    Told(Field().track("a", *[retrying] * 130, 1, "a", DONE).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    assert len(collected.span.events) == 100
    assert total(collected.points["rxstream.stream.retries"]) == 130


def test_the_names_are_those_of_the_released_package() -> None:
    known = {
        value for value in (*vars(gen_ai_attributes).values(), *vars(gen_ai_metrics).values()) if isinstance(value, str)
    }
    ours = [value for name, value in vars(_names).items() if name.isupper() and isinstance(value, str)]
    ours += [value for value in _names.RELEASED if isinstance(value, str) and value]
    wanted = {value for value in ours if value.startswith("gen_ai.")}
    assert len(wanted) > 20
    assert wanted <= known
    providers = {one.value for one in gen_ai_attributes.GenAiProviderNameValues}
    assert set(_names.PROVIDERS.values()) <= providers


@virtual_time
async def test_newer_names_come_by_the_opt_in() -> None:
    collected = Collected(conventions="latest")
    Told(Field().track("a", *ENDS[0][1]).pipe(rxo.meter(collected.sink)))
    Told(Field().track("a", *ENDS[1][1]).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    points = collected.points
    assert {name for name in points if name.startswith("gen_ai.")} == {
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
        "gen_ai.client.inference.usage.cache_read.input_tokens",
        "gen_ai.client.inference.usage.cache_write.input_tokens",
        "gen_ai.client.inference.usage.reasoning.output_tokens",
    }
    assert total(points["gen_ai.client.inference.usage.output_tokens"]) == 9
    (used,) = points["gen_ai.client.inference.usage.input_tokens"]
    assert (used.value, used.attributes["gen_ai.token.modality"]) == (4, "unknown")
    histogram = points["gen_ai.client.inference.operation.output_tokens"]
    assert {(point.sum, point.attributes.get("error.type")) for point in histogram} == {(9, None), (0, "Overloaded")}
    reasons = {attributes(span)["gen_ai.response.finish_reasons"] for span in collected.spans}
    assert reasons == {("stop",), ("error",)}


@pytest.mark.parametrize(
    ("said", "names"),
    [("", _names.RELEASED), ("http,gen_ai_latest_experimental", _names.LATEST), ("gen_ai", _names.RELEASED)],
)
def test_the_environment_chooses_the_names(monkeypatch: pytest.MonkeyPatch, said: str, names: _names.Names) -> None:
    monkeypatch.setenv(_names.OPT_IN, said)
    assert _names.chosen() is names


async def test_of_every_fault_there_is_one_span_and_its_figures_are_what_came() -> None:
    """All that the server that fails can do, at once: a span and an end for each, and as many events as were delivered."""
    collected, delivered = Collected(), [0]
    faults = [fault for fault in FAULTS if fault not in ("endless", "oversized")]

    def count(_: ev.Event) -> None:
        delivered[0] += 1

    async def one(server: ChaosServer) -> str:
        clocks = {"connect": 0.5, "first_event": 0.5, "idle": 0.3, "total": 1.5}
        url = server.base_url("openai-chat")
        stream = rxstream.stream("compatible:m-1", PROMPT, base_url=url, api_key="k", timeouts=clocks)
        try:
            await stream.pipe(rxo.meter(collected.sink), ops.do_action(count))
        except StreamError as error:
            return type(error).__name__
        return ""

    with ChaosServer(ANSWER, faults=faults) as server:
        ends = await asyncio.gather(*(one(server) for _ in faults))
    spans = [attributes(span) for span in collected.spans]
    assert len(spans) == len(faults) > 40
    assert sorted(span.get("error.type", "") for span in spans) == sorted(ends)
    points = collected.points
    assert total(points["rxstream.stream.events"]) == delivered[0]
    assert total(points["rxstream.streams.ended"]) == len(faults)
    assert total(points["rxstream.streams.active"]) == 0
    assert not any(word in str(span) for span in spans for word in (PROMPT, ANSWER))


# --- content --------------------------------------------------------------------------------------------------------------


async def ask(collected: Collected, **options: Any) -> None:
    with ChaosServer(ANSWER) as server:
        stream = rxstream.stream(
            "compatible:m-1",
            PROMPT,
            base_url=server.base_url("openai-chat"),
            api_key="sk-secret",
            max_tokens=9,
            **options,
        )
        await stream.pipe(rxo.meter(collected.sink))


async def test_who_is_asked_is_known_and_what_was_said_is_not() -> None:
    collected = Collected()
    await ask(collected, system="be brief", temperature=0.5)
    span = collected.span
    found = attributes(span)
    assert (span.name, span.kind) == ("chat m-1", SpanKind.CLIENT)
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == ("chat", "compatible")
    assert (found["gen_ai.request.model"], found["gen_ai.request.max_tokens"]) == ("m-1", 9)
    assert (found["gen_ai.request.temperature"], found["server.address"]) == (0.5, "127.0.0.1")
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    everything = span.to_json() + str(collected.points)
    assert not any(word in everything for word in (PROMPT, ANSWER, "be brief", "sk-secret"))


@pytest.mark.parametrize("word", ["true", "SPAN_ONLY", "span_and_event"])
async def test_content_comes_by_its_opt_in(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(_names.CONTENT, word)
    collected = Collected()
    await ask(collected, system="be brief")
    found = attributes(collected.span)
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
    (message,) = json.loads(found["gen_ai.output.messages"])
    assert (message["role"], message["finish_reason"]) == ("assistant", "stop")
    assert message["parts"] == [{"type": "text", "content": ANSWER}]
    assert "sk-secret" not in collected.span.to_json()


async def test_tools_are_content_too_and_a_key_in_one_is_never_told() -> None:
    def look_up(city: str) -> str:
        """The WEATHER of a city."""
        return city

    tools = [look_up, {"type": "mcp", "authorization": "sk-secret"}]
    without, with_content = Collected(), Collected(content=True)
    for collected in (without, with_content):
        await ask(collected, tools=tools)
    assert "WEATHER" not in without.span.to_json()
    ours, native = json.loads(attributes(with_content.span)["gen_ai.tool.definitions"])
    assert (ours["type"], ours["name"], ours["description"]) == ("function", "look_up", "The WEATHER of a city.")
    assert list(ours["parameters"]["properties"]) == ["city"]
    assert native["type"] == "mcp"
    assert "sk-secret" not in with_content.span.to_json()


@virtual_time
async def test_an_error_that_says_the_prompt_back_is_not_told_by_what_it_says() -> None:
    """Not of the end, of an attempt, of a cancellation, nor of what a callback raised; but the status of the answer is."""
    collected = Collected()

    def bad(_: object) -> None:
        raise LookupError(PROMPT)

    refused = Overloaded(PROMPT, status=529, code=PROMPT)
    Told(Field().track("a", 1, refused).pipe(rxo.retry_stream(attempts=2), rxo.meter(collected.sink)))
    Field().track("b", 1, "b", HANG).pipe(rxo.meter(collected.sink)).subscribe(bad, lambda _: None)
    session = Field().track("c", 1, "c", HANG).pipe(rxo.meter(collected.sink)).start()
    await asyncio.sleep(30)
    session.cancel(PROMPT)
    await settle()
    told, broken, left = sorted(collected.spans, key=lambda span: str(attributes(span).get("rxstream.label")))
    assert (attributes(told)["error.type"], attributes(told)["http.response.status_code"]) == ("Overloaded", 529)
    assert attributes(broken)["error.type"] == "LookupError"
    assert attributes(left)["rxstream.outcome"] == "cancelled"
    assert len(told.events) == 1
    assert PROMPT not in "".join(span.to_json() for span in collected.spans) + str(collected.points)


async def test_some_options_have_a_name_in_the_newer_conventions_alone() -> None:
    released, latest = Collected(), Collected(conventions="latest")
    extra = {"presence_penalty": 0.5, "previous_response_id": "resp_1"}
    for collected in (released, latest):
        await ask(collected, reasoning="low", extra=extra)
    both, newer = attributes(released.span), attributes(latest.span)
    assert both["gen_ai.request.presence_penalty"] == newer["gen_ai.request.presence_penalty"] == 0.5
    assert newer["gen_ai.request.reasoning.level"] == "low"
    assert newer["gen_ai.request.previous_response.id"] == "resp_1"
    assert not {"", "gen_ai.request.reasoning.level", "gen_ai.request.previous_response.id"} & both.keys()


def test_of_messages_all_is_written_down_that_a_reader_understands() -> None:
    parts: list[Any] = [
        TextPart(text="a"),
        ThinkingPart(text="b"),
        ToolCall(id="c", name="f", arguments="{}"),
        OpaquePart(provider="p", payload={"secret": 1}),
    ]
    images = Message(role="user", content=[ImagePart(url="https://example.org/i.png"), ImagePart(data="aGk=")])
    result = Message(role="user", content=[ToolResult(id="c", content="d")])
    answer = Message(role="assistant", content=parts)
    request = rxstream.Request(provider="p", model="m", messages=[images, answer, result])
    first, second, third = json.loads(_content.asked(request))
    assert [part["type"] for part in first["parts"]] == ["uri", "image"]
    assert [part["type"] for part in second["parts"]] == ["text", "reasoning", "tool_call", "opaque"]
    assert third == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "d"}]}
    assert "aGk=" not in _content.asked(request)
    assert "secret" not in _content.asked(request)
    assert _content.instructed(request) == ""


# --- context --------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_its_parent_is_what_is_current_at_the_subscription_and_nothing_is_below_it() -> None:
    collected = Collected()
    inside: list[Any] = []
    track = Field().track("a", 1, "a", 1, "b", DONE)

    def subscribed(_: object) -> rx.Observable[ev.Event]:
        inside.append(trace.get_current_span())
        return track

    source = rx.defer(subscribed).pipe(rxo.meter(collected.sink))
    with collected.tracer.start_as_current_span("mine") as parent:
        seen: list[Any] = []
        told = Told(source.pipe(ops.do_action(lambda _: seen.append(trace.get_current_span()))))
        assert trace.get_current_span() is parent
    await asyncio.sleep(10)
    assert told.completed
    span = next(span for span in collected.spans if span.name == "chat")
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert inside[0].get_span_context().span_id == span.context.span_id
    assert seen == [parent] * 3  # the text, twice, and Finished
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_loop_that_goes_down_ends_the_spans_of_all_that_runs_or_is_paused_on_it() -> None:
    collected = Collected()

    async def run() -> None:
        field = Field()
        running, paused, waiting = (
            field.track(label, 0, "a", HANG).pipe(rxo.meter(collected.sink)).start() for label in "abc"
        )
        waiting.pause()
        await asyncio.sleep(0.01)
        paused.pause()
        assert (running.status, paused.status, waiting.status) == ("active", "paused", "paused")

    asyncio.run(run())
    assert [attributes(span)["rxstream.outcome"] for span in collected.spans] == ["cancelled"] * 3
    assert total(collected.points["rxstream.streams.active"]) == 0


@virtual_time
async def test_spans_of_attempts_are_siblings() -> None:
    """Another attempt is made in the midst of the failure of the one before."""
    collected, field = Collected(), Field()
    steps: Iterator[list[Step]] = iter([[1, Overloaded("busy")], [1, Overloaded("busy")], [1, "a", DONE]])
    attempt = rx.defer(lambda _: field.track("a", *next(steps)).pipe(rxo.meter(collected.sink)))
    with collected.tracer.start_as_current_span("mine") as parent:
        Told(attempt.pipe(rxo.retry_stream(), rxo.meter(collected.sink)))
    await asyncio.sleep(200)
    *attempts, whole = [span for span in collected.spans if span.name == "chat"]
    assert [attributes(span)["rxstream.outcome"] for span in attempts] == ["failed", "failed", "completed"]
    parents = [span.parent.span_id for span in (*attempts, whole) if span.parent is not None]
    assert parents == [whole.context.span_id] * 3 + [parent.get_span_context().span_id]


@virtual_time
async def test_what_an_end_begins_is_not_below_it() -> None:
    collected, field = Collected(), Field()
    seen: list[Any] = []

    def over(*_: object) -> None:
        seen.append(trace.get_current_span())

    with collected.tracer.start_as_current_span("mine") as parent:
        for last in (DONE, Overloaded("busy")):
            field.track(str(last), 1, "a", last).pipe(rxo.meter(collected.sink)).subscribe(None, over, over)
    await asyncio.sleep(10)
    assert seen == [parent, parent]


@virtual_time
async def test_what_a_sink_sets_without_a_value_before_stays() -> None:
    """It cannot be unset; all else is set back."""
    unset: contextvars.ContextVar[str] = contextvars.ContextVar("unset")
    known: contextvars.ContextVar[str] = contextvars.ContextVar("known", default="before")
    other: contextvars.ContextVar[str] = contextvars.ContextVar("other", default="before")

    class Setting:
        wants_response = False

        def __init__(self, *more: contextvars.ContextVar[str]) -> None:
            self._more = more

        def record(self, measurement: object, /) -> None:
            pass

        @contextmanager
        def around(self, opened: object) -> Iterator[None]:
            tokens = [(var, var.set("inside")) for var in (unset, *self._more)]
            yield
            for var, token in tokens:
                var.reset(token)

    for more in ((), (known,), (known, other)):
        seen: list[tuple[str, str, str]] = []
        stream = Field().track("a", 1, "a", DONE).pipe(rxo.meter(Setting(*more)))
        stream.subscribe(lambda _, seen=seen: seen.append((unset.get(), known.get(), other.get())))  # type: ignore[misc]
        await asyncio.sleep(10)
        assert seen == [("inside", "before", "before")] * 2


def test_each_thread_and_task_has_its_own_parent(caplog: pytest.LogCaptureFixture) -> None:
    """Many at once, in threads and in tasks, disposed elsewhere than they were subscribed: no context is mixed up."""
    caplog.set_level(logging.DEBUG)
    collected = Collected()

    def work(number: int) -> None:
        with collected.tracer.start_as_current_span(f"parent-{number}"):
            stream = rxstream.from_iterable(["a"] * 5, label=f"child-{number}").pipe(rxo.meter(collected.sink))
            if number % 3:
                stream.run(timeout=10)
            else:
                subscription = (
                    rxstream.Stream.of(rx.never(), label=f"child-{number}").pipe(rxo.meter(collected.sink)).subscribe()
                )
                threading.Thread(target=subscription.dispose).start()

    async def tasks() -> None:
        async def one(number: int) -> None:
            with collected.tracer.start_as_current_span(f"parent-{number}"):
                await rxstream.from_iterable(["a"] * 5, label=f"child-{number}").pipe(rxo.meter(collected.sink))

        await asyncio.gather(*(one(number) for number in range(100, 120)))

    threads = [threading.Thread(target=contextvars.Context().run, args=(work, number)) for number in range(20)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()
    names = until_all(collected, 80)
    assert len(names) == 80
    children = [span for span in collected.spans if span.name == "chat"]
    for child in children:
        assert child.parent is not None
        assert names[child.parent.span_id].replace("parent", "child") == attributes(child)["rxstream.label"]
    assert "different Context" not in caplog.text


def test_who_waits_for_a_turn_keeps_the_parent_that_started_it() -> None:
    collected = Collected()
    with rxstream.StreamManager(max_streams=1) as manager:
        names = []
        for number in range(4):
            with collected.tracer.start_as_current_span(f"parent-{number}"):
                stream = rxstream.from_iterable(["a"] * 5, label=f"child-{number}").pipe(rxo.meter(collected.sink))
                names.append(manager.start_stream(stream))
        for name in names:
            manager.get_result(name, timeout=10)
    parents = until_all(collected, 8)
    children = [span for span in collected.spans if span.name == "chat"]
    found = [(parents[child.parent.span_id], attributes(child)["rxstream.label"]) for child in children if child.parent]
    assert found == [(f"parent-{number}", f"child-{number}") for number in range(4)]


@virtual_time
async def test_a_span_ends_whatever_fails_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise ValueError("no words for it")

    collected, raised = Collected(content=True), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    request = rxstream.Request(provider="p", model="m-1", messages=[Message(role="user", content=PROMPT)])
    monkeypatch.setattr("rxstream.operators._meter.request_of", lambda _: request)
    for name in ("asked", "said"):
        monkeypatch.setattr(_content, name, fail)
    told = Told(Field().track("a", 1, "a", DONE).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    assert told.completed
    assert len(raised) == 2
    assert collected.span.name == "chat"
    assert total(collected.points["rxstream.streams.active"]) == 0
    assert total(collected.points["rxstream.streams.ended"]) == 1


def until_all(collected: Collected, count: int) -> dict[int, str]:
    for _ in range(500):
        if len(collected.spans) == count:
            break
        threading.Event().wait(0.01)
    return {span.context.span_id: span.name for span in collected.spans}


async def test_the_sdk_of_anthropic_makes_no_second_span(monkeypatch: pytest.MonkeyPatch) -> None:
    collected = Collected()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", collected.traces)  # what a program sets once: its SDK would use it
    with ChaosServer(ANSWER) as server:
        stream = rxstream.stream(
            "anthropic:m-1", PROMPT, base_url=server.base_url("anthropic"), api_key="k", max_tokens=9
        )
        await stream.pipe(rxo.meter(collected.sink))
    assert collected.span.kind is SpanKind.CLIENT
    assert attributes(collected.span)["gen_ai.provider.name"] == "anthropic"


# --- edges ----------------------------------------------------------------------------------------------------------------


def test_of_many_gaps_a_hundred_stand_for_all() -> None:
    few, many = Sketch(), Sketch()
    for number in range(1, 51):
        few.add(number / 100)
    for number in range(1, 100_001):
        many.add(number / 100_000)
    few.add(0.0, times=9)
    assert list(_instruments._samples(Sketch())) == []
    assert list(_instruments._samples(few)) == pytest.approx([number / 100 for number in range(1, 51)], rel=0.01)
    told = list(_instruments._samples(many))
    assert len(told) == 100
    assert told == pytest.approx([(number + 0.5) / 100 for number in range(100)], rel=0.02)


@pytest.mark.parametrize(("option", "left"), [("spans", "points"), ("metrics", "spans")])
@virtual_time
async def test_either_can_be_left_out(option: str, left: str) -> None:
    collected = Collected(**{option: False})
    Told(Field().track("a", *ENDS[0][1]).pipe(rxo.meter(collected.sink)))
    await asyncio.sleep(10)
    assert bool(collected.points) is (left == "points")
    assert bool(collected.spans) is (left == "spans")


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[dict[str, Any]] = [
        {"conventions": "newest"},
        {"spans": 1},
        {"content": "yes"},
        {"tracer_provider": "the default one"},
        {"meter_provider": 3},
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            OpenTelemetrySink(**options)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
    with pytest.raises(MissingDependency, match=r"rxstream\[otel\]"):
        OpenTelemetrySink()


@pytest.fixture(autouse=True)
def _quiet(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    assert not recwarn.list
