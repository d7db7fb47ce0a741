"""Settings in layers: what each layer says, and what they say together.

Rules of this module:

* A layer goes over those below it value by value, not as a whole. Two things belong together, so that one who changes the first
  need not know what was below: what an ``on_error`` says goes with its action, and a ``buffer`` with its ``backpressure``.
* Where each value came from is known afterwards.
* Files and the environment are read by pydantic-settings, which is loaded here, when it is needed, and nowhere else.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import create_model

from rxstream._input import Input, is_list, is_mapping
from rxstream.errors import ConfigurationError, MissingDependency
from rxstream.policy import ErrorPolicy, Retry
from rxstream.provider_options import provider_name

__all__ = [
    "PREFIX",
    "Layer",
    "leaves",
    "merged",
    "read_environment",
    "read_toml",
    "spelt_out",
    "table",
    "to_toml",
    "understood",
]

PREFIX: Final = "RXSTREAM_"
_APART: Final = "__"
_SHORT: Final = {"timeouts": "total", "on_error": "action"}
"""Fields that a single value may stand for, and which of their own fields that is."""
_BY_PROVIDER: Final = ("provider_options", "api_keys")
_NEAR: Final = 0.8
"""So much a variable of the environment looks like one of ours that it is a slip: others may have our prefix, too."""

_Values: TypeAlias = dict[str, Any]


class Layer(NamedTuple):
    """Settings that have one origin."""

    origin: str
    values: Mapping[str, Any]


def spelt_out(values: Mapping[str, Any]) -> _Values:
    """`values` as dicts in dicts: of a model the fields that were set, of a shorthand what it stands for, providers by their names."""
    plain: _Values = {name: _plain(value) for name, value in values.items()}
    if isinstance(policy := values.get("on_error"), Retry):
        plain["on_error"] = _plain(ErrorPolicy.of(policy))
    for name, field in _SHORT.items():
        value = plain.get(name)
        if isinstance(value, (str, int, float)) and value != "off":
            plain[name] = {field: value}
    for name in _BY_PROVIDER:
        if is_mapping(plain.get(name)):
            plain[name] = {provider_name(str(key)): value for key, value in plain[name].items()}
    return plain


def understood(values: Mapping[str, Any]) -> _Values:
    """What somebody has written down, as fields take it: `spelt_out`, and without what is said to be off.

    Raises:
        ConfigurationError: a provider is not known, or an ``on_error`` does not fit together.
    """
    plain = spelt_out({name: value if name in _BY_PROVIDER else _off(value) for name, value in values.items()})
    for name in set(_BY_PROVIDER) & plain.keys():  # None takes a provider out
        given: Any = {} if plain[name] is None else plain[name]
        plain[name] = {key: each for key, each in given.items() if each is not None} if is_mapping(given) else given
    if is_mapping(policy := plain.get("on_error")):
        ErrorPolicy.of(policy)  # which knows best what is wrong with one
    return plain


def _off(value: Any) -> Any:
    """`value` with None in place of ``"off"``, the word for it of files and variables."""
    if is_mapping(value):
        return {name: _off(each) for name, each in value.items()}
    return None if isinstance(value, str) and value == "off" else value


def _plain(value: Any) -> Any:
    if isinstance(value, Input):
        extra: Mapping[str, Any] = value.model_extra or {}
        return {name: _plain(extra.get(name, getattr(value, name))) for name in sorted(value.model_fields_set)}
    return {str(name): _plain(each) for name, each in value.items()} if is_mapping(value) else value


def merged(layers: Sequence[Layer]) -> tuple[_Values, dict[str, str]]:
    """What the layers say together, the last over all others, and the origin of each value by its path."""
    values: _Values = {}
    origins: dict[str, str] = {}
    for origin, said in layers:
        over = spelt_out(said)
        _part(values, over)
        _lay(values, over)
        for path, _ in leaves(over):
            origins[path] = origin
    left = {path for path, _ in leaves(values)}
    return values, {path: origin for path, origin in origins.items() if path in left}


def _part(values: _Values, over: Mapping[str, Any]) -> None:
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


def _lay(values: _Values, over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if is_mapping(value):
            below = values.get(name)
            values[name] = dict(below) if is_mapping(below) else {}
            _lay(values[name], value)
        else:
            values[name] = value


def leaves(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, with its path; an empty mapping is one, too."""
    for name, value in values.items():
        if is_mapping(value) and value:
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


# --- where they are read from ------------------------------------------------------------------------------------------


