"""The dashboard: it is whole, and a real Prometheus answers each of its queries about a running example."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DASHBOARDS = Path(__file__).parents[2] / "docs" / "dashboards"
PATIENCE = 30.0
CONFIG = """
global: {{scrape_interval: 100ms, evaluation_interval: 10s}}
scrape_configs: [{{job_name: rxstream, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    if not DASHBOARDS.exists():
        pytest.skip("the documents are not beside the tests")
    loaded: dict[str, Any] = json.loads((DASHBOARDS / "rxstream.json").read_text(encoding="utf-8"))
    return loaded


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every query of the panels, as Grafana would send it: all models, over a short time."""
    words = {"$__rate_interval": "2s", "$provider": ".*", "$model": ".*"}
    found: list[str] = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query: str = target["expr"]
            for word, value in words.items():
                query = query.replace(word, value)
            found.append(query)
    return found


def test_it_is_whole(dashboard: dict[str, Any]) -> None:
    """What Grafana needs to load it: ids, places that do not overlap, a source for every query, variables that exist."""
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not mine & cells
        cells |= mine
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "provider", "model"}
    assert all("$" not in query for query in queries(dashboard))
    assert dashboard["schemaVersion"] >= 36


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def answers(base: str, path: str, **parameters: str) -> list[Any]:
    """What Prometheus says; an empty list while it says nothing."""
    try:
        with urllib.request.urlopen(f"{base}{path}?{urllib.parse.urlencode(parameters)}", timeout=5) as response:  # noqa: S310
            data = json.load(response)["data"]
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"{parameters}: {refused.read().decode()}") from None
    except OSError:
        return []  # it is not up yet
    result: list[Any] = data if isinstance(data, list) else data["result"]
    return result


def says_something(base: str, query: str) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in answers(base, "/api/v1/query", query=query))


def test_prometheus_answers_every_query(dashboard: dict[str, Any], tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if "RXSTREAM_PROMETHEUS" not in os.environ:
        pytest.skip("a busy machine answers too late: RXSTREAM_PROMETHEUS=1 runs it")
    if prometheus is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    page, port = free_port(), free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(port=page), encoding="utf-8")
    serve = (f"--config.file={config}", f"--storage.tsdb.path={tmp_path}", f"--web.listen-address=127.0.0.1:{port}")
    base = f"http://127.0.0.1:{port}"
    example = (sys.executable, str(DASHBOARDS / "example.py"), f"--port={page}", "--seconds=60")
    with running(*example), running(prometheus, *serve):
        waiting, deadline = set(queries(dashboard)), time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            time.sleep(0.25)
            waiting = {query for query in waiting if not says_something(base, query)}
        assert not waiting, "Prometheus has nothing to say to " + "\n".join(waiting)
        for variable in dashboard["templating"]["list"][1:]:
            metric, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
            assert answers(base, f"/api/v1/label/{label}/values", **{"match[]": metric})
