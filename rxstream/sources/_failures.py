"""What the SDKs and HTTP libraries raise, as errors of ours.

Rules of this module:

* Exceptions are known by their names alone: no SDK is imported to read one.
* Theirs hold requests and responses, and these hold keys. Ours hold none of them: the cause is a `TransportError`, the
  chain of theirs written out as text, with the connection's own secrets struck out.
* An error of ours is raised *outside* the ``except`` block that caught theirs: else Python itself would tie the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from rxstream._secrets import Secrets
from rxstream.errors import ConfigurationError, ConnectError, Disconnected, RxstreamError

__all__ = ["TransportError", "not_connected", "torn"]

_E = TypeVar("_E", bound=RxstreamError)
_REFUSED = frozenset({"InvalidURL", "UnsupportedProtocol", "OpenAIError", "AnthropicError"})
"""Exceptions, wherever in the chain, by which a library says that it was asked for something that cannot be."""


class TransportError(Exception):
    """What the HTTP library raised, and what that came from, as text."""


def not_connected(exc: Exception, *, host: str, secrets: Secrets) -> RxstreamError:
    """The error for an exception from before the response headers."""
    chain = list(_chain(exc))
    what = secrets.strike(_root(chain))
    if any(map(_is_refusal, chain)) or isinstance(exc, (TypeError, ValueError, AttributeError, LookupError, Warning)):
        return _caused(ConfigurationError(f"the request cannot be sent to {host}: {what}"), chain, secrets)
    return _caused(ConnectError(f"no connection to {host}: {what}"), chain, secrets)


def torn(exc: Exception, *, host: str, secrets: Secrets) -> Disconnected:
    """The error for an exception in the middle of the body."""
    chain = list(_chain(exc))
    return _caused(Disconnected(f"{host} broke the connection: {secrets.strike(_root(chain))}"), chain, secrets)


def _caused(error: _E, chain: list[Exception], secrets: Secrets) -> _E:
    text = " <- ".join(f"{type(link).__module__}.{_words(link)}" for link in chain)
    error.__cause__ = TransportError(secrets.strike(text))
    return error


def _chain(exc: Exception) -> Iterator[Exception]:
    """The exception, then what each came from; a timeout comes from nothing (Python shows its own cancelling there)."""
    seen: set[int] = set()
    link: BaseException | None = exc
    while isinstance(link, Exception) and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _is_refusal(exc: Exception) -> bool:
    return type(exc).__name__ in _REFUSED or "Illegal header" in str(exc)


def _root(chain: list[Exception]) -> str:
    """What went wrong first, as far as it has words."""
    return _words(next((link for link in reversed(chain) if str(link)), chain[-1]))


def _words(exc: Exception) -> str:
    """In one line; without the number 400, which aiohttp writes before a body that it cannot read, whatever the answer's was."""
    words = " ".join(str(exc).removeprefix("400, message:").split())
    return f"{type(exc).__name__}: {words}" if words else type(exc).__name__
