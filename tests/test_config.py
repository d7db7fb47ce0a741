"""What a user types in: what is understood, and how the rest is refused."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from rxstream.config import JSONFormat, Limits, Request, Target, Timeouts
from rxstream.errors import ConfigurationError
from rxstream.messages import (
    ImagePart,
    Message,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCall,
    ToolResult,
)

T = TypeVar("T")

KNOWN = frozenset({"anthropic", "openai", "xai", "groq", "mistral", "ollama", "openrouter", "local"})

build = functools.partial(Request.build, provider="openai", model="m", messages="hi")


def weather(city: Annotated[str, Field(description="Where")], unit: Literal["c", "f"] = "c") -> str:
    """The weather somewhere.

    In degrees.
    """
    return f"{city} {unit}"


class Place(BaseModel):
    """A place on earth."""

    city: str
    country: str | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Line(TypedDict):
    start: Point
    end: Point


# Targets


@pytest.mark.parametrize(
    ("text", "provider", "model"),
    [
        ("anthropic:claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("openrouter:meta-llama/llama-3:free", "openrouter", "meta-llama/llama-3:free"),
        ("ollama:llama3.2:1b", "ollama", "llama3.2:1b"),
        ("local:smollm2", "local", "smollm2"),
        ("ollama/llama3.2:1b", "ollama", "llama3.2:1b"),
        ("groq/meta-llama/llama-4", "groq", "meta-llama/llama-4"),
        ("Anthropic:Claude", "anthropic", "Claude"),
        ("  openai:gpt-5 ", "openai", "gpt-5"),
    ],
)
def test_a_target_is_a_provider_and_a_model(text: str, provider: str, model: str) -> None:
    """Only the first sign divides: a model's name may hold colons and slashes."""
    assert Target.parse(text, known=KNOWN) == Target(provider=provider, model=model)


@given(st.sampled_from(sorted(KNOWN)), st.text(min_size=1).map(str.strip).filter(bool))
def test_a_target_reads_what_it_writes(provider: str, model: str) -> None:
    """``parse`` is the inverse of ``str``, whatever the model is called."""
    target = Target(provider=provider, model=model)
    assert Target.parse(str(target), known=KNOWN) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("anthropc:claude", "unknown provider 'anthropc' in 'anthropc:claude'; did you mean 'anthropic:'?"),
        ("mistrall:large", "unknown provider 'mistrall' in 'mistrall:large'; did you mean 'mistral:'?"),
        ("claude-sonnet-4-5", "'claude-sonnet-4-5' names no provider: write anthropic:claude-sonnet-4-5"),
        ("grok-4", "'grok-4' names no provider: write xai:grok-4"),
        ("anthropic:", "'anthropic:' names no model: write anthropic:<model>"),
        ("anthropic", "'anthropic' names no model: write anthropic:<model>"),
    ],
)
def test_a_target_that_is_none_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Target.parse(text, known=KNOWN)
    assert str(refused.value) == message


@pytest.mark.parametrize("text", ["zzz", "zzz:model", "", ":", "x" * 200])
def test_where_no_name_is_near_all_are_listed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed: anthropic:, groq:, local:.*xai:$"):
        Target.parse(text, known=KNOWN)


def test_a_family_is_not_suggested_where_its_provider_is_not_known() -> None:
    with pytest.raises(ConfigurationError, match=r"write provider:model; allowed: local:$"):
        Target.parse("claude-sonnet-4-5", known={"local"})


# Timeouts and limits


def test_timeouts_are_generous_by_default() -> None:
    """Reasoning in silence for ten minutes is normal; so is a minute in a local server's queue."""
    expected = Timeouts(connect=60, first_event=120, first_output=600, idle=120, step=None, total=None)
    assert Timeouts.of(None) == Timeouts() == expected


def test_a_number_is_the_total() -> None:
    assert Timeouts.of(30) == Timeouts(total=30)


