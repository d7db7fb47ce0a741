"""The certificate: what came of every row in every column, and how that looks as text and as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import fill
from time import monotonic
from typing import Any, Final

from rxstream._check import one_of, positive
from rxstream._input import hint
from rxstream.errors import ConfigurationError
from rxstream.providers.compatible import Dialect
from rxstream.testing.certify._bench import Bench, Finding, Verdict
from rxstream.testing.certify._builtin import itself
from rxstream.testing.certify._client import Question
from rxstream.testing.certify._named import target_of
from rxstream.testing.certify._rows import ROWS, Row, examine
from rxstream.testing.certify._target import FunctionTarget, Target
from rxstream.testing.certify._wire import whole
from rxstream.testing.chaos._script import DIALECTS

__all__ = ["Certificate", "Result", "certify"]

_WIDTH: Final = 100
_LOADING: Final = 6
"""So many times the patience is had with the first answer: a client may have to load much."""
_UNSPOKEN: Final = Finding("n/a", "is not to be tried")
_WORDS: Final[dict[Verdict, str]] = {"pass": "pass", "n/a": "n/a", "fail": "FAIL", "hangs": "HANGS", "silent": "SILENT"}


@dataclass(frozen=True)
class Result:
    """What came of one row in one column."""

    row: str
    means: str
    column: str
    verdict: Verdict
    figure: str
    """What was measured, where there is a figure."""
    detail: str
    """What was wrong."""
    seconds: float
    """That it took."""

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return self.verdict in ("pass", "n/a")

    @property
    def word(self) -> str:
        """The verdict, for a cell of a table."""
        return self.figure if self.verdict == "pass" and self.figure else _WORDS[self.verdict]


@dataclass(frozen=True)
class Certificate:
    """What came of the whole matrix. As text it is a table."""

    target: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong, and something was tried."""
        return all(result.passed for result in self.results) and any(r.verdict == "pass" for r in self.results)

    @property
    def columns(self) -> list[str]:
        """What was tried: dialects, over their transports."""
        return list(dict.fromkeys(result.column for result in self.results))

    @property
    def rows(self) -> list[tuple[str, dict[str, Result]]]:
        """What a row means, and its results by column."""
        found: dict[str, dict[str, Result]] = {}
        for result in self.results:
            found.setdefault(result.means, {})[result.column] = result
        return list(found.items())

    @property
    def summary(self) -> str:
        """The whole in one line."""
        wrong = [result for result in self.results if not result.passed]
        if not wrong:
            count = sum(result.verdict == "pass" for result in self.results)
            return f"{self.target} is certified: {count} of {count} passed" if self.passed else "nothing was tried"
        silent = sum(result.verdict == "silent" for result in wrong)
        more = f", {silent} of them in silence" if silent else ""
        return f"{self.target} is not certified: {len(wrong)} of {len(self.results)} are wrong{more}"

    @property
    def notes(self) -> list[str]:
        """What is wrong, and what could not be tried, a line each; alike columns together."""
        found: dict[tuple[str, str], list[Result]] = {}
        for result in self.results:
            if result.detail:
                found.setdefault((result.row, result.detail), []).append(result)
        return [
            f"{row} ({', '.join(result.column for result in results)}): {_WORDS[results[0].verdict]}, {detail}"
            for (row, detail), results in found.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        results = [asdict(result) for result in self.results]
        return {"target": self.target, "passed": self.passed, "results": results}

    def __str__(self) -> str:
        """The table, and below it what is wrong."""
        heads = [column.replace("-", "- ").split() for column in self.columns]
        deep = max(map(len, heads), default=0)
        table = [["", *((head + [""] * deep)[line] for head in heads)] for line in range(deep)]
        for means, results in self.rows:
            table.append([means, *(results[column].word if column in results else "" for column in self.columns)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        notes = [fill(note, _WIDTH, subsequent_indent="    ") for note in self.notes]
        return "\n".join([*lines, "", *([*notes, ""] if notes else []), self.summary])


def certify(
    target: str | Callable[[Question], Any] = "rxstream",
    *,
    dialects: Sequence[Dialect] = (),
    only: Sequence[str] = (),
    timeout: float = 1.0,
    patience: float = 10.0,
    on_result: Callable[[Result], object] | None = None,
) -> Certificate:
    """Try a client against a server that fails in every way that providers do.

    It waits for all of it, in threads and processes of its own. Nothing leaves this machine.

    Example:
        >>> from rxstream.testing.certify import certify
        >>> certificate = certify("rxstream", dialects=["anthropic"], only=["text"])
        >>> certificate.passed
        True

    Args:
        target: ``rxstream`` over each of its transports, ``module:function``, a command line, or a function; see
            `rxstream.testing.certify` for what it is asked and what it is to tell.
        dialects: ``openai-chat``, ``anthropic``, ``openai-responses``; by default all that the client speaks.
        only: Names of rows; by default all.
        timeout: Seconds without progress after which the client is told to give up, where that is tried.
        patience: Seconds after which a client hangs, where it has nothing to wait for.
        on_result: Called with every result as it is known.

    Raises:
        ConfigurationError: there is no such target, or an option is not as described.
    """
    positive("timeout", timeout)
    positive("patience", patience)
    spoken = [one_of("dialects", dialect, DIALECTS) for dialect in dialects] or list(DIALECTS)
    rows = _chosen(only)
    name = target if isinstance(target, str) else FunctionTarget(target).name
    results: list[Result] = []
    for client, suffix in _clients(target):
        try:
            for dialect in DIALECTS:
                bench = Bench(client, dialect, timeout=timeout, patience=patience)
                first = _first(bench) if dialect in spoken else _UNSPOKEN
                if first is not None and first.verdict == "n/a":
                    continue
                for row in rows:
                    results.append(_result(row, bench, first, column=f"{dialect}{suffix}"))
                    if on_result is not None:
                        on_result(results[-1])
        finally:
            client.close()
    return Certificate(name, tuple(results))


def _chosen(only: Sequence[str]) -> list[Row]:
    names = [row.name for row in ROWS]
    for name in only:
        if name not in names:
            raise ConfigurationError(f"only: there is no row {name!r}{hint(name, names)}")
    return [row for row in ROWS if not only or row.name in only]


def _clients(target: str | Callable[[Question], Any]) -> list[tuple[Target, str]]:
    """The clients to try, and what their columns are called beside the dialect."""
    if target == "rxstream":
        return [(itself("httpx2"), " httpx2"), (itself("aiohttp"), " aiohttp")]
    return [(target_of(target) if isinstance(target, str) else FunctionTarget(target), "")]


def _first(bench: Bench) -> Finding | None:
    """What is wrong with its first answer: a dialect that it cannot speak at all is no column."""
    try:
        replace(bench, patience=_LOADING * bench.patience).answer(whole(bench.dialect))
    except Finding as finding:
        return finding
    return None


def _result(row: Row, bench: Bench, first: Finding | None, *, column: str) -> Result:
    """What comes of a row; of a client whose first answer hangs, no more is asked: it would take very long."""
    started = monotonic()
    hangs = first is not None and first.verdict == "hangs"
    found: tuple[Verdict, str, str] = ("hangs", "", f"its first answer {first}") if hangs else examine(row, bench)
    return Result(row.name, row.means, column, *found, monotonic() - started)
