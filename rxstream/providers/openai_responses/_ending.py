"""How a Responses answer ended, and what it cost: pure functions of the terminal event's ``response``."""

from __future__ import annotations

from typing import Any, Final

from rxstream.events import Finished, FinishReason
from rxstream.providers.openai_responses._items import as_dict, as_integer, as_text
from rxstream.usage import Usage

__all__ = ["finished", "usage"]

_INCOMPLETE: Final[dict[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_TICKS_PER_DOLLAR: Final = 10_000_000_000


def finished(status: str, details: Any, *, awaited: bool, refused: bool, raw: bytes | None) -> Finished:
    """The end of an answer.

    ``completed`` is ``tool_calls`` where the client has to answer a call, ``refusal`` where the model said nothing else.

    Args:
        status: the response's ``status``.
        details: its ``incomplete_details``.
        awaited: whether a call waits for the client.
        refused: whether the model declined and said nothing else.
        raw: the payload's bytes, to keep.
    """
    why = as_text(as_dict(details).get("reason"))
    reason: FinishReason = "other"
    if status == "incomplete":
        reason = _INCOMPLETE.get(why, "other")
    elif status == "completed":
        reason = "tool_calls" if awaited else "refusal" if refused else "stop"
    return Finished(reason=reason, raw_reason=f"{status}:{why}" if why else status, details=details, raw=raw)


def usage(counts: dict[str, Any]) -> Usage:
    """The provider's ``usage``, final.

    Reasoning is within ``output_tokens``; where the provider's own total shows that it is not, it is added. What it charged
    is ``cost``, in US dollars, or xAI's ``cost_in_usd_ticks``, of which ten thousand million are one dollar.
    """
    read = as_dict(counts.get("input_tokens_details"))
    written = as_dict(counts.get("output_tokens_details"))
    given, made, total = (as_integer(counts.get(f"{name}_tokens")) for name in ("input", "output", "total"))
    reasoning = as_integer(written.get("reasoning_tokens"))
    if given is not None and made is not None:
        if reasoning and total == given + made + reasoning:
            made += reasoning
        if total is None:
            total = given + made
    cost, ticks = counts.get("cost"), as_integer(counts.get("cost_in_usd_ticks"))
    if ticks:  # a reseller's zero stands for: not billed here
        cost = ticks / _TICKS_PER_DOLLAR
    return Usage(
        provenance="reported",
        input_tokens=given,
        output_tokens=made,
        total_tokens=total,
        cache_read_tokens=as_integer(read.get("cached_tokens")),
        cache_write_tokens=as_integer(read.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
        cost=float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None,
        raw=counts,
    )
