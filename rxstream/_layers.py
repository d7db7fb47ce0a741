"""Settings in layers: what each layer says, what they say together, and where one that does not fit stands.

Rules of this module:

* A layer goes over those below it value by value, not as a whole. Two things belong together, so that one who changes the first
  need not know what was below: what an ``on_error`` says goes with its action, and a ``buffer`` with its ``backpressure``.
* Where each value came from is known afterwards.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeAlias

from rxstream._input import Input, is_mapping
from rxstream.errors import ConfigurationError
from rxstream.policy import ErrorPolicy, Retry
from rxstream.profiles import profile as profile_of
from rxstream.provider_options import provider_name

__all__ = [
    "BY_PROVIDER",
    "SHORT",
    "Layer",
    "Values",
    "Way",
    "leaves",
    "merged",
    "placed",
    "spelt_out",
    "understood",
    "with_profile",
]

SHORT: Final = {"timeouts": "total", "on_error": "action"}
"""Fields that a single value may stand for, and which of their own fields that is."""
BY_PROVIDER: Final = ("provider_options", "api_keys")
"""Fields in which there is something for each provider."""
_DEEPEST: Final = 100
"""Dicts in each other: more are not taken."""

Values: TypeAlias = dict[str, Any]
Way: TypeAlias = tuple[str, ...]
"""The names on the way to a value."""


class Layer(NamedTuple):
    """Settings that have one origin."""

    origin: str
    values: Mapping[str, Any]
    find: Callable[[Way], str | None] | None = None
    """Where in it the value stands that has this way."""

    def place(self, way: Way) -> str:
        """Where that value stands, as a message says it."""
        return (self.find and self.find(way)) or self.origin


def spelt_out(values: Mapping[str, Any]) -> Values:
    """`values` as dicts in dicts: of a model the fields that were set, of a shorthand what it stands for, providers by their names.

    Raises:
        ConfigurationError: a value is nested too deeply, or a provider is not known.
    """
    plain: Values = {}
    for name, value in values.items():
        try:
            plain[name] = _plain(value)
        except RecursionError:
            raise ConfigurationError(f"{name}: is nested too deeply") from None
    if isinstance(policy := values.get("on_error"), Retry):
        plain["on_error"] = _plain(ErrorPolicy.of(policy))
    for name, field in SHORT.items():
        value = plain.get(name)
        if isinstance(value, (str, int, float)) and value != "off":
            plain[name] = {field: value}
    for name in BY_PROVIDER:
        if is_mapping(plain.get(name)):
            plain[name] = {provider_name(str(key)): value for key, value in plain[name].items()}
    return plain


def understood(values: Mapping[str, Any]) -> Values:
    """What somebody has written down, as fields take it: `spelt_out`, and without what is said to be off.

    Raises:
        ConfigurationError: a provider is not known, an ``on_error`` does not fit together, or a ``retry`` stands beside it.
    """
    if "retry" in values:
        raise ConfigurationError("retry: is part of on_error: {'action': 'retry', 'retry': {…}}")
    plain = {name: value if name in BY_PROVIDER else _off(value) for name, value in spelt_out(values).items()}
    for name in set(BY_PROVIDER) & plain.keys():  # None takes a provider out
        given: Any = {} if plain[name] in (None, "off") else plain[name]
        plain[name] = {key: it for key, it in given.items() if it not in (None, "off")} if is_mapping(given) else given
    if is_mapping(policy := plain.get("on_error")):
        ErrorPolicy.of(policy)  # which knows best what is wrong with one
    return plain


def _off(value: Any) -> Any:
    """`value` with None in place of ``"off"``, the word for it of files and variables."""
    if is_mapping(value):
        return {name: _off(each) for name, each in value.items()}
    return None if isinstance(value, str) and value == "off" else value


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, Input):
        extra: Mapping[str, Any] = value.model_extra or {}
        return {name: _plain(extra.get(name, getattr(value, name))) for name in sorted(value.model_fields_set)}
    return {str(name): _plain(each, depth + 1) for name, each in value.items()} if is_mapping(value) else value


def merged(layers: Sequence[Layer]) -> tuple[Values, dict[str, str]]:
    """What the layers say together, the last over all others, and the origin of each value by its path."""
    values: Values = {}
    origins: dict[str, str] = {}
    for layer in layers:
        over = spelt_out(layer.values)
        _part(values, over)
        _lay(values, over)
        for path, _ in leaves(over):
            origins[path] = layer.origin
    left = {path for path, _ in leaves(values)}
    return values, {path: origin for path, origin in origins.items() if path in left}


def _part(values: Values, over: Mapping[str, Any]) -> None:
    """Take out of `values` what belongs to something that `over` replaces."""
    before, after = values.get("on_error"), over.get("on_error")
    if is_mapping(before) and is_mapping(after) and _differs(before, after, "action"):
        del values["on_error"]
    if _differs(values, over, "backpressure"):
        values.pop("buffer", None)
        values.pop("buffer_unit", None)


def _differs(below: Mapping[str, Any], over: Mapping[str, Any], name: str) -> bool:
    """Whether both say something of `name`, and not the same."""
    return name in below and name in over and below[name] != over[name]


def _lay(values: Values, over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if is_mapping(value):
            below = values.get(name)
            values[name] = dict(below) if is_mapping(below) else {}
            _lay(values[name], value)
        else:
            values[name] = value


def leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, with its path; an empty mapping is one, too."""
    return ((".".join(map(str, way)), value) for way, value in _ways(values))


