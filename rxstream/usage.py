"""Token counts, with where each number comes from.

A count that nobody reported is None, never zero. ``input_tokens`` includes what came from a cache, ``output_tokens``
includes reasoning: the decoders make it so for providers that count otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Provenance", "Usage", "cut_short"]

Provenance = Literal["reported", "partial", "estimated", "absent"]
"""``reported`` the provider's final count; ``partial`` its count so far, the stream did not reach its end;
``estimated`` ours; ``absent`` there is none."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens that one request used, or several: `Usage` adds up."""

    provenance: Provenance = "absent"
    input_tokens: int | None = None
    """Tokens of the prompt, those read from and written to a cache included."""
    output_tokens: int | None = None
    """Tokens that the model wrote, reasoning included."""
    total_tokens: int | None = None
    """As the provider reports it, or the sum of the two above."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    """US dollars, only where the provider itself reports what it charges."""
    raw: dict[str, Any] | None = None
    """The provider's own usage object."""

    def __add__(self, other: Usage) -> Usage:
        """The usage of both. A count that one of them lacks is the other's; the weaker provenance wins."""
        if type(other) is not Usage:
            return NotImplemented
        if self.provenance == "absent":
            return other
        if other.provenance == "absent":
            return self
        order: tuple[Provenance, ...] = ("estimated", "partial", "reported")
        weaker = self if order.index(self.provenance) < order.index(other.provenance) else other
        return Usage(
            provenance=weaker.provenance,
            input_tokens=_plus(self.input_tokens, other.input_tokens),
            output_tokens=_plus(self.output_tokens, other.output_tokens),
            total_tokens=_plus(self.total_tokens, other.total_tokens),
            cache_read_tokens=_plus(self.cache_read_tokens, other.cache_read_tokens),
            cache_write_tokens=_plus(self.cache_write_tokens, other.cache_write_tokens),
            reasoning_tokens=_plus(self.reasoning_tokens, other.reasoning_tokens),
            cost=_plus(self.cost, other.cost),
        )


def cut_short(usage: Usage | None, said: int) -> Usage:
    """What a request used that was cut short, having reported `usage`, or None, and given `said` pieces of content.

    A provider that was cut short has often not said what it will bill. Then the output is estimated at a token for each
    piece of content that came; what it reads, and writes before it notices, is not known to anybody here.
    """
    if usage is None or usage.output_tokens is None or usage.output_tokens < said:
        return msgspec.structs.replace(usage or Usage(), output_tokens=said, total_tokens=None, provenance="estimated")
    return msgspec.structs.replace(usage, provenance="partial") if usage.provenance == "reported" else usage


def _plus(a: Any, b: Any) -> Any:
    if a is None:
        return b
    return a if b is None else a + b
