"""What response headers say of a provider's limits: the names of all of them, as one `rxstream.events.RateLimits`.

Rules of this module:

* A name is read by its words: ``anthropic-ratelimit-input-tokens-remaining``, ``x-ratelimit-remaining-tokens``,
  ``x-ratelimit-limit-requests-day``, ``ratelimit-reset``. One with any other word in it is about something else.
* Numbers that belong together stay together. Where there are several limits of a kind (minute and day), it is the one of
  which least is left. Input and output are told together where the provider does so, as our estimates are; either alone
  only where nothing of it is left, or where there is no sum.
* A time of day is measured against the response's own ``date``, as our clock may be wrong; one in the past is 0.
* Garbage is as if it were not there. Nothing is raised.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from rxstream.events import RateLimits

__all__ = ["rate_limits"]

_NAME: Final = re.compile(r"(?:x-|anthropic-)?ratelimit-([a-z-]+)")
_NUMBERS: Final = ("limit", "remaining", "reset")
_REQUESTS: Final = frozenset({"request", "requests", "req"})
_TOKENS: Final = frozenset({"token", "tokens"})
_HALVES: Final = frozenset({"input", "output", "prompt", "generated"})
_KINDS: Final = _HALVES | {"second", "minute", "hour", "day"}
_LONGEST: Final = 64
"""Characters of a value that means something."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_EPOCH: Final = 1e9
"""A number so great is no span in seconds but a time since 1970, …"""
_EPOCH_MS: Final = 1e12
"""… and this one is in milliseconds."""

_Limit = dict[str, str]
"""Values by `_NUMBERS`."""


def rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """What `headers` say of limits on requests and tokens; None where they say nothing."""
    requests: dict[frozenset[str], _Limit] = {}
    tokens: dict[frozenset[str], _Limit] = {}
    date = ""
    for name, value in headers.items():
        lower = name.lower()
        if lower == "date":
            date = value
        elif (found := _NAME.fullmatch(lower)) and len(value) <= _LONGEST:
            words = frozenset(found[1].split("-"))
            number = [word for word in _NUMBERS if word in words]
            rest = words - _REQUESTS - _TOKENS - {*number}
            if len(number) == 1 and rest <= _KINDS:
                of = tokens if words & _TOKENS else requests
                of.setdefault(rest, {})[number[0]] = value.strip()
    now = _date(date)
    limits = (*_scarcest(requests, now), *_scarcest(tokens, now))
    if all(number is None for number in limits):
        return None
    return RateLimits(
        requests_limit=limits[0],
        requests_remaining=limits[1],
        requests_reset=limits[2],
        tokens_limit=limits[3],
        tokens_remaining=limits[4],
        tokens_reset=limits[5],
    )


def _scarcest(
    limits: Mapping[frozenset[str], _Limit], now: datetime | None
) -> tuple[int | None, int | None, float | None]:
    summed = any(not kind & _HALVES and _count(one.get("remaining")) is not None for kind, one in limits.items())
    read: list[tuple[int | None, int | None, float | None]] = []
    for kind, one in limits.items():
        remaining = _count(one.get("remaining"))
        if not (summed and kind & _HALVES and remaining != 0):
            read.append((_count(one.get("limit")), remaining, _span(one.get("reset"), now)))
    return min(read, key=lambda one: math.inf if one[1] is None else one[1], default=(None, None, None))


def _count(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _number(text: str | None) -> float | None:
    """A finite number of at least 0; some say -1 where there is no limit."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _span(text: str | None, now: datetime | None) -> float | None:
    """Seconds until then: of ``12``, ``1m6.5s``, a time of day in RFC 3339, or one since 1970."""
    number = _number(text)
    if text is None or (number is not None and number < _EPOCH):
        return number
    if number is not None:
        then = number / 1000 if number >= _EPOCH_MS else number
        return None if now is None else max(0.0, then - now.timestamp())
    parts = _DURATION.findall(text)
    if parts and "".join(count + unit for count, unit in parts) == text:
        return math.fsum(float(count) * _SECONDS[unit] for count, unit in parts)
    try:
        return None if now is None else max(0.0, (datetime.fromisoformat(text) - now).total_seconds())
    except (ValueError, TypeError):  # TypeError: without a time zone
        return None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return None if date.tzinfo is None else date
