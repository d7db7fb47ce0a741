"""What a request cost, in US dollars.

A price is reported, or looked up, or unknown. What the provider says it charges wins over any table; an unknown price is
None, never zero. The table is that of the optional package genai-prices and is read from disk: nothing is fetched.
"""

from __future__ import annotations

from typing import Final

from rxstream.usage import Usage

__all__ = ["price"]

_TABLE_NAMES: Final = {
    "azure-openai": "azure",
    "gemini": "google",
    "grok": "x-ai",
    "moonshot": "moonshotai",
    "openai-chat": "openai",
    "openai-responses": "openai",
    "xai": "x-ai",
    "xai-responses": "x-ai",
}
"""Our name of a provider -> the table's, where they differ."""


def price(usage: Usage, *, provider: str, model: str) -> float | None:
    """The price of `usage` in US dollars, or None where it is unknown.

    It is unknown if the token counts are, if the table does not have the model, or if genai-prices is not installed
    (``pip install 'rxstream[cost]'``). The table's prices are today's, for the provider's standard tier. A model that
    runs in this process (``local``) costs nothing.

    Args:
        usage: Token counts, cached tokens included in `Usage.input_tokens`.
        provider: Name of the provider, such as ``"anthropic"``.
        model: The provider's name of the model.
    """
    if usage.cost is not None:
        return usage.cost
    if provider == "local":
        return 0.0
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    try:
        import genai_prices  # noqa: PLC0415  # an optional package, and half a second to load
    except ImportError:
        return None
    counts = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        found = genai_prices.calc_price(counts, model, provider_id=_TABLE_NAMES.get(provider, provider))
    except (LookupError, ValueError):  # not in the table; or counts that contradict each other
        return None
    return float(found.total_price)
