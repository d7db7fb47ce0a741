"""Messages: one format in, for every provider, and what an answer is made of.

A prompt is a string, a `Message`, a dict of the same shape, or a list of these. `content` is a string or a list of
parts; strings are accepted for text parts. Unknown keys are refused: a misspelt one would otherwise be lost in silence.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
    "ToolResult",
]

Role = Literal["system", "user", "assistant", "tool"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Model):
    """Text."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(_Model):
    """An image, by `url` or by `data` (base64) with its `media_type`."""

    type: Literal["image"] = "image"
    url: str | None = None
    data: str | None = None
    media_type: str = "image/png"

    @model_validator(mode="after")
    def _one_of_two(self) -> ImagePart:
        if (self.url is None) == (self.data is None):
            raise ValueError("an image needs either url= or data= (base64)")
        return self


class ThinkingPart(_Model):
    """Reasoning of an earlier turn, with the blob that the provider wants back."""

    type: Literal["thinking"] = "thinking"
    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    """Anthropic's redacted thinking, in place of text."""
    encrypted: str | None = None
    """OpenAI's encrypted reasoning."""
    id: str = ""


class RefusalPart(_Model):
    """Text with which the model declined to answer."""

    type: Literal["refusal"] = "refusal"
    text: str


class ToolCall(_Model):
    """A call of one of your tools."""

    type: Literal["tool_call"] = "tool_call"
    id: str = ""
    name: str
    arguments: str = ""
    """What the model wrote: JSON text for a function, free text for a custom tool. A dict is accepted on the way in."""
    kind: Literal["function", "custom"] = "function"
    complete: bool = True
    """False where the stream ended, or hit its token limit, inside the call: never run such a call."""

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def parse(self) -> Any:
        """The arguments as Python values; ``{}`` where the model wrote nothing.

        Raises:
            ValueError: the text is not JSON (`json.JSONDecodeError`).
        """
        return json.loads(self.arguments) if self.arguments.strip() else {}


class ToolResult(_Model):
    """What your tool gave, for the call `id`."""

    type: Literal["tool_result"] = "tool_result"
    id: str
    content: str = ""
    is_error: bool = False


class OpaquePart(_Model):
    """Something of one provider that has no place in the common format; sent back to that provider as it is."""

    type: Literal["opaque"] = "opaque"
    provider: str
    payload: dict[str, Any]


Part = Annotated[
    TextPart | ImagePart | ThinkingPart | RefusalPart | ToolCall | ToolResult | OpaquePart, Field(discriminator="type")
]


class Message(_Model):
    """One turn of the conversation."""

    role: Role
    content: list[Part]

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        if isinstance(value, (list, tuple)):
            return [{"type": "text", "text": item} if isinstance(item, str) else item for item in value]
        return value

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(_Model):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments."""
    strict: bool | None = None
    """Ask the provider to hold the model to the schema, where it can."""
