"""What a user asks for: which model (`Target`), with what (`Request`), how long (`Timeouts`), how much (`Limits`).

Everything is checked here, before anything is sent; what a provider cannot be asked is refused by its encoder. All that
is refused is a `rxstream.errors.ConfigurationError` that says which argument, what is allowed and what was given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from rxstream._check import show
from rxstream._input import Input, check_json, hint, is_list, is_mapping, json_schema
from rxstream.errors import ConfigurationError
from rxstream.messages import Message, Role, Tool, ToolCall, ToolLike

__all__ = [
    "Effort",
    "JSONFormat",
    "Limits",
    "Prompt",
    "Request",
    "ResponseFormat",
    "Target",
    "Timeouts",
]

Prompt: TypeAlias = str | Message | Mapping[str, Any] | Sequence[str | Message | Mapping[str, Any]]
"""A prompt: a string is one turn of the user; a dict has the shape of a `Message`."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How hard the model is to reason. Not every model knows every word."""

_Seconds: TypeAlias = Annotated[float, Field(gt=0, strict=True)] | None
_Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]

_HEADER: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""What HTTP allows as the name of a header."""

_FAMILIES: Final = {
    "claude": "anthropic",
    "gpt": "openai",
    "chatgpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "grok": "xai",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "sonar": "perplexity",
    "smollm": "local",
}
"""First letters of a model's name -> whose it is, for the hint to somebody who left the provider out."""

_JSON_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")

_PARTS: Final[dict[Role, frozenset[str]]] = {
    "system": frozenset({"text", "opaque"}),
    "user": frozenset({"text", "image", "tool_result", "opaque"}),
    "assistant": frozenset({"text", "thinking", "refusal", "tool_call", "opaque"}),
    "tool": frozenset({"tool_result"}),
}
"""What each role may say."""


class Target(Input):
    """A model and who serves it, written ``provider:model``."""

    provider: str
    model: str

    @classmethod
    def parse(cls, text: str, *, known: Collection[str]) -> Target:
        """The target that `text` names.

        Args:
            text: ``provider:model``, such as ``"anthropic:claude-haiku-4-5"`` or ``"ollama:llama3.2:1b"``;
                ``provider/model`` is read too. The model's name may hold both signs.
            known: Names of the providers that there are.

        Raises:
            ConfigurationError: no known provider, or no model. The message has the nearest name.
        """
        words = text.strip()
        for sign in ":/":
            provider, found, model = words.partition(sign)
            if found and provider.lower() in known:
                if not model:
                    raise ConfigurationError(f"{show(text)} names no model: write {provider.lower()}:<model>")
                return cls(provider=provider.lower(), model=model)
        raise ConfigurationError(_no_provider(words, known))

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.provider}:{self.model}"


def _no_provider(words: str, known: Collection[str]) -> str:
    if "://" in words:
        return f"target: {show(words)} is a URL: give it as base_url=, and compatible:<model> as the target"
    head, sign, _ = words.partition(":" if ":" in words else "/")
    nearest = hint(f"{head}:", [f"{name}:" for name in known])
    family = next((whose for letters, whose in _FAMILIES.items() if words.lower().startswith(letters)), None)
    if words in known:
        return f"{show(words)} names no model: write {words}:<model>"
    misspelt = sign and "mean" in nearest  # "mistrall:large", while "mistral-large" has no provider at all
    if family in known and not misspelt:
        return f"{show(words)} names no provider: write {family}:{words}"
    if sign:
        return f"unknown provider {show(head)} in {show(words)}{nearest}"
    return f"{show(words)} names no provider: write provider:model{nearest}"


class Timeouts(Input):
    """Six clocks, in seconds; None is off.

    The defaults suit models that reason in silence and local servers that queue. Only what the model says re-arms
    `idle`; pings never do.

    Args:
        connect: To the response headers; by default 60.
        first_event: From there to any event, a ping included; by default 120.
        first_output: From the request to the first content; by default 600.
        idle: Between two pieces of content; by default 120.
        step: One attempt; by default None.
        total: All attempts together; by default None.
    """

    connect: _Seconds = 60.0
    first_event: _Seconds = 120.0
    first_output: _Seconds = 600.0
    idle: _Seconds = 120.0
    step: _Seconds = None
    total: _Seconds = None

    @classmethod
    def of(cls, given: Timeouts | Mapping[str, float | None] | float | None) -> Timeouts:
        """Timeouts from a number of seconds (`total`), a dict of the fields, or None for the defaults.

        Raises:
            ConfigurationError: an unknown clock, or a time that is not positive.
        """
        if given is None:
            return cls()
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        return cls.checked({"total": given} if number else given, named="timeouts")


