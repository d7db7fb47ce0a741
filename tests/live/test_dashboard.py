"""The dashboard: it is whole, Grafana's own types know all of it, and a real Prometheus answers each of its queries about a running example.

No part of it is a race on a busy machine: a scrape has a second (a shorter interval is its timeout, too), the example says its page's
port itself, Prometheus is asked when it is ready, and the queries look back over a minute.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

DASHBOARDS = Path(__file__).parents[2] / "docs" / "dashboards"
PATIENCE = 60.0
CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: rxstream, static_configs: [{{targets: ["{page}"]}}]}}]
"""


@pytest.fixture(scope="session", autouse=True)
def _sdks() -> None:
    """None is needed in this process."""


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    if not DASHBOARDS.exists():
        pytest.skip("the documents are not beside the tests")
    loaded: dict[str, Any] = json.loads((DASHBOARDS / "rxstream.json").read_text(encoding="utf-8"))
    return loaded


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Every query of the panels, as Grafana would send it: all models, over a minute."""
    words = {"$__rate_interval": "1m", "$provider": ".*", "$model": ".*"}
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


def test_grafanas_own_types_know_all_of_it(dashboard: dict[str, Any]) -> None:
    """Read and written again by Grafana's SDK it is the same: no field is misspelt or in the wrong place, no value of a wrong kind."""
    register_default_plugins()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert not list(lost(dashboard, known))


def lost(given: Any, known: Any, where: str = "") -> Iterator[str]:
    """Where `known`, which has defaults besides, is not as `given`."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            yield from lost(value, known.get(name), f"{where}.{name}")
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for number, (one, other) in enumerate(zip(given, known, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif given != known:
        yield f"{where}: {given!r} is {known!r}"


def free_port() -> int:
    """One that no connection takes by chance: below those that the system gives away."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(20_000, 30_000)  # noqa: S311 - chance, no secret
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def running(log: Path, *command: str) -> Generator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
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
        if refused.code < 500:
            raise AssertionError(f"{parameters}: {refused.read().decode()}") from None
        return []  # it is up, and not ready
    except OSError:
        return []  # it is not up yet
    result: list[Any] = data if isinstance(data, list) else data["result"]
    return result


def says_something(base: str, query: str) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in answers(base, "/api/v1/query", query=query))


def place_of(page: Path, deadline: float) -> str:
    """Host and port that the example has said."""
    while "\n" not in (said := page.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert said.startswith("http://"), said
    return urllib.parse.urlsplit(said.partition("\n")[0]).netloc


def test_prometheus_answers_every_query(dashboard: dict[str, Any], tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    deadline, port = time.monotonic() + PATIENCE, free_port()
    config, example, server = (tmp_path / name for name in ("prometheus.yml", "example", "prometheus"))
    serve = (f"--config.file={config}", f"--storage.tsdb.path={tmp_path}", f"--web.listen-address=127.0.0.1:{port}")
    base = f"http://127.0.0.1:{port}"
    with running(example, sys.executable, str(DASHBOARDS / "example.py"), "--port=0", "--seconds=90"):
        config.write_text(CONFIG.format(page=place_of(example, deadline)), encoding="utf-8")
        with running(server, prometheus, *serve):
            waiting = set(queries(dashboard))
            while waiting and time.monotonic() < deadline:
                time.sleep(0.25)
                waiting = {query for query in waiting if not says_something(base, query)}
            told = f"{example.read_text(encoding='utf-8')[-2000:]}\n{server.read_text(encoding='utf-8')[-2000:]}"
            assert not waiting, f"Prometheus has nothing to say to {sorted(waiting)}\n{told}"
            for variable in dashboard["templating"]["list"][1:]:
                metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
                assert answers(base, f"/api/v1/label/{label}/values", **{"match[]": metric})
