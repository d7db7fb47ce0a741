"""Answers that outlive their connection, and how clients come back for the rest.

Two ways, as their makers have them:

* OpenAI's Responses in the background: the response goes on without a listener. ``GET /responses/{id}?stream=true&
  starting_after=N`` gives the events whose number is greater than N, ``GET /responses/{id}`` how far it is, ``POST
  /responses/{id}/cancel`` stops it.
* llama.cpp: a request with ``X-Conversation-Id``. ``GET /v1/stream?conv_id=ID&from=BYTE`` gives the body from that byte on,
  ``POST /v1/streams/lookup`` how far it is, ``DELETE /v1/stream?conv_id=ID`` stops it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._frames import Frame
from rxstream.testing.chaos._generation import Generation

__all__ = ["Kept"]


@dataclass
class Kept:
    """An answer that is kept."""

    id: str
    dialect: Dialect
    generation: Generation
    frames: list[Frame]
    """As they were sent, with the faults of their events."""
    began: float = field(default_factory=time.time)

    def after(self, number: int) -> list[Frame]:
        """The events whose sequence number is greater."""
        return [frame for frame in self.frames if (found := frame.number) is not None and found > number]

    def since(self, offset: int) -> list[Frame]:
        """The body from this byte on; the event that it is in comes in part."""
        rest: list[Frame] = []
        for frame in self.frames:
            if offset < len(frame.data):
                rest.append(frame if offset <= 0 else frame._replace(data=frame.data[offset:]))
            offset -= len(frame.data)
        return rest

    @property
    def response(self) -> dict[str, Any]:
        """As OpenAI tells how far it is."""
        known = self.generation.frames[0].payload["response"]
        last = self.generation.frames[-1].payload
        whole = last["response"] if self.generation.status == "completed" and "response" in last else known
        return {**whole, "background": True, "status": self.generation.status}

    @property
    def session(self) -> dict[str, Any]:
        """As llama.cpp tells how far it is."""
        made = self.generation.made
        done = self.generation.status != "in_progress"
        return {
            "conversation_id": self.id,
            "is_done": done,
            "total_bytes": sum(len(frame.data) for frame in self.frames if frame.due <= made),
            "started_at": int(self.began * 1000),
            "completed_at": int(self.began * 1000) if done else 0,
        }
