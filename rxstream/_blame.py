"""Why a subscription is disposed, for those upstream who tell how it ended: Rx's ``dispose`` takes no reason.

Whoever disposes because of an error from below, a callback's or an operator's, says so for the time of that call alone.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from rxstream.errors import Cancelled, StreamError

__all__ = ["because_of", "blamed", "foreign"]


class _Blame:
    """A box that is emptied when the call is over: copies of the context, as tasks have, outlive it."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error if isinstance(error, Exception) and not isinstance(error, Cancelled) else None


_blame: ContextVar[_Blame | None] = ContextVar("rxstream_blame", default=None)


@contextmanager
def because_of(error: BaseException | None) -> Generator[None]:
    """What is disposed in here is disposed because of `error`; of none, or of a cancellation, for no reason."""
    blame = _Blame(error)
    token = _blame.set(blame)
    try:
        yield
    finally:
        blame.error = None
        _blame.reset(token)


def foreign(error: Exception) -> Exception | None:
    """`error`, unless it is a source's, a `StreamError`: what is left because another source failed has not failed itself."""
    return None if isinstance(error, StreamError) else error


def blamed() -> Exception | None:
    """The error because of which we are being disposed, if any."""
    blame = _blame.get()
    return None if blame is None else blame.error