def test_timeouts_come_from_a_dict_or_as_they_are() -> None:
    given_ones = Timeouts(idle=5)
    assert Timeouts.of({"idle": 5}) == given_ones
    assert Timeouts.of(given_ones) is given_ones
    assert Timeouts.of({"idle": None}).idle is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"idel": 3}, "unknown key 'idel' in timeouts; did you mean 'idle'?"),
        ({"idle": -1}, "idle: must be greater than 0, not -1"),
        ({"idle": 0}, "idle: must be greater than 0, not 0"),
        (-1, "total: must be greater than 0, not -1"),
        (float("inf"), "total: must be a finite number, not inf"),
        ({"idle": "soon"}, "timeouts.idle: must be a number, not 'soon'"),
        ({"zzz": 1}, "allowed: connect, first_event, first_output, idle, step, total"),
        ("soon", "timeouts: must be a dict or a Timeouts, not 'soon'"),
    ],
)
def test_timeouts_that_cannot_be_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Timeouts.of(value)
    assert message in str(refused.value)


def test_limits_have_defaults_in_bytes() -> None:
    assert Limits.of(None) == Limits(
        event_bytes=8 * 2**20, stream_bytes=256 * 2**20, events=None, read_ahead_bytes=2**20
    )
    assert Limits.of({"events": 5}).events == 5


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="events: must be greater than or equal to 1, not 0"):
        Limits.of({"events": 0})


# Prompts


@pytest.mark.parametrize(
    "prompt",
    [
        "hi",
        ["hi"],
        Message(role="user", content=[TextPart(text="hi")]),
        {"role": "user", "content": "hi"},
        [{"role": "user", "content": ["hi"]}],
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]},),
    ],
)
def test_a_prompt_is_a_string_a_message_a_dict_or_a_list_of_these(prompt: Any) -> None:
    request = Request.build(provider="openai", model="m", messages=prompt)
    assert request.messages == [Message(role="user", content=[TextPart(text="hi")])]


def test_system_comes_before_the_conversation() -> None:
    request = build(system="Be brief.")
    assert [(turn.role, turn.text) for turn in request.messages] == [("system", "Be brief."), ("user", "hi")]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "messages: must have at least 1 item"),
        (5, "messages: must be a string, a Message, a dict or a list of these, not 5"),
        ([5], "messages[0]: must be a dict or a Message, not 5"),
        (
            [{"role": "user", "contents": "x"}],
            "messages[0]: unknown key 'contents' in message; did you mean 'content'?",
        ),
        ([{"role": "developer", "content": "x"}], "messages[0].role: must be 'system', 'user', 'assistant' or 'tool'"),
        (["a", {"role": "user", "content": [{"type": "image", "ulr": "x"}]}], "did you mean 'url'?"),
        (
            ["a", {"role": "user", "content": [{"type": "image"}]}],
            "messages[1].content[0]: an image needs either",
        ),
        ([{"role": "user", "content": [{"type": "imag", "url": "x"}]}], "not 'imag'; did you mean 'image'?"),
        ([{"role": "user"}], "messages[0].content: is missing"),
    ],
)
def test_a_prompt_that_is_none_is_refused_with_its_place(prompt: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Request.build(provider="openai", model="m", messages=prompt)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("system", ImagePart(url="http://x/y.png")),
        ("user", ThinkingPart(text="hm")),
        ("user", ToolCall(name="f")),
        ("user", RefusalPart(text="no")),
        ("assistant", ImagePart(url="http://x/y.png")),
        ("assistant", ToolResult(id="1")),
        ("tool", TextPart(text="42")),
        ("tool", OpaquePart(provider="openai", payload={})),
    ],
)
def test_a_role_says_only_what_it_can(role: Any, part: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"messages\[0\]: a {role} message holds .*, not {part.type}"):
        Request.build(provider="openai", model="m", messages=Message(role=role, content=[part]))


@pytest.mark.parametrize(
    "part",
    [
        TextPart(text="cut \ud83d"),
        ToolResult(id="1", content="\udcff from a file"),
        OpaquePart(provider="openai", payload={"value": object()}),
    ],
)
def test_what_json_cannot_say_is_refused_before_it_is_sent(part: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"messages\[1\]: has what JSON cannot say"):
        build(messages=["hi", Message(role="user", content=[part])])


def test_arguments_are_text_or_what_json_can_say() -> None:
    call = {"type": "tool_call", "name": "f", "arguments": {"city": "Zürich"}}
    assert Message.checked({"role": "assistant", "content": [call]}).content == [
        ToolCall(name="f", arguments='{"city": "Zürich"}')
    ]
    with pytest.raises(ConfigurationError, match=r"content\[0\].arguments: arguments must be JSON text"):
        Message.checked({"role": "assistant", "content": [call | {"arguments": {"city": {1, 2}}}]})


