"""``of_type``: only the items of some type, and the type checker knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from reactivex import Observable
from reactivex import operators as ops

from rxstream.errors import ConfigurationError

__all__ = ["of_type"]

T = TypeVar("T")


def of_type(kind: type[T]) -> Callable[[Observable[object]], Observable[T]]:
    """Let pass what is an instance of `kind`.

    ::

        source:  --a--1--b--2--|
             of_type(int)
        result:  -----1-----2--|

    RxPY's ``filter`` does the same, but leaves the type of the items as it was.

    Example:
        >>> import reactivex as rx
        >>> from reactivex import operators as ops
        >>> rx.of("a", 1, "b", 2).pipe(of_type(int), ops.to_list()).run()
        [1, 2]

    Args:
        kind: A class, such as `rxstream.events.TextDelta`.

    Raises:
        ConfigurationError: `kind` is no class.
    """
    try:
        isinstance(None, cast("type", kind))
    except TypeError:
        raise ConfigurationError(f"kind={kind!r}: must be a class") from None

    def keep(item: object) -> bool:
        return isinstance(item, kind)

    return cast("Callable[[Observable[object]], Observable[T]]", ops.filter(keep))
