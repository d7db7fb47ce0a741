"""What is common to the options of all providers: how they are checked, and the kinds of fields that they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from rxstream._check import show
from rxstream._fixed import fixed, plain
from rxstream._input import Input, check_json, hint, is_mapping

__all__ = [
    "OURS",
    "Count",
    "Few",
    "Flag",
    "Number",
    "Object",
    "Penalty",
    "Positive",
    "ProviderOptions",
    "Sampling",
    "Share",
    "Text",
    "Whole",
    "Words",
]

Flag: TypeAlias = Annotated[bool, Field(strict=True)] | None
Number: TypeAlias = Annotated[float, Field(strict=True)] | None
Positive: TypeAlias = Annotated[float, Field(gt=0, strict=True)] | None
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)] | None
Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2, strict=True)] | None
Count: TypeAlias = Annotated[int, Field(ge=0, strict=True)] | None
Whole: TypeAlias = Annotated[int, Field(strict=True)] | None
Text: TypeAlias = str | None
Object: TypeAlias = dict[str, Any] | None
Words: TypeAlias = list[str] | None
Few: TypeAlias = Annotated[int, Field(ge=0, le=20, strict=True)] | None

OURS: Final = {
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "stop_sequences": "stop",
    "seed": "seed",
    "random_seed": "seed",
    "n": "n",
    "system": "system",
    "instructions": "system",
    "tools": "tools",
    "functions": "tools",
    "tool_choice": "tool_choice",
    "function_call": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning_effort": "reasoning",
    "response_format": "response_format",
    "model": "target",
    "messages": "prompt",
    "input": "prompt",
}
"""A provider's word for what `rxstream.stream` has an argument for."""


class ProviderOptions(Input):
    """Base of the options: fields of one provider's request body."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for name in data if is_mapping(data) else ():
            if name == "stream":
                raise ValueError("stream: is always true here")
            if name in cls.model_fields:
                continue
            if name in OURS:
                raise ValueError(f"{name}: is the argument {OURS[name]}= of stream()")
            if cls.model_config.get("extra") != "allow":
                near = hint(str(name), cls.model_fields)
                other = "" if "mean" in near else "; extra= of stream() takes any"
                raise ValueError(f"unknown option {show(name)}{near}{other}")
        return {name: value for name, value in data.items() if value is not None} if is_mapping(data) else data

    @model_validator(mode="after")
    def _is_json(self) -> ProviderOptions:
        held: Any
        for held in (self.__dict__, self.__pydantic_extra__ or {}):
            held.update({name: fixed(value) for name, value in held.items()})
        check_json(self.body(), type(self).__name__)
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

    def body(self) -> dict[str, Any]:
        """What goes into the body of the request: the fields that were set, in a dict of your own."""
        held = self.__dict__ | (self.__pydantic_extra__ or {})  # by name: as attributes, our methods come first
        return {name: plain(held[name]) for name in sorted(self.model_fields_set)}

    def __repr_args__(self) -> Iterable[tuple[str, Any]]:
        return self.body().items()


class Sampling(ProviderOptions):
    """What all who speak Chat Completions know."""

    frequency_penalty: Penalty = None
    logit_bias: dict[str, float] | None = None
    logprobs: Flag = None
    presence_penalty: Penalty = None
    stream_options: Object = None
    top_logprobs: Few = None
    user: Text = None