def _ways(values: Mapping[str, Any], before: Way = ()) -> Iterator[tuple[Way, Any]]:
    for name, value in values.items():
        if is_mapping(value) and value and len(before) < _DEEPEST:
            yield from _ways(value, (*before, name))
        else:
            yield (*before, name), value


def with_profile(profile: str | None, layers: Sequence[Layer]) -> list[Layer]:
    """`layers` over the profile that was named last: by the argument `profile`, else by the last of them that names one.

    Raises:
        ConfigurationError: there is none of this name; the message says where it was named.
    """
    plain = [Layer(each.origin, {n: v for n, v in each.values.items() if n != "profile"}, each.find) for each in layers]
    for layer in (Layer("argument", {"profile": profile}), *reversed(layers)):
        name = layer.values.get("profile")
        if name == "off":
            break
        if name is not None:
            try:
                return [Layer(f"profile {name}", profile_of(name).values), *plain]
            except ConfigurationError as error:
                raise ConfigurationError(f"{layer.place(('profile',))}: {error}") from None
    return plain


# --- what is wrong with them -------------------------------------------------------------------------------------------


def placed(layers: Sequence[Layer], fault: str, check: Callable[[Values], object]) -> str:
    """`fault`, which `check` finds with all of `layers` together, with the place where each line of it begins.

    That is the value of which `check` says it alone; or else that with which it says it of all before, and without which it does not.
    What it says of no value at all, such as that one is missing, has no place.
    """
    stand = [(layer, way, value) for layer in layers for way, value in _ways(layer.values)]

    def faults(said: Sequence[Layer]) -> Sequence[str]:
        try:
            check(merged(said)[0])
        except ConfigurationError as error:
            return str(error).split("\n")
        return ()

    missing = faults(())
    alone = {line: each for each in stand for line in faults([_some([each])])}

    def begins(line: str) -> str:
        def there(count: int) -> bool:
            return line in faults([_some(part) for _, part in groupby(stand[:count], lambda each: each[0].origin)])

        layer, way, _ = alone.get(line) or stand[bisect_left(range(1, len(stand)), True, key=there)]
        return layer.place(way)

    return "\n".join(line if line in missing else f"{begins(line)}: {line}" for line in fault.split("\n"))


def _some(stand: Iterable[tuple[Layer, Way, Any]]) -> Layer:
    """A layer of only these values of one."""
    values: Values = {}
    for _, way, value in stand:
        place = values
        for step in way[:-1]:
            place = place.setdefault(step, {})
        place[way[-1]] = value
    return Layer("", values)