def read_toml(path: Path) -> _Values:
    """The settings in a TOML file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
        MissingDependency: pydantic-settings is not installed.
    """
    package = _package()
    try:
        source = package.TomlConfigSettingsSource(package.BaseSettings, toml_file=path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path.name}: cannot be read: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path.name}: cannot be read: it is nested too deeply") from None
    return dict(source.toml_data)


def read_environment(fields: Collection[str], env: Mapping[str, str]) -> _Values:
    """What the variables ``RXSTREAM_…`` say about `fields`; ``__`` stands between a field and one of its own.

    A value is read as JSON where it is some, else as a string.

    Raises:
        ConfigurationError: a variable looks like one of these, but is none.
        MissingDependency: pydantic-settings is not installed.
    """
    package = _package()
    named = {name.upper(): value for name, value in env.items() if name.upper().startswith(PREFIX)}
    _check_names(named, fields)
    for field, total in _SHORT.items():
        name = f"{PREFIX}{field.upper()}"
        if name in named and not named[name].lstrip().startswith("{"):
            named.setdefault(f"{name}{_APART}{total.upper()}", named.pop(name))
    nested: Any = dict[str, Any] | str
    described: Any = dict.fromkeys(fields, (nested, None))
    made = create_model("Settings", __base__=package.BaseSettings, **described)
    source: Any = _reader(package, named)(made, env_prefix=PREFIX, env_nested_delimiter=_APART, env_ignore_empty=True)
    try:
        read: _Values = source()
    except RecursionError:
        raise ConfigurationError("environment: a value is nested too deeply") from None
    return {name: value if name == "api_keys" else _words(value) for name, value in read.items()}


def _package() -> Any:
    try:
        import pydantic_settings  # noqa: PLC0415 - optional
    except ImportError:
        raise MissingDependency(
            "files and the environment are read by pydantic-settings: pip install 'rxstream[settings]'"
        ) from None
    return pydantic_settings


def _reader(package: Any, env: Mapping[str, str]) -> Callable[..., Any]:
    """pydantic-settings' reader of the environment, of `env` in place of the process's own."""

    class Reader(package.EnvSettingsSource):  # type: ignore[misc]  # a class of a package that may be missing
        def _load_env_vars(self) -> Mapping[str, str]:
            return {name.lower(): value for name, value in env.items() if value}

    return Reader


def _check_names(named: Mapping[str, str], fields: Collection[str]) -> None:
    for name in named:
        field = name[len(PREFIX) :].partition(_APART)[0].lower()
        if field not in fields and (near := get_close_matches(field, fields, n=1, cutoff=_NEAR)):
            right = name.replace(field.upper(), near[0].upper(), 1)
            raise ConfigurationError(f"{name}: there is no such variable; did you mean {right}?")


def _words(value: Any) -> Any:
    if is_mapping(value):
        return {name: _words(each) for name, each in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


# --- and written to ----------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> str:
    """`rows` as lines, their columns under each other."""
    *wide, _ = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=False)), row[-1]]) for row in rows
    )


def to_toml(values: Mapping[str, Any]) -> str:
    """A TOML document of dicts, lists, strings, numbers and bools; None, for which TOML has no word, is ``"off"``.

    Raises:
        ConfigurationError: there is a None in a provider's options, whose words are the provider's.
    """
    if _has_none(values.get("provider_options", ())):
        raise ConfigurationError("provider_options: TOML has no word for the None in them")
    lines: list[str] = []
    _table(values, (), lines)
    return "\n".join(lines) + "\n" if lines else ""


def _has_none(value: Any) -> bool:
    parts: Any = value.values() if is_mapping(value) else value if is_list(value) else ()
    return value is None or any(map(_has_none, parts))


def _table(values: Mapping[str, Any], way: tuple[str, ...], lines: list[str]) -> None:
    plain = {name: value for name, value in values.items() if not is_mapping(value)}
    if way and (plain or not values):
        lines += [*([""] if lines else []), f"[{'.'.join(map(_key, way))}]"]
    lines += [f"{_key(name)} = {_value(value)}" for name, value in plain.items()]
    for name, value in values.items():
        if is_mapping(value):
            _table(value, (*way, name), lines)


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _string(name)


def _value(value: Any) -> str:
    if value is None:
        return '"off"'
    if isinstance(value, str):
        return _string(value)
    if is_mapping(value):
        return "{" + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + "}"
    return "[" + ", ".join(map(_value, value)) + "]" if is_list(value) else json.dumps(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
