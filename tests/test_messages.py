"""Messages, their parts, and tools: what is accepted, what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on only

from rxstream.errors import ConfigurationError
from rxstream.messages import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCall,
    ToolResult,
)

_json_objects = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3)
_words = st.text(max_size=5)
_parts = st.one_of(
    st.builds(TextPart, text=_words),
    st.builds(ImagePart, url=_words),
    st.builds(ImagePart, data=_words, media_type=_words),
    st.builds(ThinkingPart, text=_words, signature=st.none() | _words, redacted=st.none() | _words, id=_words),
    st.builds(RefusalPart, text=_words),
    st.builds(ToolCall, id=_words, name=_words, arguments=_words, complete=st.booleans()),
    st.builds(ToolResult, id=_words, content=_words, is_error=st.booleans()),
    st.builds(OpaquePart, provider=_words, payload=_json_objects),
)


def read(data: Any) -> Message:
    return Message.model_validate(data)


# Messages.


@pytest.mark.parametrize(
    "content",
    ["Hi", ["Hi"], ("Hi",), [{"type": "text", "text": "Hi"}], [TextPart(text="Hi")]],
)
def test_text_may_be_written_in_many_ways(content: Any) -> None:
    """A string, or a list of strings, dicts and parts."""
    assert read({"role": "user", "content": content}) == Message(role="user", content=[TextPart(text="Hi")])


def test_the_text_of_a_message() -> None:
    """All its text parts, joined, and nothing else."""
    parts = ["Hel", {"type": "thinking", "text": "Hm."}, "lo"]
    assert read({"role": "assistant", "content": parts}).text == "Hello"


@given(st.lists(_parts, max_size=4))
def test_a_message_is_kept_as_json(parts: list[Part]) -> None:
    """Each part is read again as what it was."""
    message = Message(role="assistant", content=parts)
    assert Message.model_validate_json(message.model_dump_json()) == message
    assert read(message.model_dump()) == message


def test_every_part_has_a_type_of_its_own() -> None:
    """By which it is read."""
    kinds = get_args(get_args(Part)[0])
    types = [kind.model_fields["type"].default for kind in kinds]
    assert len(set(types)) == len(kinds) == 7


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"role": "user", "contents": "Hi"}, "did you mean 'content'"),
        ({"role": "robot", "content": "Hi"}, "role"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [5]}, "content.0"),
        ({"role": "user", "content": [{"type": "txt", "text": "Hi"}]}, "content.0"),
        ({"role": "user", "content": [{"type": "text", "txt": "Hi"}]}, "did you mean 'text'"),
        ({"content": "Hi"}, "role"),
    ],
)
def test_what_is_misspelt_is_refused(data: Any, said: str) -> None:
    """It would be lost in silence otherwise; the error says where it is."""
    with pytest.raises(ValidationError, match=said):
        read(data)


def test_nobody_changes_a_message() -> None:
    """It may be shared between requests."""
    message = Message(role="user", content=[TextPart(text="Hi")])
    with pytest.raises(ValidationError):
        message.role = "system"
    with pytest.raises(ValidationError):
        TextPart(text="Hi").text = "Ho"


# Parts.


def test_an_image_by_url_or_by_data() -> None:
    """Either has a link."""
    assert ImagePart(url="https://a.example/b.png").link == "https://a.example/b.png"
    assert ImagePart(data="AAA=", media_type="image/jpeg").link == "data:image/jpeg;base64,AAA="


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:image/jpeg;base64,AAA=", ImagePart(data="AAA=", media_type="image/jpeg")),
        ("data:image/jpeg;name=x;base64,AAA=", ImagePart(data="AAA=", media_type="image/jpeg")),
        ("data:;base64,AAA=", ImagePart(data="AAA=")),
    ],
)
def test_a_data_url_is_data(url: str, part: ImagePart) -> None:
    """Taken apart, so that each provider can have it in its own way."""
    assert ImagePart(url=url) == part
    assert part.link.endswith("AAA=")


@pytest.mark.parametrize("fields", [{}, {"url": "u", "data": "AAA="}])
def test_an_image_is_given_once(fields: dict[str, str]) -> None:
    """Neither none nor two."""
    with pytest.raises(ValidationError, match="either url= or data="):
        ImagePart.model_validate(fields)


@given(_json_objects)
def test_arguments_may_be_given_as_values(arguments: dict[str, Any]) -> None:
    """They are kept as JSON text, and parsed back."""
    call = ToolCall.model_validate({"name": "look", "arguments": arguments})
    assert isinstance(call.arguments, str)
    assert call.parse() == arguments


def test_arguments_are_kept_as_the_model_wrote_them() -> None:
    """Spaces, order, and what is not ASCII."""
    assert ToolCall(name="look", arguments='{ "b":1,"a":"é"}').arguments == '{ "b":1,"a":"é"}'
    assert ToolCall.model_validate({"name": "look", "arguments": {"a": "é"}}).arguments == '{"a": "é"}'


def test_arguments_that_json_cannot_say_are_refused() -> None:
    """When they are given, not when they are sent."""
    with pytest.raises(ConfigurationError, match="arguments must be JSON text"):
        ToolCall(name="look", arguments={"when": object()})


@pytest.mark.parametrize("written", ["", "  \n"])
def test_no_arguments_are_none(written: str) -> None:
    """A model that wants a tool without arguments often writes nothing."""
    assert ToolCall(name="look", arguments=written).parse() == {}


def test_arguments_that_are_no_json() -> None:
    """Are an error when they are parsed, not before."""
    call = ToolCall(name="look", arguments='{"a"', complete=False)
    with pytest.raises(json.JSONDecodeError):
        call.parse()


# Tools.

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
LOOK = Tool(name="look", description="Looks.", parameters=SCHEMA)


@pytest.mark.parametrize(
    "given",
    [
        LOOK,
        {"name": "look", "description": "Looks.", "parameters": SCHEMA},
        {"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA},
        {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}},
        {"name": "look", "description": "Looks.", "input_schema": SCHEMA},
        {"type": "custom", "name": "look", "description": "Looks.", "input_schema": SCHEMA},
    ],
    ids=["Tool", "ours", "Responses", "Chat Completions", "Anthropic", "Anthropic with a type"],
)
def test_a_tool_in_every_providers_shape(given: Any) -> None:
    """All of them are one tool."""
    assert Tool.of(given) == LOOK


@pytest.mark.parametrize(
    ("given", "name"),
    [({"type": "web_search"}, "web_search"), ({"type": "web_search_20250305", "name": "web_search"}, "web_search")],
)
def test_a_providers_own_tool_is_native(given: dict[str, Any], name: str) -> None:
    """It is sent as it is."""
    assert Tool.of(given) == Tool(name=name, native=given)


def test_a_tool_without_arguments() -> None:
    """Takes an empty object."""
    assert Tool(name="now").parameters == {"type": "object", "properties": {}}


def test_a_function_describes_itself() -> None:
    """By its name, its docstring and its type hints."""

    def look(city: str, unit: Literal["c", "f"] = "c") -> str:
        """Looks at the weather."""
        return city + unit

    tool = Tool.of(look)
    assert (tool.name, tool.description) == ("look", "Looks at the weather.")
    assert tool.parameters["properties"]["unit"]["enum"] == ["c", "f"]
    assert tool.parameters["required"] == ["city"]


class Model(BaseModel):
    """Looks at the weather."""

    city: str


@dataclasses.dataclass
class Data:
    """Looks at the weather."""

    city: str


class Dict(TypedDict):
    """Looks at the weather."""

    city: str


@pytest.mark.parametrize("given", [Model, Data, Dict])
def test_a_class_describes_a_tool(given: Any) -> None:
    """Its fields are the arguments, its docstring the description."""
    tool = Tool.of(given)
    assert tool.name == given.__name__
    assert tool.parameters["properties"]["city"]["type"] == "string"
    assert tool.parameters["required"] == ["city"]
    assert "title" not in tool.parameters


def positional(city: str, /) -> str:
    return city


class Opaque:
    """Has no JSON schema."""


def takes_opaque(what: Opaque) -> Opaque:
    return what


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "a tool is a Tool, a dict, a function or a model class, not 5"),
        (lambda city: city, "needs a name"),
        (positional, "must be such as can be given by name"),
        (takes_opaque, "takes_opaque has no JSON schema"),
        ({"name": ""}, "name"),
        ({"name": "look", "parameter": {}}, "did you mean 'parameters'"),
        ({}, "name"),
    ],
)
def test_what_is_no_tool_is_refused(given: Any, said: str) -> None:
    """In words to act on, before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        Tool.of(given)