class Limits(Input):
    """How much one stream may hold; None is no limit.

    Going over is a `rxstream.errors.LimitExceeded`, for `tokens` a `rxstream.errors.BudgetExceeded`.

    Args:
        event_bytes: Bytes of one event; by default 8 MiB.
        stream_bytes: Bytes of the whole body; by default 256 MiB.
        events: Events of one stream; by default None.
        tokens: Output tokens, as reported while the model writes, else estimated (`rxstream.operators.limit`); by default None.
        characters: Characters of text, thinking, refusals and arguments of tools; by default None.
        read_ahead_bytes: Bytes that are read ahead while the stream is paused, so that a short pause does not cost the
            connection; by default 1 MiB.
    """

    event_bytes: _Count = 8 * 1024 * 1024
    stream_bytes: _Count | None = 256 * 1024 * 1024
    events: _Count | None = None
    tokens: _Count | None = None
    characters: _Count | None = None
    read_ahead_bytes: _Count = 1024 * 1024

    @classmethod
    def of(cls, given: Limits | Mapping[str, int | None] | None) -> Limits:
        """Limits from a dict of the fields, or None for the defaults.

        Raises:
            ConfigurationError: an unknown limit, or a number below 1.
        """
        return cls() if given is None else cls.checked(given, named="limits")


class JSONFormat(Input):
    """The answer is to be JSON: any, or such as fits a schema."""

    name: str = "answer"
    json_schema: dict[str, Any] | None = None
    """None for any JSON."""
    strict: bool | None = None
    """Hold the model to the schema, where the provider can; None leaves it to the provider."""

    @classmethod
    def of(cls, given: ResponseFormat) -> JSONFormat:
        """The format that `given` describes.

        Args:
            given: ``"json"`` for any JSON; a JSON schema, bare or in the shape of a provider; or a pydantic model class, a dataclass or a
                `TypedDict`, whose schema is closed (every field is required, no others are allowed) because the
                providers hold a model to closed schemas only.

        Raises:
            ConfigurationError: it is none of these.
        """
        if isinstance(given, JSONFormat):
            return given
        if given in ("json", {"type": "json_object"}):
            return cls()
        if isinstance(given, type):
            name = re.sub(r"\W", "_", given.__name__)[:64]  # all that providers take as a name
            return cls(name=name, json_schema=_closed(json_schema(given, given.__name__)), strict=True)
        inner = given.get("json_schema", given) if is_mapping(given) else None
        if is_mapping(given) and given.get("type") == "json_schema" and is_mapping(inner):
            return cls.checked(
                {"json_schema" if key == "schema" else key: inner[key] for key in inner if key != "type"}
            )
        if is_mapping(given):
            if isinstance(kind := given.get("type"), str) and kind not in _JSON_TYPES:
                raise ConfigurationError(
                    f"a JSON schema has no type {show(kind)}{hint(kind, _JSON_TYPES)}; for any JSON give 'json'"
                )
            return cls(json_schema=dict(given))
        raise ConfigurationError(f"a response format is 'json', a JSON schema or a model class, not {show(given)}")


ResponseFormat: TypeAlias = Literal["json"] | Mapping[str, Any] | type[Any] | JSONFormat
"""What `JSONFormat.of` makes a format of."""


def _closed(schema: Any) -> Any:
    """The schema with all fields of all objects required, and no others allowed."""
    if is_list(schema):
        return [_closed(item) for item in schema]
    if not is_mapping(schema):
        return schema
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            closed[key] = {name: _closed(each) for name, each in value.items()}
        elif key != "default":  # what is required has none
            closed[key] = _closed(value)
    if "properties" in closed:
        closed |= {"required": list(closed["properties"]), "additionalProperties": False}
    if "$ref" in closed and closed.keys() - {"$ref", "$defs"}:  # OpenAI wants a reference to stand alone
        closed["anyOf"] = [{"$ref": closed.pop("$ref")}]
    return closed