def test_a_tool_call_that_was_cut_is_not_sent_back() -> None:
    turn = Message(role="assistant", content=[ToolCall(name="f", arguments='{"a', complete=False)])
    with pytest.raises(ConfigurationError, match="the call of 'f' was cut; leave it out"):
        build(messages=["hi", turn])


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model: String should have at least 1 character"),
        ({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1, not 0"),
        ({"temperature": -1}, "temperature: must be greater than or equal to 0, not -1"),
        ({"temperature": float("nan")}, "temperature: must be a finite number"),
        ({"top_p": 1.5}, "top_p: must be less than or equal to 1, not 1.5"),
        ({"stop": ["a", ""]}, "stop[1]: must have at least 1 character, not ''"),
        ({"n": 0}, "n: must be greater than or equal to 1, not 0"),
        ({"seed": "x"}, "seed: must be a whole number, not 'x'"),
        ({"reasoning": "hihg"}, "reasoning: must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max', not"),
        ({"response_format": "jsn"}, "response_format: a response format is 'json', a JSON schema or a model class"),
        ({"response_format": {"type": "json_schema", "nam": 1}}, "response_format: unknown key 'nam' in jsonformat"),
        ({"tools": "search"}, "tools: must be a list of tools, not 'search'"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "tools: two are named 'a'"),
        ({"tool_choice": "f"}, "tool_choice: there are no tools to choose from"),
        ({"tools": [weather], "tool_choice": "wether"}, "no tool is named 'wether'; did you mean 'weather'?"),
        ({"extra": {"stream": False}}, "extra: stream is always true here"),
        ({"extra_headers": {"X-Key": 7}}, "extra_headers.X-Key: must be a string"),
        ({"system": 3}, "system: must be a string, not 3"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    """The message has the argument, what is allowed and what was given."""
    with pytest.raises(ConfigurationError) as refused:
        build(**options)
    assert message.replace("String should", "must") in str(refused.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        build(max_tokens=0, top_p=3)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["max_tokens", "top_p"]


CANARY = "sk-ant-0123456789-abcdefghijklmnop"


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": CANARY},
        {"messages": [{"role": CANARY, "content": CANARY}]},
        {"messages": [{"role": "user", "content": CANARY, CANARY: 1}]},
        {"extra_headers": {"Authorization": [CANARY]}},
        {"extra_headers": {"Authorization": CANARY}, "max_tokens": 0},
        {"tool_choice": CANARY},
        {"provider": [CANARY]},
    ],
)
def test_a_refusal_repeats_no_key_and_no_prompt(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        build(**wrong)
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_headers_may_be_secret_even_where_they_are_short() -> None:
    wrong: Any = {"X-Pin": 1234}
    with pytest.raises(ConfigurationError) as refused:
        build(extra_headers=wrong)
    assert "1234" not in str(refused.value)
    assert "1234" not in repr(build(extra_headers={"X-Pin": "1234"}))


def test_a_model_made_by_hand_repeats_no_prompt_either() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Message(role="user", contents=CANARY)  # type: ignore[call-arg]  # a misspelt key is what is tried
    assert "did you mean 'content'" in str(refused.value)
    assert CANARY not in str(refused.value)


def test_none_is_the_same_as_leaving_an_option_out() -> None:
    nothing: Any = None
    assert build(stop=nothing, tools=nothing, extra=None, extra_headers=None, response_format=None) == build()


def test_one_stop_string_is_a_list_of_one() -> None:
    assert build(stop="END").stop == ["END"]
    assert build(stop=("a", "b")).stop == ["a", "b"]
    assert build().stop == []


def test_a_tool_choice_may_name_a_tool_that_only_the_provider_knows() -> None:
    """Tools in `extra` are the provider's own business."""
    assert build(extra={"tools": [{"type": "x", "name": "y"}]}, tool_choice="y").tool_choice == "y"


# Tools

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "shape",
    [
        Tool(name="f", description="d", parameters=PARAMETERS),
        {"name": "f", "description": "d", "parameters": PARAMETERS},
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": PARAMETERS}},
        {"type": "function", "name": "f", "description": "d", "parameters": PARAMETERS},
        {"name": "f", "description": "d", "input_schema": PARAMETERS},
        {"type": "custom", "name": "f", "description": "d", "input_schema": PARAMETERS},
    ],
)
def test_a_tool_is_read_in_the_shape_of_every_provider(shape: Any) -> None:
    assert build(tools=[shape]).tools == [Tool(name="f", description="d", parameters=PARAMETERS)]


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, "web_search"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "code_interpreter"),
        ({"type": "custom", "name": "shell", "format": {"type": "text"}}, "shell"),
    ],
)
def test_a_tool_of_the_providers_own_is_kept_as_it_is(shape: dict[str, Any], name: str) -> None:
    assert Tool.of(shape) == Tool(name=name, native=shape)


