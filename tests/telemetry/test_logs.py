"""What the log is told: figures, and nothing of what was said."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

import rxstream
from rxstream import operators as rxo
from rxstream.errors import ConfigurationError, Overloaded, StreamError
from rxstream.metrics import StreamMetrics
from rxstream.telemetry.logs import LoggingSink

PROMPT = "the prompt that nobody may read"


def test_a_stream_is_a_line_with_its_figures(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rxstream.from_iterable([PROMPT, PROMPT], label="poet").pipe(rxo.meter(LoggingSink())).run()
    (record,) = caplog.records
    figures = vars(record)["rxstream"]
    assert (record.name, record.levelname) == ("rxstream.metrics", "INFO")
    assert record.getMessage().startswith("iterable:poet completed after 0.")
    assert (figures["outcome"], figures["outputs"], figures["label"]) == ("completed", 2, "poet")
    assert "error" not in figures
    elsewhere = {
        "opened",
        "gaps",
        "usage",
        "response",
        "response_model",
        "retried",
        "thought",
        "error",
        "finish_reason",
    }
    assert set(StreamMetrics.__struct_fields__) - elsewhere <= figures.keys() | {"response_id"}
    assert PROMPT not in json.dumps(figures) + record.getMessage()


def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def failing() -> Iterator[str]:
        yield "a"
        raise Overloaded(PROMPT, status=529)

    with pytest.raises(StreamError):
        rxstream.from_iterable(failing()).pipe(rxo.meter(LoggingSink(logging.getLogger("mine")))).run()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mine", "WARNING")
    assert vars(record)["rxstream"]["error"] == "Overloaded"
    assert vars(record)["rxstream"]["status"] == 529
    assert PROMPT not in record.getMessage()


def test_what_is_not_wanted_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rxstream.from_iterable(["a"]).pipe(rxo.meter(LoggingSink())).run()
    assert not caplog.records


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="logger"):
        LoggingSink("my.app")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="level='INFO'"):
        LoggingSink(level="INFO")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="failed"):
        LoggingSink(failed="ERROR")  # type: ignore[arg-type]
