"""Headers about limits: every provider's words, and whatever a server may put there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.events import RateLimits
from rxstream.providers._rate_limits import rate_limits

DATE = "Tue, 21 Oct 2025 07:28:00 GMT"
NOW = 1761031680
"""The same, in seconds since 1970."""


def test_anthropics() -> None:
    """Input and output together, as long as there is something left of both."""
    headers = {
        "Date": DATE,
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2025-10-21T07:28:02Z",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
        "anthropic-ratelimit-input-tokens-reset": "2025-10-21T07:28:03Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "7000",
        "anthropic-ratelimit-output-tokens-reset": "2025-10-21T09:28:08+02:00",
        "anthropic-ratelimit-tokens-limit": "38000",
        "anthropic-ratelimit-tokens-remaining": "36000",
        "anthropic-ratelimit-tokens-reset": "2025-10-21T07:28:10Z",
        "anthropic-ratelimit-unified-5h-reset": "1",
        "anthropic-priority-input-tokens-remaining": "1",
    }
    found = rate_limits(headers)
    assert found == RateLimits(
        requests_limit=50,
        requests_remaining=49,
        requests_reset=2,
        tokens_limit=38000,
        tokens_remaining=36000,
        tokens_reset=10,
    )
    used_up = rate_limits({**headers, "anthropic-ratelimit-output-tokens-remaining": "0"})
    assert used_up is not None
    assert (used_up.tokens_limit, used_up.tokens_remaining, used_up.tokens_reset) == (8000, 0, 8)
    apart = rate_limits({name: value for name, value in headers.items() if "ratelimit-tokens" not in name})
    assert apart is not None
    assert (apart.tokens_limit, apart.tokens_remaining, apart.tokens_reset) == (8000, 7000, 8)
    assert rate_limits({**headers, "anthropic-ratelimit-tokens-remaining": "many"}) == apart


def test_openais() -> None:
    found = rate_limits({
        "X-RateLimit-Limit-Requests": "500",
        "X-RateLimit-Remaining-Requests": "499",
        "X-RateLimit-Reset-Requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29984",
        "x-ratelimit-reset-tokens": "6m0s",
    })  # fmt: skip
    assert found == RateLimits(
        requests_limit=500,
        requests_remaining=499,
        requests_reset=0.12,
        tokens_limit=30000,
        tokens_remaining=29984,
        tokens_reset=360,
    )


def test_by_minute_and_by_day() -> None:
    """As Cerebras and Mistral have it."""
    found = rate_limits({
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "3",
        "x-ratelimit-reset-requests-day": "33011.38",
        "x-ratelimit-limit-req-minute": "60",
        "x-ratelimit-remaining-req-minute": "59",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "59999",
        "x-ratelimit-reset-tokens-minute": "11.38",
    })  # fmt: skip
    assert found == RateLimits(
        requests_limit=14400,
        requests_remaining=3,
        requests_reset=33011.38,
        tokens_limit=60000,
        tokens_remaining=59999,
        tokens_reset=11.38,
    )


def test_prompt_and_generated() -> None:
    """As Fireworks has it; where nothing is said of what remains, the limit is told all the same."""
    found = rate_limits({"x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-limit-tokens-generated": "6000"})
    assert found == RateLimits(tokens_limit=60000)


@pytest.mark.parametrize("prefix", ["x-ratelimit-", "ratelimit-"])
def test_without_a_word_of_what_it_is_of_requests(prefix: str) -> None:
    """As OpenRouter has it, in milliseconds since 1970, and the IETF's draft."""
    headers = {
        f"{prefix}limit": "20",
        f"{prefix}remaining": "0",
        f"{prefix}reset": str((NOW + 30) * 1000),
        "date": DATE,
    }
    assert rate_limits(headers) == RateLimits(requests_limit=20, requests_remaining=0, requests_reset=30)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1s", 1),
        ("17ms", 0.017),
        ("6m0s", 360),
        ("1m26.4s", 86.4),
        ("1h2m3.5s", 3723.5),
        ("2d", 172800),
        ("500µs", 0.0005),
        ("59.7", 59.7),
        ("0", 0),
        (" 12 ", 12),
        (str(NOW + 5), 5),
        (f"{NOW + 5}500", 5.5),
        (str(NOW - 5), 0),
        ("2025-10-21T07:28:05Z", 5),
        ("2025-10-21T07:27:00Z", 0),
        ("2025-10-21T07:28:05", None),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1s?", None),
        ("s", None),
        ("1y", None),
        ("1" * 100, None),
    ],
)
def test_times(said: str, seconds: float | None) -> None:
    found = rate_limits({"date": DATE, "x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": said})
    assert found is not None
    assert found.tokens_remaining == 7
    assert found.tokens_reset == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("date", [None, "yesterday", "", "Tue, 21 Oct 2025 07:28:00 -0000"])
@pytest.mark.parametrize("reset", ["2025-10-21T07:28:05Z", str(NOW + 5)])
def test_a_time_of_day_means_nothing_without_the_responses_own(date: str | None, reset: str) -> None:
    headers = {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": reset}
    if date is not None:
        headers["date"] = date
    assert rate_limits(headers) == RateLimits(requests_remaining=7)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"date": DATE, "content-type": "text/event-stream", "retry-after": "7"},
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "-1"},
        {"x-ratelimit-limit-pages": "7", "x-ratelimit": "7", "x-ratelimit-": "7", "ratelimit-policy": "7"},
        {"x-ratelimit-limit-remaining": "7", "x-other-ratelimit-limit": "7", "anthropic-ratelimit-requests": "7"},
        {"x-ratelimit-limit-requests": "1e999"},
    ],
)
def test_nothing_is_said(headers: dict[str, str]) -> None:
    assert rate_limits(headers) is None


_names = st.builds(
    lambda prefix, words: f"{prefix}ratelimit-{'-'.join(words)}",
    st.sampled_from(["", "x-", "anthropic-", "X-"]),
    st.lists(st.sampled_from(["limit", "remaining", "reset", "requests", "tokens", "input", "day", "x"]), max_size=4),
)
_values = st.one_of(
    st.text(max_size=70),
    st.integers(-10, 10**20).map(str),
    st.floats().map(str),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.from_regex(r"(\d{1,3}[dhms]){1,3}", fullmatch=True),
)


@given(st.dictionaries(st.one_of(_names, st.just("date")), _values, max_size=8))
def test_whatever_comes_gives_sane_numbers_or_none(headers: dict[str, str]) -> None:
    found = rate_limits(headers)
    for limits in () if found is None else (found,):
        counts = (limits.requests_limit, limits.requests_remaining, limits.tokens_limit, limits.tokens_remaining)
        assert all(count is None or (isinstance(count, int) and count >= 0) for count in counts)
        for seconds in (limits.requests_reset, limits.tokens_reset):
            assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
