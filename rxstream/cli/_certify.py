"""``rxstream certify``: try a client against everything that goes wrong, and print what came of it."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, cast

from rxstream.providers.compatible import Dialect
from rxstream.sinks.console import printable
from rxstream.testing.certify import ROWS, Certificate, Result, certify

__all__ = ["run_certify"]

_DIALECTS: tuple[Dialect, ...] = ("anthropic", "openai-chat", "openai-responses")
_CERTIFIED, _NOT_CERTIFIED = 0, 1


class _Paper(Protocol):
    """What the certificate is written on."""

    def progress(self) -> AbstractContextManager[Callable[[Result], object]]:
        """Show what is being tried, meanwhile; what it gives is called with every result."""
        ...

    def write(self, certificate: Certificate, /) -> None:
        """Write it."""
        ...


class _Plain:
    """Text for pipes and files."""

    def progress(self) -> AbstractContextManager[Callable[[Result], object]]:
        return nullcontext(lambda _: None)

    def write(self, certificate: Certificate) -> None:
        print(printable(str(certificate)))


class _JSON(_Plain):
    """Data for scripts."""

    def write(self, certificate: Certificate) -> None:
        print(json.dumps(certificate.to_dict(), indent=2))


def run_certify(arguments: Sequence[str]) -> int:
    """Certify a client, and print the table; the exit code is 0 only if nothing was wrong.

    Raises:
        ConfigurationError: there is no such target or row.
    """
    options = _parser().parse_args(arguments)
    if options.list:
        width = max(len(row.name) for row in ROWS)
        for row in ROWS:
            print(f"{row.name:<{width}}  {row.means}")
        return _CERTIFIED
    paper = _paper(as_json=options.json)
    with paper.progress() as on_result:
        certificate = certify(
            options.target,
            dialects=cast("list[Dialect]", options.dialect),
            only=options.only,
            timeout=options.timeout,
            patience=options.patience,
            on_result=on_result,
        )
    paper.write(certificate)
    return _CERTIFIED if certificate.passed else _NOT_CERTIFIED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rxstream certify",
        description="Try a client against a server on this machine that fails in every way that providers do: is it to be "
        "trusted with a stream?",
        epilog="The client is a Python function or a command; what it is asked and what it is to tell is in the documentation "
        "of rxstream.testing.certify. Exit code 0: certified; 1: something is wrong, the worst being SILENT, a broken answer "
        "that is passed for a whole one; 2: it cannot be tried.",
    )
    parser.add_argument(
        "target", nargs="?", default="rxstream", help="MODULE:FUNCTION or 'a command'; by default rxstream itself"
    )
    parser.add_argument(
        "--dialect", action="append", default=[], choices=_DIALECTS, help="may be repeated; by default all it speaks"
    )
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="may be repeated; see --list")
    parser.add_argument(
        "--timeout",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="the client's own, where it is tried; by default 1",
    )
    parser.add_argument(
        "--patience", type=float, default=10.0, metavar="SECONDS", help="after which a client hangs; by default 10"
    )
    parser.add_argument("--json", action="store_true", help="data for scripts")
    parser.add_argument("--list", action="store_true", help="what is required, a row a line, and nothing else")
    return parser


def _paper(*, as_json: bool) -> _Paper:
    if as_json:
        return _JSON()
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return _Plain()
    try:
        drawn: _Paper = importlib.import_module("rxstream.cli._diploma").Drawn()  # the adapter of rich
    except ImportError:
        return _Plain()
    return drawn
