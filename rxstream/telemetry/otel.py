"""Measurements as OpenTelemetry's metrics and spans, by its conventions for generative models.

Rules of this module:

* Only ``opentelemetry-api`` is needed, the extra ``otel``; without an SDK that the program sets up, nothing is recorded.
* A span begins when the stream is subscribed, as the child of what is current there, and ends with the stream, once, in whatever way
  that ends. It is current while the request is set up, and never across events: what the subscriber does is not below it.
* Cancelling is no error. All attempts of a stream are one span; each failed one is an event of it.
* What was asked and said is left out, unless the environment asks for it. Labels of metrics are few: models, providers, hosts, errors.
"""

from __future__ import annotations

import importlib.metadata
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from rxstream._check import flag, one_of, show
from rxstream.errors import ConfigurationError, MissingDependency
from rxstream.metrics import Measurement, StreamMetrics, StreamOpened
from rxstream.telemetry import _content as content
from rxstream.telemetry import _names as names
from rxstream.telemetry._instruments import Instruments

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["OpenTelemetrySink"]

_NANO: Final = 1_000_000_000


class OpenTelemetrySink:
    """Tells OpenTelemetry what ``meter`` measured: metrics, and a span for each stream.

    Prometheus gets the metrics through OpenTelemetry's exporter for it. The span of Anthropic's SDK is off in the clients that
    rxstream makes; a client of your own has its own setting, ``open_telemetry=False``.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> sink = OpenTelemetrySink()
        >>> rxstream.from_iterable(["to ", "be"]).pipe(rxo.meter(sink)).run().text
        'to be'

    Args:
        tracer_provider: Where spans go; the program's own if not given.
        meter_provider: Where metrics go; likewise.
        spans: Whether there are spans.
        metrics: Whether there are metrics.
        conventions: Which names: ``released`` or ``latest``; if not given, as ``OTEL_SEMCONV_STABILITY_OPT_IN`` says.
        content: Whether spans hold prompts and answers; if not given, as ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``
            says, which is no where it is not set.

    Raises:
        MissingDependency: OpenTelemetry's API is not installed; the message has the command.
        ConfigurationError: an option is not as described.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        spans: bool = True,
        metrics: bool = True,
        conventions: Literal["released", "latest"] | None = None,
        content: bool | None = None,
    ) -> None:
        flag("spans", spans)
        flag("metrics", metrics)
        if conventions is not None:
            one_of("conventions", conventions, ("released", "latest"))
        if content is not None:
            flag("content", content)
        for name, given, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if given is not None and not callable(getattr(given, method, None)):
                raise ConfigurationError(f"{name}={show(given)}: must have a method {method}")
        try:
            from opentelemetry import metrics as otel_metrics  # noqa: PLC0415 - optional
            from opentelemetry import trace  # noqa: PLC0415
        except ImportError as error:
            raise MissingDependency("OpenTelemetry is not installed: pip install 'rxstream[otel]'") from error
        self._trace = trace
        self._names = {"released": names.RELEASED, "latest": names.LATEST}.get(conventions or "") or names.chosen()
        self._content = spans and (names.content_wanted() if content is None else content)
        ours = ("rxstream", _version())
        self._tracer: Tracer | None = trace.get_tracer(*ours, tracer_provider=tracer_provider) if spans else None
        meter = otel_metrics.get_meter(*ours, meter_provider=meter_provider) if metrics else None
        self._instruments = None if meter is None else Instruments(meter, self._names)
        self._lock = threading.Lock()
        self._open: dict[int, Span] = {}

    @property
    def wants_response(self) -> bool:
        """Whether answers are written down."""
        return self._content

    def record(self, measurement: Measurement, /) -> None:
        """Begin a span, or end it and count."""
        if isinstance(measurement, StreamOpened):
            if self._instruments is not None:
                self._instruments.opened(_who(measurement))
            if self._tracer is not None:
                self._begin(measurement, self._tracer)
            return
        opened = measurement.opened
        with self._lock:
            span = self._open.pop(opened.id, None)
        try:
            if span is not None:
                self._end(span, measurement)
        finally:
            if self._instruments is not None:
                current = self._trace.set_span_in_context(span) if span is not None else None
                self._instruments.ended(measurement, _who(opened), current)

    def around(self, opened: StreamOpened) -> AbstractContextManager[object]:
        """The span of this stream is current."""
        with self._lock:
            span = self._open.get(opened.id)
        if span is None:
            return nullcontext()
        return self._trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def _begin(self, opened: StreamOpened, tracer: Tracer) -> None:
        attributes = _who(opened) | _wanted(opened.request, self._names) | {names.REQUEST_STREAM: True}
        if opened.label:
            attributes[names.LABEL] = opened.label
        span = tracer.start_span(
            f"chat {opened.model}".rstrip(),
            kind=self._trace.SpanKind.CLIENT if opened.model else self._trace.SpanKind.INTERNAL,
            attributes=attributes,
            start_time=int(opened.started_at * _NANO),
        )
        with self._lock:
            self._open[opened.id] = span  # first of all: whatever fails, it is ended
        if self._content and opened.request is not None and span.is_recording():
            span.set_attribute(names.INPUT_MESSAGES, content.asked(opened.request))
            if instructions := content.instructed(opened.request):
                span.set_attribute(names.SYSTEM, instructions)
            if tools := content.offered(opened.request):
                span.set_attribute(names.TOOL_DEFINITIONS, tools)

    def _end(self, span: Span, told: StreamMetrics) -> None:
        try:
            self._describe(span, told)
        finally:
            span.end(int((told.opened.started_at + told.duration) * _NANO))

    def _describe(self, span: Span, told: StreamMetrics) -> None:
        if span.is_recording():
            start = told.opened.started_at
            span.set_attributes({name: value for name, value in self._attributes(told).items() if value is not None})
            if told.response is not None and told.outputs:
                span.set_attribute(names.OUTPUT_MESSAGES, content.said(told.response))
            for one in told.retried:
                failed: dict[str, str | float] = {
                    names.ERROR_TYPE: one.error.kind,
                    names.DELAY: one.delay,
                    names.HOW: one.how,
                }
                span.add_event(names.RETRY, failed, timestamp=int((start + one.at) * _NANO))
            if told.outcome == "failed" and told.error is not None:
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, told.error.kind))

    def _attributes(self, told: StreamMetrics) -> dict[str, Any]:
        usage = told.usage
        reason = told.finish_reason or ("error" if self._names.error_reason else None)
        error = told.error if told.outcome == "failed" else None
        return {
            names.OUTCOME: told.outcome,
            names.ERROR_TYPE: None if error is None else error.kind,
            names.HTTP_STATUS: None if error is None else error.status,
            names.FINISH_REASONS: None if reason is None else [reason],
            names.RESPONSE_ID: told.response_id or None,
            names.RESPONSE_MODEL: told.response_model or None,
            names.FIRST_CHUNK: told.first_chunk,
            names.FIRST_OUTPUT: told.first_output,
            names.INPUT_TOKENS: None if usage is None else usage.input_tokens,
            names.OUTPUT_TOKENS: None if usage is None else usage.output_tokens,
            names.CACHE_READ_TOKENS: None if usage is None else usage.cache_read_tokens,
            self._names.cache_write_tokens: None if usage is None else usage.cache_write_tokens,
            names.REASONING_TOKENS: None if usage is None else usage.reasoning_tokens,
            names.QUEUE: told.queue,
            names.PAUSES: told.pauses,
            names.PAUSED: told.paused,
            names.STALLS: told.stalls,
            names.RETRIES: told.retries,
        }


def _version() -> str:
    try:
        return importlib.metadata.version("rxstream")
    except importlib.metadata.PackageNotFoundError:  # it runs out of its source tree
        return ""


def _who(opened: StreamOpened) -> dict[str, Any]:
    """Who is asked, and where."""
    found: dict[str, Any] = {names.OPERATION: "chat"}
    found[names.PROVIDER] = names.PROVIDERS.get(opened.provider, opened.provider) or "rxstream"
    if opened.model:
        found[names.REQUEST_MODEL] = opened.model
    address = urlsplit(opened.base_url)
    if address.hostname:
        found[names.SERVER_ADDRESS] = address.hostname
        found[names.SERVER_PORT] = address.port or (443 if address.scheme == "https" else 80)
    return found


def _wanted(request: Any, called: names.Names) -> dict[str, Any]:
    """What the request asks for, without what it says."""
    if request is None:
        return {}
    found = {
        names.REQUEST_MAX_TOKENS: request.max_tokens,
        names.REQUEST_TEMPERATURE: request.temperature,
        names.REQUEST_TOP_P: request.top_p,
        names.REQUEST_STOP: list(request.stop) or None,
        names.REQUEST_SEED: request.seed,
        names.REQUEST_CHOICES: request.n if request.n != 1 else None,
        names.OUTPUT_TYPE: None if request.response_format is None else "json",
        called.reasoning_level: request.reasoning,
    }
    further = {"previous_response_id": called.previous_response, **names.REQUEST_EXTRA}
    given = {name: request.extra.get(option) for option, name in further.items()}
    found |= {name: value for name, value in given.items() if isinstance(value, (int, float, str))}
    return {name: value for name, value in found.items() if name and value is not None}
