"""Token counts of Chat Completions, in the spellings of all vendors."""

from __future__ import annotations

from typing import Any, Final

from rxstream.providers._shared import is_object
from rxstream.usage import Provenance, Usage

__all__ = ["read_usage"]

_TICKS: Final = 1e10  # of xAI, in one US dollar

_INPUT: Final = ("prompt_tokens", "input_tokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "prompt_token_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_CACHE_READ: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "num_cached_tokens")
_CACHE_WRITE: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING: Final = ("reasoning_tokens",)


def read_usage(given: dict[str, Any], *, provenance: Provenance, reasoning_in_output: bool) -> Usage:
    """A provider's usage object in our terms.

    Args:
        given: The object.
        provenance: What it is worth.
        reasoning_in_output: Whether the provider counts reasoning into its output, where the numbers do not tell.
    """
    of_input, of_output = _details(given, _INPUT_DETAILS), _details(given, _OUTPUT_DETAILS)
    prompt, completion, total = _count(given, _INPUT), _count(given, _OUTPUT), _count(given, ("total_tokens",))
    reasoning = _first(_count(of_output, _REASONING), _count(given, _REASONING))
    output = completion
    if (
        completion is not None
        and reasoning
        and not _included(prompt, completion, total, reasoning, reasoning_in_output)
    ):
        output = completion + reasoning
    if total is None and prompt is not None and output is not None:
        total = prompt + output
    return Usage(
        provenance=provenance,
        input_tokens=prompt,
        output_tokens=output,
        total_tokens=total,
        cache_read_tokens=_first(_count(of_input, _CACHE_READ), _count(given, _CACHE_READ)),
        cache_write_tokens=_first(_count(of_input, _CACHE_WRITE), _count(given, _CACHE_WRITE)),
        reasoning_tokens=reasoning,
        cost=_cost(given),
        raw=given,
    )


def _included(prompt: int | None, completion: int, total: int | None, reasoning: int, by_default: bool) -> bool:
    """Whether `completion` holds `reasoning`: a part is not more than the whole, and the total shows what was added up."""
    if reasoning > completion:
        return False
    if prompt is None or total is None:
        return by_default
    return total != prompt + completion + reasoning


def _cost(given: dict[str, Any]) -> float | None:
    cost = given.get("cost")
    if is_object(cost):
        cost = cost.get("total_cost")
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        return float(cost)
    ticks = _count(given, ("cost_in_usd_ticks",))
    return ticks / _TICKS if ticks else None  # a reseller's zero stands for: not billed here


def _details(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    for name in names:
        if is_object(details := given.get(name)):
            return details
    return {}


def _count(given: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = given.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _first(a: int | None, b: int | None) -> int | None:
    return b if a is None else a
