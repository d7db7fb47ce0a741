"""Streams of all kinds, measured, on a page that Prometheus reads: something for the dashboard to show.

Needs ``rxstream[otel]``, ``opentelemetry-sdk`` and ``opentelemetry-exporter-prometheus``; no key, no network: a server of its own
answers, fails and dawdles.

    python docs/dashboards/example.py [--port 9464] [--seconds 600]

It says where its page is. Nothing is left to chance: whatever the dashboard asks about happens several times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

import rxstream
from rxstream import operators as rxo
from rxstream.errors import StreamError
from rxstream.events import UsageReported
from rxstream.testing.chaos import ChaosServer

FAULTS = (None, "429", None, "end:fraction=0.5", None, "stall:content=5,seconds=0.4", None)
"""What befalls one answer after the other; then from the beginning again."""


async def ask(server: ChaosServer, sink: rxstream.OpenTelemetrySink, place: rxstream.Bulkhead) -> None:
    """One stream after the other; of ten some are paused, and one is left."""
    for number in itertools.count():
        stream = rxstream.stream(
            f"compatible:{('small', 'large')[number % 2]}",
            "Go on.",
            base_url=server.base_url("openai-chat"),
            api_key="none",
            timeouts={"idle": 0.5},
        )
        metered = stream.pipe(rxo.retry_stream(attempts=2), rxo.guard(place), rxo.meter(sink, stall=0.3))
        session = metered.start()
        if number % 3 == 0:
            await asyncio.sleep(0.1)
            session.pause()
            await asyncio.sleep(0.1)
            session.resume()
        if number % 10 == 0:
            session.cancel()
        try:
            await session
        except StreamError:
            await asyncio.sleep(0.1)


async def charge(sink: rxstream.OpenTelemetrySink) -> None:
    """A provider that tells what it charges."""
    while True:
        usage = rxstream.Usage(provenance="reported", input_tokens=20, output_tokens=2, cost=0.0001)
        await rxstream.from_iterable(["to ", UsageReported(usage=usage), "be"]).pipe(rxo.meter(sink))
        await asyncio.sleep(0.2)


async def run(seconds: float) -> None:
    """All of them, for a time."""
    sink = rxstream.OpenTelemetrySink(meter_provider=MeterProvider([PrometheusMetricReader()]), spans=False)
    place = rxstream.Bulkhead(4)
    text = " ".join(f"word{number}" for number in range(40))
    faults = itertools.cycle(FAULTS)
    with ChaosServer(text, rate=200, faults=lambda _: next(faults)) as server:
        streams = [asyncio.ensure_future(ask(server, sink, place)) for _ in range(6)]
        await asyncio.wait([*streams, asyncio.ensure_future(charge(sink))], timeout=seconds)


def main() -> None:
    """Serve the page, and stream."""
    parser = argparse.ArgumentParser(description="Streams for the dashboard to show.")
    parser.add_argument("--port", type=int, default=9464, help="0 takes a free one")
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    page, _ = start_http_server(options.port, addr="127.0.0.1")
    sys.stdout.write(f"http://127.0.0.1:{page.server_port}/metrics\n")
    sys.stdout.flush()
    asyncio.run(run(options.seconds))


if __name__ == "__main__":
    main()