class Request(Input):
    """One question to one model, in our terms; a provider's `encode` says it in its own. Made by `build`."""

    provider: str = Field(min_length=1)
    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] = Field(default_factory=list[Tool])
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = Field(default=None, strict=True)
    max_tokens: _Count | None = None
    temperature: float | None = Field(default=None, ge=0, strict=True)
    top_p: float | None = Field(default=None, ge=0, le=1, strict=True)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    seed: int | None = Field(default=None, strict=True)
    n: _Count | None = None
    response_format: JSONFormat | None = None
    reasoning: Effort | None = None
    include_usage: bool = Field(default=True, strict=True)
    extra: dict[str, Any] = Field(default_factory=dict)
    extra_headers: dict[str, str] = Field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        *,
        provider: str,
        model: str,
        messages: Prompt,
        system: str | None = None,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | None = None,
        parallel_tool_calls: bool | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        n: int | None = None,
        response_format: ResponseFormat | None = None,
        reasoning: Effort | None = None,
        include_usage: bool = True,
        extra: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Request:
        """A request, checked.

        Args:
            provider: Name of the provider.
            model: The provider's name of the model.
            messages: The conversation; a string is one turn of the user.
            system: Instructions, put before the conversation as a system message.
            tools: Tools that the model may call: whatever `rxstream.messages.Tool.of` takes.
            tool_choice: ``"auto"``, ``"none"``, ``"required"`` (some tool) or the name of the tool to call.
            parallel_tool_calls: Whether the model may call several tools at once.
            max_tokens: Most tokens that the model may write.
            temperature: 0 and up; providers differ in how far.
            top_p: Share of the probability that is sampled from, 0 to 1.
            stop: One or more strings at which the model is to stop.
            seed: For answers that repeat, as far as the provider can.
            n: How many answers.
            response_format: ``"json"``, a JSON schema or a pydantic model class.
            reasoning: How hard the model is to reason.
            include_usage: Ask for token counts where a provider sends them only if asked.
            extra: More fields of the provider's own request body; they win over ours.
            extra_headers: More HTTP headers.

        Raises:
            ConfigurationError: an argument is not as described; nothing is sent.
        """
        arguments = {name: value for name, value in locals().items() if name in cls.model_fields and value is not None}
        return cls.checked(arguments | {"messages": _conversation(messages, system)})

    def refuse(self, *names: str, by: str) -> None:
        """Refuse the request if it sets one of the fields `names`, which `by` cannot be asked.

        Raises:
            ConfigurationError: it does.
        """
        for name in names:
            value = getattr(self, name)
            if value not in (None, []) and (name, value) != ("n", 1):
                raise ConfigurationError(f"{name}: {by} has no such parameter; leave it out")

    @field_validator("tools", mode="before")
    @classmethod
    def _read_tools(cls, given: Any) -> Any:
        if not is_list(given):
            raise ConfigurationError(f"must be a list of tools, not {show(given)}")
        return [Tool.of(tool) for tool in given]

    @field_validator("stop", mode="before")
    @classmethod
    def _read_stop(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("response_format", mode="before")
    @classmethod
    def _read_format(cls, given: Any) -> Any:
        return JSONFormat.of(given)

    @field_validator("extra_headers")
    @classmethod
    def _check_headers(cls, given: dict[str, str]) -> dict[str, str]:
        for name, value in given.items():
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{show(name)} is no name of a header: it has letters, digits and dashes")
            if any(not " " <= char <= "~" for char in value):
                raise ValueError(f"the value of {show(name)} holds a line break or a letter that is not ASCII")
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Request:
        for number, message in enumerate(self.messages):
            _check_parts(message, f"messages[{number}]")
        for where in ("tools", "response_format", "extra"):
            check_json(getattr(self, where), where)
        names = [tool.name for tool in self.tools]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"tools: two are named {show(twice)}")
        words = ("auto", "none", "required", *names)
        if self.tool_choice is not None and "tools" not in self.extra:
            if not self.tools:
                raise ValueError("tool_choice: there are no tools to choose from")
            if self.tool_choice not in words:
                raise ValueError(
                    f"tool_choice: no tool is named {show(self.tool_choice)}{hint(self.tool_choice, words)}"
                )
        if self.extra.get("stream", True) is not True:
            raise ValueError("extra: stream is always true here")
        return self


def _conversation(given: object, system: str | None) -> list[object]:
    if system is not None and not isinstance(system, (str, list, tuple)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"system: must be a string, not {show(system)}")
    before: list[object] = [] if system is None else [{"role": "system", "content": system}]
    if isinstance(given, (str, Message)) or is_mapping(given):
        given = [given]
    if not is_list(given):
        raise ConfigurationError(f"messages: must be a string, a Message, a dict or a list of these, not {show(given)}")
    return before + [{"role": "user", "content": turn} if isinstance(turn, str) else turn for turn in given]


def _check_parts(message: Message, where: str) -> None:
    check_json(message, where)
    allowed = _PARTS[message.role]
    for part in message.content:
        if part.type not in allowed:
            raise ValueError(f"{where}: a {message.role} message holds {', '.join(sorted(allowed))}, not {part.type}")
        if isinstance(part, ToolCall) and not part.complete:
            raise ValueError(f"{where}: the call of {show(part.name)} was cut; leave it out of the conversation")
