"""Streams of all kinds, measured, on a page that Prometheus reads: something for the dashboard to show.

Needs ``rxstream[otel]``, ``opentelemetry-sdk`` and ``opentelemetry-exporter-prometheus``; no key, no network: a server of its own
answers, fails and dawdles.

    python docs/dashboards/example.py [--port 9464] [--seconds 600]
"""

from __future__ import annotations

import argparse
import asyncio
import random

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

import rxstream
from rxstream import operators as rxo
from rxstream.errors import StreamError
from rxstream.events import UsageReported
from rxstream.testing.chaos import ChaosServer, Fault, RandomFaults

FAULTS = (Fault("429"), Fault("end", fraction=0.5), Fault("stall", content=5, seconds=0.4))


async def ask(server: ChaosServer, sink: rxstream.OpenTelemetrySink, place: rxstream.Bulkhead) -> None:
    """One stream after the other; now and then one is paused, or left."""
    while True:
        model = random.choice(("small", "large"))
        stream = rxstream.stream(
            f"compatible:{model}",
            "Go on.",
            base_url=server.base_url("openai-chat"),
            api_key="none",
            timeouts={"idle": 0.5},
        )
        metered = stream.pipe(rxo.retry_stream(attempts=2), rxo.guard(place), rxo.meter(sink, stall=0.3))
        session = metered.start()
        if random.random() < 0.3:
            await asyncio.sleep(0.1)
            session.pause()
            await asyncio.sleep(0.1)
            session.resume()
        if random.random() < 0.1:
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
    with ChaosServer(text, rate=200, faults=RandomFaults(FAULTS, probability=0.4)) as server:
        streams = [asyncio.ensure_future(ask(server, sink, place)) for _ in range(6)]
        await asyncio.wait([*streams, asyncio.ensure_future(charge(sink))], timeout=seconds)


def main() -> None:
    """Serve the page, and stream."""
    parser = argparse.ArgumentParser(description="Streams for the dashboard to show.")
    parser.add_argument("--port", type=int, default=9464)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    start_http_server(options.port, addr="127.0.0.1")
    asyncio.run(run(options.seconds))


if __name__ == "__main__":
    main()
