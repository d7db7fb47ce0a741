"""The handler that logs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import rxstream
from rxstream.errors import Cancelled, ConfigurationError, ServerFault
from rxstream.events import Finished, TextDelta
from rxstream.sinks._dispatch import Dispatch
from rxstream.sinks.handler import StreamMetadata
from rxstream.sinks.log import LoggingStreamHandler
from tests.support.virtual_loop import virtual_time

SAID = "what the model said"


def told(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = vars(record)["rxstream"]
    facts.pop("seconds", None)
    return facts


@virtual_time
async def test_start_pauses_and_end_are_logged_with_their_figures_and_no_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    handler = LoggingStreamHandler()
    for number, error in enumerate((None, Cancelled("enough"), ServerFault(SAID, status=503))):
        run = Dispatch(StreamMetadata(stream_id=f"s{number}", model="m"), rxstream.LoopScheduler())
        run.add("h", handler)
        run.on_next(TextDelta(text=SAID))
        run.paused()
        run.resumed()
        if error is None:
            run.on_completed(rxstream.aggregate.aggregate([Finished(reason="stop")]))
        else:
            run.on_error(error)
    assert SAID not in caplog.text
    first = [record for record in caplog.records if told(record)["stream_id"] == "s0"]
    assert [told(record)["what"] for record in first] == [
        "stream-started",
        "stream-paused",
        "stream-resumed",
        "stream-completed",
    ]
    assert told(first[-1]) == {
        "what": "stream-completed",
        "stream_id": "s0",
        "model": "m",
        "finish_reason": "stop",
        "pieces": 1,
    }
    ends = [record for record in caplog.records if told(record)["what"] == "stream-failed"]
    assert [(record.levelname, told(record)["error"], told(record).get("status")) for record in ends] == [
        ("INFO", "Cancelled", None),
        ("ERROR", "ServerFault", 503),
    ]
    assert {record.name for record in caplog.records} == {"rxstream.streams"}


def test_a_logger_and_level_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("mine")
    logger.setLevel(logging.DEBUG)
    rxstream.from_iterable(["to be"]).start(LoggingStreamHandler(logger, level=logging.DEBUG)).result(20)
    assert {(record.name, record.levelname) for record in caplog.records} == {("mine", "DEBUG")}


def test_a_class_made_of_it_serves_streams_too(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(LoggingStreamHandler):
        def __init__(self) -> None:
            super().__init__(level=logging.INFO)

        def on_token_received(self, token: str, index: int) -> None:
            super().on_token_received(token, index)
            logging.getLogger("mine").info("a piece")

    caplog.set_level(logging.INFO)
    rxstream.from_iterable(["to ", "be"]).start(Mine()).result(20)
    assert [record.name for record in caplog.records][:3] == ["rxstream.streams", "mine", "mine"]


def test_what_is_no_logger_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^logger="):
        LoggingStreamHandler("mine")  # type: ignore[arg-type]
