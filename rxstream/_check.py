"""What an operator is built with: checked at once, and refused by the parameter's name.

An operator must fail where it is written, not when the first event comes. (`rxstream._input` does the same for requests, with
pydantic, whose import operators do not wait for.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rxstream.errors import ConfigurationError

__all__ = [
    "at_least",
    "at_least_one",
    "at_most_one",
    "count",
    "exactly_one",
    "finite",
    "flag",
    "function",
    "instance",
    "kind_of",
    "one_of",
    "positive",
    "show",
    "with_article",
]

_SHOWN = 24
"""Characters of a string that a refusal repeats whole; keys are longer."""

_MOST = sys.float_info.max
"""Larger than this is only infinity, or a whole number that no clock can count."""


def show(value: object) -> str:
    """`value` as a refusal shows it: a long string may be a prompt or a key, and a ``repr`` of somebody's may do anything."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"a string of {len(value)} characters"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else kind_of(value)


def kind_of(value: object) -> str:
    """What `value` is, in words: "an int"."""
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """The name of a class in a sentence."""
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def count(name: str, value: int, *, least: int = 1) -> int:
    """`value`, a whole number of at least `least`.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= sys.maxsize:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name}={show(value)}: must be a whole number of at least {least}")
    return value


def finite(name: str, value: float) -> float:
    """`value`, a number that is neither infinite nor NaN.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST <= value <= _MOST:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name}={show(value)}: must be a finite number")
    return value


def at_least(name: str, value: float, least: float = 0.0) -> float:
    """`value`, a finite number of at least `least`.

    Raises:
        ConfigurationError: it is none.
    """
    if finite(name, value) < least:
        raise ConfigurationError(f"{name}={show(value)}: must be at least {least:g}")
    return value


def positive(name: str, value: float) -> float:
    """`value`, a finite number greater than 0.

    Raises:
        ConfigurationError: it is none.
    """
    if finite(name, value) <= 0:
        raise ConfigurationError(f"{name}={show(value)}: must be greater than 0")
    return value


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """`value`, one of the `allowed` words.

    Raises:
        ConfigurationError: it is none.
    """
    words = tuple(allowed)
    if value not in words:
        raise ConfigurationError(f"{name}={show(value)}: must be one of {', '.join(words)}")
    return value


def function(name: str, value: object) -> None:
    """`value` can be called.

    Raises:
        ConfigurationError: it cannot.
    """
    if not callable(value):
        raise ConfigurationError(f"{name}={show(value)}: must be a function")


def flag(name: str, value: object) -> None:
    """`value` is True or False.

    Raises:
        ConfigurationError: it is neither: what only counts as one may well be meant as the other.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={show(value)}: must be True or False")


def instance(name: str, value: object, kind: type) -> None:
    """`value` is a `kind`, or None.

    Raises:
        ConfigurationError: it is neither.
    """
    if value is not None and not isinstance(value, kind):
        article = "an" if kind.__name__.startswith(tuple("AEIOU")) else "a"
        raise ConfigurationError(f"{name}={show(value)}: must be {article} {kind.__name__}")


def at_least_one(**options: object) -> None:
    """Of these options, at least one was given (is not None).

    Raises:
        ConfigurationError: none was.
    """
    if all(value is None for value in options.values()):
        raise ConfigurationError(f"give one at least of {', '.join(f'{name}=' for name in options)}")


def at_most_one(**options: object) -> None:
    """Of these options, at most one was given (is not None).

    Raises:
        ConfigurationError: several were.
    """
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigurationError(f"give {' or '.join(f'{name}=' for name in given)}, not both")


def exactly_one(**options: object) -> None:
    """Of these options, exactly one was given (is not None).

    Raises:
        ConfigurationError: none was, or several were.
    """
    at_most_one(**options)
    if all(value is None for value in options.values()):
        raise ConfigurationError(f"give one of {', '.join(f'{name}=' for name in options)}")
