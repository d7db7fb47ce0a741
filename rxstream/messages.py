"""Messages: one format in, for every provider, and what an answer is made of.

A prompt is a string, a `Message`, a dict of the same shape, or a list of these. `content` is a string or a list of
parts; strings are accepted for text parts. Unknown keys are refused: a misspelt one would otherwise be lost in silence.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

from pydantic import Field, field_validator, model_validator

from rxstream._check import kind_of, show
from rxstream._input import Input, is_mapping, json_schema
from rxstream.errors import ConfigurationError

__all__ = [
    "ImagePart",
    "Message",
    "OpaquePart",
    "Part",
    "RefusalPart",
    "Role",
    "TextPart",
    "ThinkingPart",
    "Tool",
    "ToolCall",
    "ToolLike",
    "ToolResult",
]

Role = Literal["system", "user", "assistant", "tool"]


class TextPart(Input):
    """Text."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Input):
    """An image, by `url` or by `data` (base64) with its `media_type`; a ``data:`` URL is taken apart into these."""

    type: Literal["image"] = "image"
    url: str | None = None
    data: str | None = None
    media_type: str = "image/png"

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, given: Any) -> Any:
        url = given.get("url") if is_mapping(given) else None
        if not (isinstance(url, str) and url.startswith("data:") and ";base64," in url):
            return given
        head, _, data = url.partition(";base64,")
        media_type = head.removeprefix("data:").partition(";")[0]
        return {"data": data, **({"media_type": media_type} if media_type else {})}

    @model_validator(mode="after")
    def _one_of_two(self) -> ImagePart:
        if (self.url is None) == (self.data is None):
            raise ValueError("an image needs either url= or data= (base64)")
        return self

    @property
    def link(self) -> str:
        """The URL, or the data as a ``data:`` URL."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.data}"


class ThinkingPart(Input):
    """Reasoning of an earlier turn, with the blob that the provider wants back."""

    type: Literal["thinking"] = "thinking"
    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    """Anthropic's redacted thinking, in place of text."""
    encrypted: str | None = None
    """OpenAI's encrypted reasoning."""
    id: str = ""


class RefusalPart(Input):
    """Text with which the model declined to answer."""

    type: Literal["refusal"] = "refusal"
    text: str


class ToolCall(Input):
    """A call of one of your tools."""

    type: Literal["tool_call"] = "tool_call"
    id: str = ""
    name: str
    arguments: str = ""
    """What the model wrote: JSON text for a function, free text for a custom tool. A dict is accepted on the way in."""
    kind: Literal["function", "custom"] = "function"
    complete: bool = True
    """False where the stream ended, or hit its token limit, inside the call: never run such a call."""

    if TYPE_CHECKING:  # what is accepted is wider than what is kept

        def __init__(
            self,
            *,
            type: Literal["tool_call"] = ...,  # noqa: A002  # the tag's name
            name: str,
            id: str = ...,  # noqa: A002  # as the providers call it
            arguments: str | Mapping[str, Any] = ...,
            kind: Literal["function", "custom"] = ...,
            complete: bool = ...,
        ) -> None: ...

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        try:
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except (TypeError, RecursionError):
            raise ValueError("arguments must be JSON text, or a dict of what JSON can say") from None

    def parse(self) -> Any:
        """The arguments as Python values; ``{}`` where the model wrote nothing.

        Raises:
            ValueError: the text is not JSON (`json.JSONDecodeError`).
        """
        try:
            return json.loads(self.arguments) if self.arguments.strip() else {}
        except RecursionError:
            raise ValueError("the arguments are nested too deep") from None


class ToolResult(Input):
    """What your tool gave, for the call `id`."""

    type: Literal["tool_result"] = "tool_result"
    id: str
    content: str = ""
    is_error: bool = False


class OpaquePart(Input):
    """Something of one provider that has no place in the common format; sent back to that provider as it is."""

    type: Literal["opaque"] = "opaque"
    provider: str
    payload: dict[str, Any]


Part = Annotated[
    TextPart | ImagePart | ThinkingPart | RefusalPart | ToolCall | ToolResult | OpaquePart, Field(discriminator="type")
]


class Message(Input):
    """One turn of the conversation."""

    role: Role
    content: list[Part]

    if TYPE_CHECKING:  # what is accepted is wider than what is kept

        def __init__(self, *, role: Role, content: str | Sequence[Part | str | Mapping[str, Any]]) -> None: ...

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        if isinstance(value, (list, tuple)):
            return [
                {"type": "text", "text": item} if isinstance(item, str) else item for item in cast("list[Any]", value)
            ]
        return value

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(Input):
    """A function that the model may call, or a tool that the provider runs itself (`native`)."""

    name: str = Field(min_length=1)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments."""
    strict: bool | None = None
    """Ask the provider to hold the model to the schema, where it can."""
    native: dict[str, Any] | None = None
    """The provider's own JSON for the tool (web search, code execution …): sent as it is, in place of all the rest."""

    @classmethod
    def of(cls, given: ToolLike) -> Tool:
        """A tool from whatever describes one.

        Args:
            given: A `Tool`; a dict in our shape, in that of either OpenAI API or in Anthropic's (any other ``type`` is
                the provider's own tool and becomes `native`); a Python function, whose type hints and docstring
                describe it; or a pydantic model, a dataclass or a `TypedDict`, whose fields are the arguments.

        Raises:
            ConfigurationError: it is none of these, or its arguments have no JSON schema.
        """
        if isinstance(given, Tool):
            return given
        if is_mapping(given):
            return cls.checked(_tool_fields(given))
        if callable(given):
            return cls.checked(_describe(given))
        raise ConfigurationError(f"a tool is a Tool, a dict, a function or a model class, not {show(given)}")


ToolLike: TypeAlias = Tool | Mapping[str, Any] | Callable[..., Any]
"""What `Tool.of` makes a tool of."""


def _tool_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    kind, function = given.get("type"), given.get("function")
    if kind == "function" and is_mapping(function):  # Chat Completions
        return dict(function)
    if kind not in {None, "function"} and "input_schema" not in given:
        return {"name": given.get("name") or kind, "native": dict(given)}
    fields = {key: value for key, value in given.items() if key != "type"}
    if "input_schema" in fields:  # Anthropic
        fields["parameters"] = fields.pop("input_schema")
    return fields


def _describe(given: Callable[..., Any]) -> dict[str, Any]:
    name = getattr(given, "__name__", "")
    if not name.isidentifier():
        raise ConfigurationError(f"a tool made of {kind_of(given)} needs a name: use a function made with def")
    schema = json_schema(given, name)
    if schema.get("type") != "object":
        raise ConfigurationError(f"the arguments of {name} must be such as can be given by name")
    schema.pop("title", None)
    described = schema.pop("description", "")
    return {
        "name": name,
        "description": described if inspect.isclass(given) else inspect.getdoc(given) or "",
        "parameters": schema,
    }