def test_a_function_is_described_by_its_hints_and_docstring() -> None:
    tool = Tool.of(weather)
    assert (tool.name, tool.description) == ("weather", "The weather somewhere.\n\nIn degrees.")
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["properties"]["city"]["description"] == "Where"
    assert tool.parameters["properties"]["unit"]["enum"] == ["c", "f"]


class Weather:
    def at(self, city: str) -> str:
        return city


def test_a_method_is_described_without_its_self() -> None:
    assert list(Tool.of(Weather().at).parameters["properties"]) == ["city"]


@pytest.mark.parametrize(
    ("model", "description", "fields"),
    [(Place, "A place on earth.", ["city", "country"]), (Point, "", ["x", "y"]), (Line, "", ["start", "end"])],
)
def test_a_class_with_fields_is_a_tool(model: type, description: str, fields: list[str]) -> None:
    """A pydantic model, a dataclass, a typed dict: the fields are the arguments."""
    tool = Tool.of(model)
    assert (tool.name, tool.description, list(tool.parameters["properties"])) == (model.__name__, description, fields)


def everything(*values: int) -> None: ...
def undefined(value: NoSuchName) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # an unknown name is what is tried
def foreign(value: Weather) -> None: ...


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (lambda city: city, "a tool made of a function needs a name: use a function made with def"),
        (functools.partial(weather, unit="c"), "a tool made of a partial needs a name"),
        (everything, "the arguments of everything must be such as can be given by name"),
        (undefined, "undefined has no JSON schema"),
        (foreign, "foreign has no JSON schema"),
        (3, "a tool is a Tool, a dict, a function or a model class, not 3"),
        ([], "a tool is a Tool, a dict, a function or a model class, not a list"),
        ({"nam": "x"}, "unknown key 'nam' in tool; did you mean 'name'?"),
        ({"name": ""}, "name: must have at least 1 character, not ''"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(shape: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Tool.of(shape)
    assert message in str(refused.value)


# Response formats


class Trip(BaseModel):
    legs: list[Place]
    home: Place = Field(description="Where it ends")
    default: str = ""


def test_the_word_json_is_any_json() -> None:
    assert JSONFormat.of("json") == JSONFormat(json_schema=None)


def test_a_schema_is_left_as_it_is() -> None:
    assert build(response_format=PARAMETERS).response_format == JSONFormat(json_schema=PARAMETERS)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": PARAMETERS, "strict": True}},
            JSONFormat(name="n", json_schema=PARAMETERS, strict=True),
        ),
        ({"type": "json_schema", "name": "n", "schema": PARAMETERS}, JSONFormat(name="n", json_schema=PARAMETERS)),
        ({"type": "json_schema", "schema": PARAMETERS}, JSONFormat(json_schema=PARAMETERS)),
        ({"type": "json_object"}, JSONFormat()),
    ],
)
def test_a_format_is_read_in_the_shape_of_every_provider(shape: dict[str, Any], expected: JSONFormat) -> None:
    assert JSONFormat.of(shape) == expected


def test_a_model_class_is_closed_all_the_way_down() -> None:
    """Providers hold a model to a schema only where every field is required and no others are allowed."""
    wanted = JSONFormat.of(Trip)
    assert wanted.name == "Trip"
    assert wanted.strict is True
    assert wanted.json_schema is not None
    for schema in (wanted.json_schema, wanted.json_schema["$defs"]["Place"]):
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    assert wanted.json_schema["properties"]["home"] == {
        "anyOf": [{"$ref": "#/$defs/Place"}],
        "description": "Where it ends",
    }
    assert wanted.json_schema["properties"]["default"] == {"title": "Default", "type": "string"}
    assert JSONFormat.of(wanted) is wanted


def test_a_class_without_a_schema_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Weather has no JSON schema"):
        JSONFormat.of(Weather)


class Page(BaseModel, Generic[T]):
    items: list[T]


def test_the_name_of_a_format_has_only_letters_that_providers_take() -> None:
    assert JSONFormat.of(Page[int]).name == "Page_int_"
