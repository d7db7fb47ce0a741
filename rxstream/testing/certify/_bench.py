"""Where a client is tried: a server that plays, the client at its question, and what is required of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from rxstream.providers.compatible import Dialect
from rxstream.testing.certify._client import Question, Told
from rxstream.testing.certify._target import Run, Target
from rxstream.testing.certify._wire import TOOLS
from rxstream.testing.chaos import Play, ScriptedServer

__all__ = ["LEAVE", "Bench", "Finding", "Trial", "Verdict"]

Verdict = Literal["pass", "n/a", "fail", "hangs", "silent"]
"""``silent`` is the worst: a broken answer passed for a whole one. Ordered from the best to the worst."""

LEAVE: Final = 1.0
"""Seconds within which a client that is told to stop, or has ended, must have closed its request."""
_LATE: Final = 3.0
"""Seconds after its timeout that a client may take to give up: machines are busy."""
_LOOK: Final = 0.002


class Finding(Exception):
    """Something other than a pass."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict: Verdict = verdict
        self.detail = detail


@dataclass(frozen=True)
class Trial:
    """A client at work against a server.

    Args:
        server: Whom it asks.
        run: The client.
        told: What it has told so far.
        patience: Seconds from its request after which it hangs.
        loading: Seconds that it may take to its request: a command has to start first.
    """

    server: ScriptedServer
    run: Run
    told: Told
    patience: float
    loading: float

    def end(self) -> Told:
        """What the client tells, when it is over.

        Raises:
            Finding: it hangs, cannot do this, or breaks the protocol.
        """
        limit = time.monotonic() + self.loading
        while not self.server.requests and time.monotonic() < limit and not self.told.over.wait(_LOOK):
            pass
        if not self.told.over.wait(self.patience):
            raise Finding("hangs", f"goes on waiting, for {self.patience:g} s and more")
        if self.told.misuse:
            raise Finding("fail", self.told.misuse)
        if self.told.unsupported:
            raise Finding("n/a", self.told.error)
        return self.told

    def until(self, ready: Callable[[], bool], missing: str) -> None:
        """Wait until it is `ready`.

        Raises:
            Finding: it is not, for too long, or the client ended before.
        """
        limit = time.monotonic() + self.patience
        while not ready():
            if self.told.over.is_set() and not ready():
                self.end()
                raise Finding("fail", f"{missing}: it ended ({self.told.error or 'complete'})")
            if time.monotonic() > limit:
                raise Finding("fail", f"{missing} within {self.patience:g} s")
            time.sleep(_LOOK)

    def left(self, since: float) -> float:
        """Seconds from `since` until the last request was closed by the client.

        Raises:
            Finding: it was not, in time.
        """
        if not self.server.requests:
            raise Finding("fail", "it made no request")
        try:
            return max(0.0, self.server.wait_closed(since=since, timeout=LEAVE))
        except TimeoutError:
            raise Finding("fail", f"the request was still open {LEAVE:g} s later") from None


@dataclass(frozen=True)
class Bench:
    """One client in one dialect.

    Args:
        target: The client.
        dialect: What it is to speak.
        timeout: Seconds that it is told to wait for progress, where the server makes none.
        patience: Seconds after which it hangs.
    """

    target: Target
    dialect: Dialect
    timeout: float
    patience: float

    def question(self, url: str, *, timeout: float, tools: bool = False, model: str = "certify-1") -> Question:
        """One for the server at `url`."""
        return Question(
            base_url=url if self.dialect == "anthropic" else f"{url}/v1",
            dialect=self.dialect,
            model=model,
            prompt="Say hello.",
            api_key="sk-no-key-is-needed",
            timeout=timeout,
            tools=TOOLS if tools else (),
        )

    @contextmanager
    def trial(
        self,
        *plays: Play,
        stalls: bool = False,
        tools: bool = False,
        stop_at: int | None = None,
    ) -> Generator[Trial]:
        """The client, at work; when it is left, so are client and server.

        Args:
            *plays: What the first request is answered, the second, and so on.
            stalls: The client is to give up after its timeout; otherwise it may take all the patience.
            tools: Offer the model tools.
            stop_at: Characters of text at which it is to stop.
        """
        timeout = self.timeout if stalls else self.patience
        patience = max(3 * timeout, timeout + _LATE) if stalls else self.patience
        with ScriptedServer(*plays) as server:
            told = Told(stop_at=stop_at)
            run = self.target.start(self.question(server.url, timeout=timeout, tools=tools), told)
            try:
                yield Trial(server, run, told, patience, self.patience)
            finally:
                if not told.over.is_set():
                    run.abandon()

    def answer(self, *plays: Play, stalls: bool = False, tools: bool = False) -> Told:
        """What the client tells of the answer, in the end.

        Raises:
            Finding: it hangs, cannot do this, or breaks the protocol.
        """
        with self.trial(*plays, stalls=stalls, tools=tools) as trial:
            return trial.end()

    def failure(self, *plays: Play, stalls: bool = False) -> float:
        """Seconds from the request of an answer that it must say has failed until it says so.

        Raises:
            Finding: it does not.
        """
        with self.trial(*plays, stalls=stalls) as trial:
            told, ended, requests = trial.end(), time.monotonic(), trial.server.requests
        if not told.error:
            finish = f", finish {told.finish!r}" if told.finish is not None else ""
            raise Finding("silent", f"passed for a whole answer of {len(told.text)} characters{finish}")
        return ended - requests[0].came_at if requests else 0.0

    def success(self, *plays: Play, text: str | None = None, stalls: bool = False, tools: bool = False) -> Told:
        """What it tells of an answer that it must say is complete, with exactly this text.

        Raises:
            Finding: it does not.
        """
        told = self.answer(*plays, stalls=stalls, tools=tools)
        if told.error:
            raise Finding("fail", f"a whole answer passed for a failure: {told.error:.120}")
        if text is not None and told.text != text:
            raise Finding("fail", f"said {told.text!r:.60}, not {text!r:.60}")
        return told
