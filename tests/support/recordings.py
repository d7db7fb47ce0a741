"""Recorded provider streams: where they are, and how to feed them to a decoder.

They are other people's data and stay outside the project: in ``../shared/recordings`` beside it, or where
``$RXSTREAM_RECORDINGS`` says. Where the folder is absent their tests are skipped; with ``CI=true`` that is a failure.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from rxstream.errors import StreamError
from rxstream.events import Event
from rxstream.typing import Decoder

__all__ = ["Recording", "each_local", "each_recording", "feed_all", "local_bodies", "recordings", "splits"]

FOLDER = Path(os.environ.get("RXSTREAM_RECORDINGS") or Path(__file__).parents[3] / "shared" / "recordings")
_REASON = f"no recordings in {FOLDER} (set RXSTREAM_RECORDINGS)"


@dataclass(frozen=True)
class Recording:
    """One response body, and what it must come to."""

    id: str
    """Such as ``compat-groq/vercelai-groq-tool-call``."""
    path: Path
    meta: dict[str, Any] = field(repr=False)
    """The whole sidecar; for a recording of a local server, its request."""

    @cached_property
    def body(self) -> bytes:
        return self.path.read_bytes()

    @property
    def expected(self) -> dict[str, Any]:
        return dict(self.meta["expected"])

    @property
    def vendor(self) -> str:
        return str(self.meta["vendor"])


def recordings(*protocols: str) -> list[Recording]:
    """The recordings of these protocols (``chat``, ``responses``, ``anthropic``, ``sse-only``), or all."""
    if not FOLDER.is_dir() and os.environ.get("CI") == "true":
        raise FileNotFoundError(_REASON)
    return [recording for recording in _all() if not protocols or recording.meta["protocol"] in protocols]


@functools.cache
def _all() -> list[Recording]:
    """Read once: many modules ask, and some tests at every turn."""
    return [
        Recording(
            str(path.relative_to(FOLDER / "wire").with_suffix("")),
            path.with_suffix(".sse"),
            json.loads(path.read_bytes()),
        )
        for path in sorted((FOLDER / "wire").glob("*/*.json"))
    ]


def local_bodies(*folders: str) -> list[Recording]:
    """The bodies recorded of local servers in these folders (``chat_completions``, ``messages`` …), without a sidecar."""
    if not FOLDER.is_dir() and os.environ.get("CI") == "true":
        raise FileNotFoundError(_REASON)
    return [
        Recording(f"{folder}/{path.stem}", path, json.loads(path.with_suffix(".request.json").read_bytes()))
        for folder in folders
        for path in sorted((FOLDER / "local" / folder).glob("*.body"))
    ]


def each_recording(*protocols: str) -> pytest.MarkDecorator:
    """Runs a test once for each of `recordings`, as its argument ``recording``."""
    return _each(recordings(*protocols))


def each_local(*folders: str) -> pytest.MarkDecorator:
    """Runs a test once for each of `local_bodies`, as its argument ``recording``."""
    return _each(local_bodies(*folders))


def _each(found: list[Recording]) -> pytest.MarkDecorator:
    if not found:
        return pytest.mark.parametrize("recording", [pytest.param(None, marks=pytest.mark.skip(reason=_REASON))])
    return pytest.mark.parametrize("recording", found, ids=[recording.id for recording in found])


def splits(body: bytes) -> st.SearchStrategy[list[int]]:
    """Places at which to cut `body`, sorted."""
    return st.lists(st.integers(0, len(body)), max_size=20).map(sorted)


def feed_all(decoder: Decoder, body: bytes, cuts: Iterable[int] = ()) -> tuple[list[Event], StreamError | None]:
    """Everything that a decoder makes of a body cut at `cuts`, and the error that ended it, if one did."""
    events: list[Event] = []
    try:
        for start, stop in pairwise((0, *cuts, len(body))):
            events += decoder.feed(body[start:stop])
        events += decoder.close()
        if decoder.failure is not None:
            events += decoder.close()  # raises what `close` held back
    except StreamError as error:
        return events, error
    return events, None
