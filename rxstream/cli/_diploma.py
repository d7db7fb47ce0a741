"""The certificate of a client in a terminal, drawn with rich."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rxstream.sinks.console import printable
from rxstream.testing.certify import Certificate, Result

__all__ = ["Drawn"]

_STYLES = {"pass": "green", "n/a": "dim", "fail": "bold red", "hangs": "bold red", "silent": "bold white on red"}


class Drawn:
    """A table in colours, with a line meanwhile that says what is being tried."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)

    @contextmanager
    def progress(self) -> Generator[Callable[[Result], object]]:
        """Show what was tried last."""
        with self._console.status("getting ready …") as status:

            def show(result: Result) -> None:
                status.update(Text(f"{result.column}: {result.means} … {result.word}"))

            yield show

    def write(self, certificate: Certificate) -> None:
        """Draw the table, then what is wrong."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        table.add_column("")
        for column in certificate.columns:
            table.add_column(Text(column.replace("-", "-\n").replace(" ", "\n")), justify="right", no_wrap=True)
        for means, results in certificate.rows:
            table.add_row(means, *(_cell(results.get(column)) for column in certificate.columns))
        self._console.print(table)
        for note in certificate.notes:
            self._console.print(Text(printable(note)))
        style = "bold green" if certificate.passed else "bold red"
        self._console.print(Text(printable(certificate.summary), style=style))


def _cell(result: Result | None) -> Text:
    return Text(result.word, style=_STYLES[result.verdict]) if result is not None else Text("")
