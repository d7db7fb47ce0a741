"""Prices: what is reported, looked up, or unknown."""

from __future__ import annotations

import sys

import pytest

from rxstream.prices import price
from rxstream.usage import Usage

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("provider", "model", "dollars_in", "dollars_out"),
    [
        ("anthropic", "claude-haiku-4-5", 1.00, 5.00),
        ("openai", "gpt-4o", 2.50, 10.00),
        ("openai-chat", "gpt-4o-2024-08-06", 2.50, 10.00),
        ("openai-responses", "gpt-4o-mini", 0.15, 0.60),
        ("azure", "gpt-4o", 2.50, 10.00),
        ("xai", "grok-4", 3.00, 15.00),
        ("groq", "llama-3.3-70b-versatile", 0.59, 0.79),
        ("openrouter", "anthropic/claude-sonnet-4.5", 3.00, 15.00),
    ],
)
def test_the_published_price_of_each_token_is_added_up(
    provider: str, model: str, dollars_in: float, dollars_out: float
) -> None:
    """The table's prices are dollars a million tokens."""
    usage = Usage(provenance="reported", input_tokens=3000, output_tokens=500)
    expected = (3000 * dollars_in + 500 * dollars_out) / MILLION
    assert price(usage, provider=provider, model=model) == pytest.approx(expected)


def test_cached_tokens_are_counted_once_at_their_own_price() -> None:
    """Of 1000 input tokens 400 came from the cache and 100 went there, so 500 cost the full price."""
    usage = Usage(input_tokens=1000, output_tokens=0, cache_read_tokens=400, cache_write_tokens=100)
    expected = (500 * 3.00 + 400 * 0.30 + 100 * 3.75) / MILLION
    assert price(usage, provider="anthropic", model="claude-sonnet-4-5") == pytest.approx(expected)


def test_what_the_provider_reports_wins_over_the_table() -> None:
    usage = Usage(input_tokens=1000, output_tokens=1000, cost=0.25)
    assert price(usage, provider="openai", model="gpt-4o") == 0.25


def test_a_reported_cost_needs_no_counts() -> None:
    assert price(Usage(cost=0.0), provider="openrouter", model="a/b:free") == 0.0


def test_the_model_in_this_process_costs_nothing() -> None:
    assert price(Usage(input_tokens=5, output_tokens=5), provider="local", model="smollm2") == 0.0


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("no-such-provider", "gpt-4o"), ("ollama", "gpt-oss:20b"), ("compatible", "gpt-4o")],
)
def test_what_the_table_does_not_have_is_unknown(provider: str, model: str) -> None:
    """A model of the same name elsewhere has another price: it is not borrowed."""
    assert price(Usage(input_tokens=5, output_tokens=5), provider=provider, model=model) is None


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=5), Usage(output_tokens=5)])
def test_a_price_of_unknown_counts_is_unknown(usage: Usage) -> None:
    assert price(usage, provider="openai", model="gpt-4o") is None


def test_counts_that_contradict_each_other_have_no_price() -> None:
    usage = Usage(input_tokens=1, output_tokens=1, cache_read_tokens=400)
    assert price(usage, provider="anthropic", model="claude-sonnet-4-5") is None


def test_without_the_optional_package_the_price_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert price(Usage(input_tokens=5, output_tokens=5), provider="openai", model="gpt-4o") is None
