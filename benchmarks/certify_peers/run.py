"""The certificate of other clients, beside our own: each in a virtual environment of its own, for their dependencies exclude
each other.

    python benchmarks/certify_peers/run.py [--envs FOLDER] [--only CLIENT]... [--timeout S] [--write]

``--write`` puts the tables into benchmarks/README.md, between the two marks there. `--envs` keeps the environments for the next
run; by default they are made anew, and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
README = PROJECT / "benchmarks" / "README.md"
MARKS = "<!-- certify_peers: written by run.py -->", "<!-- end of certify_peers -->"
COMMON = ("reactivex>=6.1,<7", "pydantic>=2.10,<3", "msgspec>=0.19,<1")
"""What the certifier needs beside the client."""
WORDS = {"pass": "pass", "n/a": "–", "fail": "**fail**", "hangs": "**hangs**", "silent": "**SILENT**"}
TITLES = {"openai-chat": "Chat Completions", "anthropic": "Messages", "openai-responses": "Responses"}


class Peer(NamedTuple):
    """A client, and what has to be installed for it."""

    name: str
    target: str
    requirements: tuple[str, ...]
    over: tuple[str, ...] = ()
    """What is installed over them as it is, where its own requirements cannot be met."""


PEERS = (
    Peer("openai", "openai_sdk:raw", ("openai==3.54.0",)),
    Peer("openai, its helper", "openai_sdk:helper", ("openai==3.54.0",)),
    Peer("anthropic", "anthropic_sdk:raw", ("anthropic==2.12.0",)),
    Peer("anthropic, its helper", "anthropic_sdk:helper", ("anthropic==2.12.0",)),
    Peer("litellm", "litellm_client:completion", ("litellm==1.106.2", "mcp"), ("litellm==1.109.1",)),
    Peer("langchain", "langchain_client:astream", ("langchain-openai==1.7.3", "langchain-anthropic==1.7.7")),
    Peer("pydantic-ai", "pydantic_ai_client:direct", ("pydantic-ai-slim[openai,anthropic]==2.68.0",)),
    Peer("any-llm", "any_llm_client:completion", ("any-llm-sdk[openai,anthropic]==1.40.2",)),
)


def environment(peer: Peer, folder: Path) -> Path:
    """The Python of an environment that has the client."""
    home = folder / peer.target.partition(":")[0]
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *COMMON, *peer.requirements], check=True)
        if peer.over:
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *peer.over], check=True)
        (home / "ready").touch()
    return python


def certificate(python: str | Path, target: str, *, timeout: float) -> dict[str, Any]:
    """What ``rxstream certify`` says of it."""
    command = [python, "-m", "rxstream", "certify", target, "--timeout", f"{timeout:g}", "--json"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"{target}: {done.stderr.strip().splitlines()[-1]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def tables(found: dict[str, dict[str, Any]]) -> Iterable[str]:
    """A table for each dialect: a row for each requirement, a column for each client that speaks it."""
    for dialect, title in TITLES.items():
        columns: dict[str, dict[str, dict[str, Any]]] = {}
        for name, told in found.items():
            for result in told["results"]:
                spoken, _, over = result["column"].partition(" ")
                if spoken == dialect:
                    columns.setdefault(f"{name}, {over}" if over else name, {})[result["row"]] = result
        rows = {row: result["means"] for results in columns.values() for row, result in results.items()}
        yield f"**{title}**\n"
        yield f"| | {' | '.join(columns)} |"
        yield "| --- " * (len(columns) + 1) + "|"
        for row, means in rows.items():
            results = (columns[name][row] for name in columns)
            cells = (result["figure"] or WORDS[result["verdict"]] for result in results)
            yield f"| {means} | {' | '.join(cells)} |"
        wrong = [
            sum(r["verdict"] in ("fail", "hangs", "silent") for r in column.values()) for column in columns.values()
        ]
        yield f"| **wrong** | {' | '.join(map(str, wrong))} |\n"


def write(lines: Iterable[str]) -> None:
    """Put the tables into the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    README.write_text(f"{before}{MARKS[0]}\n\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=Path, help="where the virtual environments are kept")
    parser.add_argument("--only", action="append", default=[], help="name of a client; may be repeated")
    parser.add_argument(
        "--timeout", type=float, default=1.0, help="what each client is given as its timeout, in seconds"
    )
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md")
    options = parser.parse_args()
    found = {"rxstream": certificate(sys.executable, "rxstream", timeout=options.timeout)}
    with tempfile.TemporaryDirectory() as temporary:
        for peer in PEERS:
            if not options.only or peer.name in options.only:
                print(f"{peer.name} …", file=sys.stderr, flush=True)
                python = environment(peer, options.envs or Path(temporary))
                found[peer.name] = certificate(python, peer.target, timeout=options.timeout)
    lines = list(tables(found))
    print("\n".join(lines))
    for name, told in found.items():
        for result in told["results"]:
            if result["detail"]:
                print(f"{name}, {result['column']}, {result['row']}: {result['verdict']}: {result['detail']}")
    if options.write:
        write(lines)


if __name__ == "__main__":
    main()
