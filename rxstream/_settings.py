"""Settings in files and in the environment: read by pydantic-settings, and written as TOML.

Rules of this module:

* pydantic-settings is loaded here, when it is needed, and nowhere else.
* What is read knows where each value stands: the line of the file, the variable. Looking there is put off until something is wrong.
"""

from __future__ import annotations

import json
import tomllib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import create_model

from rxstream._input import is_list, is_mapping
from rxstream._layers import BY_PROVIDER, SHORT, Layer, Way
from rxstream._log import facts, log
from rxstream.errors import ConfigurationError, MissingDependency

__all__ = ["PREFIX", "read_environment", "read_toml", "table", "to_toml"]

PREFIX: Final = "RXSTREAM_"
_APART: Final = "__"
_KEYS: Final = f"{PREFIX}API_KEYS{_APART}"
_MARK: Final = "\0"
"""What no value of a variable begins with: it stands for one whose name follows."""
_NESTED: Final = (*SHORT, "limits", "rate_limits", *BY_PROVIDER)
"""Fields that have fields of their own."""
_OTHERS: Final = ("LOCAL_MODEL", "CERTIFY_", "RECORDINGS", "LONG", "LAW_EXAMPLES")
"""How the names of our variables begin that are no settings: the local model's file, `rxstream.testing.certify`, our own tests."""
_NEAR: Final = 0.7
"""So much a variable of the environment looks like one of ours that it is a slip: others may have our prefix, too."""
_WIDEST: Final = 32
"""Characters of a cell that is kept in its column, so that a table fits into a terminal of 80."""
_LONGEST: Final = 100
"""Lines of one value in a file: where a longer one stands is not looked for."""


def read_toml(path: Path) -> Layer:
    """The settings in a TOML file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
        MissingDependency: pydantic-settings is not installed.
    """
    package = _package()
    try:
        source = package.TomlConfigSettingsSource(package.BaseSettings, toml_file=path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        marked = isinstance(error, tomllib.TOMLDecodeError) and path.read_bytes().startswith(BOM_UTF8)
        why = "it begins with a byte order mark; save it as UTF-8 without one" if marked else error
        raise ConfigurationError(f"{path.name}: cannot be read: {why}") from None
    except RecursionError:
        raise ConfigurationError(f"{path.name}: cannot be read: it is nested too deeply") from None
    return Layer(path.name, dict(source.toml_data), partial(_line_of, path))


def _line_of(path: Path, way: Way) -> str | None:
    """The line of a TOML file in which the statement begins that says the value with this way."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):  # it was there a moment ago
        return None
    table, first = "", 0
    for last in range(len(lines)):
        statement = "\n".join(lines[first : last + 1])
        try:
            said: Any = tomllib.loads(table + statement)
        except tomllib.TOMLDecodeError:
            if last - first > _LONGEST:
                return None
            continue  # it goes on in the next line
        for step in way:
            said = said.get(step) if is_mapping(said) else None
        if said is not None:
            return f"{path.name}, line {first + 1}"
        if statement.lstrip().startswith("["):
            table = statement + "\n"
        first = last + 1
    return None


def read_environment(fields: Collection[str], env: Mapping[str, str]) -> Layer:
    """What the variables ``RXSTREAM_…`` say about `fields`; ``__`` stands between a field and one of its own.

    A value is read as JSON where it is some, else as a string. A variable of one value goes over what another says of it in a JSON
    object. One that is none of ours is told to the log.

    Raises:
        ConfigurationError: a variable looks like one of these, but is none; two say the same; or a value is nested too deeply.
        MissingDependency: pydantic-settings is not installed.
    """
    package = _package()
    named: dict[str, str] = {}
    for name, value in env.items():
        upper = name.upper()
        if value and upper.startswith(PREFIX) and named.setdefault(upper, value) != value:
            raise ConfigurationError(f"{upper}: is said twice, in capitals and otherwise; take one of them out")
    _check_names(named, fields)
    _check_twice(named)
    marked = {name: value if _is_whole(name, value) else f"{_MARK}{name}" for name, value in named.items()}
    for field, short in SHORT.items():
        name = f"{PREFIX}{field.upper()}"
        if marked.get(name, "").startswith(_MARK):
            marked[f"{name}{_APART}{short.upper()}"] = marked.pop(name)
    nested: Any = dict[str, Any] | str
    described: Any = dict.fromkeys(fields, (nested, None))
    made = create_model("Settings", __base__=package.BaseSettings, **described)
    source: Any = _reader(package, marked)(made, env_prefix=PREFIX, env_nested_delimiter=_APART)
    return Layer("environment", _unmarked(source(), named), partial(_variable_of, frozenset(named)))


def _is_whole(name: str, value: str) -> bool:
    """Whether the variable says a field as one JSON object, which others may add to, or go over. pydantic-settings reads that."""
    return _APART not in name and value.lstrip().startswith("{")


def _unmarked(read: Any, named: Mapping[str, str]) -> Any:
    """`read`, with what the variables say in place of their marks: each is read once, and what is within JSON not again."""
    if is_mapping(read):
        return {name: _unmarked(each, named) for name, each in read.items()}
    name = read.removeprefix(_MARK) if isinstance(read, str) and read.startswith(_MARK) else ""
    if name not in named:
        return read
    return named[name] if name.startswith(_KEYS) else _word(named[name])


def _variable_of(named: Collection[str], way: Way) -> str | None:
    """The variable that says the value with this way."""
    names = (PREFIX + _APART.join(way[:length]).upper() for length in range(len(way), 0, -1))
    return next((name for name in names if name in named), None)


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
            return {name.lower(): value for name, value in env.items()}

    return Reader


def _check_names(named: Mapping[str, str], fields: Collection[str]) -> None:
    strange: list[str] = []
    for name, value in named.items():
        field = name[len(PREFIX) :].partition(_APART)[0].lower()
        if field in fields:
            try:
                _word(value)
            except RecursionError:
                raise ConfigurationError(f"{name}: is nested too deeply") from None
        elif near := _nearest(field, fields):
            right = name.replace(field.upper(), near.upper(), 1)
            raise ConfigurationError(f"{name}: there is no such variable; did you mean {right}?")
        elif not name.removeprefix(PREFIX).startswith(_OTHERS):
            strange.append(name)
    if strange:
        names = ", ".join(sorted(strange))
        log.warning("no setting is called %s", names, extra=facts("variables-unknown", variables=names))


def _check_twice(named: Mapping[str, str]) -> None:
    for name, value in named.items():
        if _is_whole(name, value):
            continue
        short, below = SHORT.get(name.removeprefix(PREFIX).lower()), f"{name}{_APART}"
        for other in named:
            if other == below + short.upper() if short else other.startswith(below):
                raise ConfigurationError(f"{other}: {name} says it, too; take one of them out")


def _nearest(field: str, fields: Collection[str]) -> str | None:
    """What somebody meant who wrote `field`: one of the `fields`, or of their own, before which one ``_`` is too few."""
    if field == "retry":
        return f"on_error{_APART}retry"
    for name in _NESTED:
        if field.startswith(f"{name}_"):
            return f"{name}{_APART}{field.removeprefix(name + '_')}"
    return next(iter(get_close_matches(field, fields, n=1, cutoff=_NEAR)), None)


def _word(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


# --- writing ----------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> str:
    """`rows` as lines, their columns under each other; only a long cell, and what follows it, stands further right."""
    *wide, _ = [max(len(cell) for cell in column if len(cell) <= _WIDEST) for column in zip(*rows, strict=True)]
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
