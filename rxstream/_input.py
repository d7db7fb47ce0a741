"""What a user types in: checked before anything is sent, and refused in words that a person can act on.

A message of refusal names the argument, says what is allowed and what was given. It never repeats a long string, which
may be a prompt or a key.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import pydantic
from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, model_validator

from rxstream._check import show, with_article
from rxstream.errors import ConfigurationError

__all__ = ["Input", "check_json", "hint", "is_list", "is_mapping", "json_schema", "refusal"]

_WORDS = {
    "missing": "is missing",
    "too_short": "must have at least {min_length} item",
    "model_type": "must be a dict or {a_class}",
    "model_attributes_type": "must be a string or a dict",
    "dict_type": "must be a dict",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "sequence_str": "must be a list",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be True or False",
    "bool_parsing": "must be True or False",
    "union_tag_invalid": "type: must be one of {expected_tags}",
    "union_tag_not_found": "type is missing: it says what kind of part it is",
}
"""Pydantic's kinds of faults, in fewer words than it has for them."""

_SECRET = ("extra_headers", "api_key")
"""Arguments whose value no refusal repeats."""


class Input(BaseModel):
    """Base of all that a user types in: frozen, and a misspelt key is an error rather than lost in silence.

    Raises:
        ConfigurationError: a field is missing, is not known or has a wrong value; the message says which, and why.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,  # to the first use: importing must stay cheap
    )

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigurationError(refusal(error, type(self).__name__.lower())) from None

    # pydantic need not call it for a part of a whole, whose faults it gathers with their places.
    __init__.__dict__["__pydantic_base_init__"] = True

    if not TYPE_CHECKING:  # which know that it is frozen

        def __setattr__(self, name: str, value: object) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError as error:  # it repeats the value, whatever is to be hidden
                fault = {"type": "frozen_instance", "loc": (name,), "input": None}
                raise ValidationError.from_exception_data(error.title, [fault], hide_input=True) from None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if is_mapping(data):
            for key in data:
                if key not in cls.model_fields:
                    what = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()
                    raise ValueError(f"unknown key {show(key)} in {what}{hint(str(key), cls.model_fields)}")
        return data

    @classmethod
    def checked(cls, data: Any, *, named: str = "") -> Self:
        """An instance made of `data`, a mapping or an instance, which the argument `named` gave.

        Raises:
            ConfigurationError: it does not fit; the message says where and why.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigurationError(refusal(error, named or cls.__name__.lower(), within=named)) from None


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether `value` is a mapping, which from a user can only be one of names to values."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether `value` is a list, or gives items in another way, but is no string and no mapping."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def json_schema(given: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type, or of the arguments of a function.

    Raises:
        ConfigurationError: it has none.
    """
    try:
        return pydantic.TypeAdapter(given).json_schema()  # loaded when first used: it costs 30 ms
    except (PydanticUserError, NameError) as error:
        raise ConfigurationError(f"{name} has no JSON schema: {str(error).partition('. ')[0]}") from None


def hint(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown `word`: the nearest of the `known`, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed: {', '.join(names)}"


def check_json(value: object, where: str) -> None:
    """JSON can say `value`, which stands at `where`.

    Raises:
        ValueError: it cannot.
    """
    try:
        json.dumps(value, default=_fields, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"{where}: has what JSON cannot say, such as half a surrogate pair in a text") from None


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, Input):
        raise TypeError
    return dict(value)


def refusal(error: ValidationError, what: str, *, within: str = "") -> str:
    """What pydantic found wrong with `what`, a line for each fault; the fields are told as those `within` an argument."""
    return "\n".join(_fault(fault, what, within) for fault in error.errors(include_url=False))


def _fault(fault: Any, what: str, within: str) -> str:
    kind, steps, given = fault["type"], [within, *_steps(fault["loc"])], fault["input"]
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps if step != "").lstrip(".")
    if kind == "value_error":  # raised by a validator of ours: it says all there is to say
        return f"{where}: {fault['ctx']['error']}".removeprefix(": ")
    known = fault.get("ctx", {})
    text = (
        _WORDS[kind].format_map({**known, "a_class": with_article(known.get("class_name", "class"))})
        if kind in _WORDS
        else re.sub(r"^\w+ should", "must", fault["msg"])
    )
    if kind == "union_tag_invalid":
        nearest = hint(fault["ctx"]["tag"], re.findall(r"'(\w+)'", fault["ctx"]["expected_tags"]))
        text += f", not {show(fault['ctx']['tag'])}{nearest if 'mean' in nearest else ''}"
    elif kind != "missing" and isinstance(given, (str, int, float, type(None))) and not where.startswith(_SECRET):
        text += f", not {show(given)}"
    return f"{where or what}: {text}"


def _steps(steps: Sequence[int | str]) -> Iterator[int | str]:
    """The way to what is wrong, without pydantic's own: the kind of a part, which its number says, and that it is a key."""
    for number, step in enumerate(steps):
        is_kind = number > 1 and isinstance(steps[number - 1], int) and steps[number - 2] == "content"
        if step != "[key]" and not is_kind:
            yield step
