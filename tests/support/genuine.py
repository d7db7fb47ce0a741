"""Sends a body of ours to the local server, and takes the answer: proof that a server which is not ours reads it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from rxstream.aggregate import aggregate
from rxstream.providers import decoder_for
from rxstream.response import Response
from rxstream.sources.local import LocalServer
from tests.support.recordings import feed_all

__all__ = ["answer"]


def answer(server: LocalServer, path: str, body: dict[str, Any], *, provider: str) -> Response:
    """What the server at `path` answers to `body`, which must be a whole stream."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)  # noqa: S310  # http, ours
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            data = reply.read()
    except urllib.error.HTTPError as refused:
        with refused:
            raise AssertionError(refused.read().decode()) from None
    events, error = feed_all(decoder_for(provider), data)
    assert error is None
    return aggregate(events)
