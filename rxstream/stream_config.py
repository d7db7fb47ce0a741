"""How streams are made and handled, as one object: to be written down in a file, loaded, changed and asked where a value came from.

Rules of this module:

* A configuration cannot be changed; `StreamConfig.replace` makes another one. What is wrong with a value is said when it is made.
* What streams share (a number of places, a rate) is made once: by all streams of a configuration, and of those that were derived
  from it without changing that.
* A key is never shown, dumped or explained, and handlers, which are no data, are not dumped either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias, Unpack

from pydantic import Field, PrivateAttr, SecretStr, SerializeAsAny, field_validator, model_validator
from reactivex import Observable

from rxstream._check import show
from rxstream._fixed import Fixed
from rxstream._input import Input, is_list, is_mapping
from rxstream._kept import Kept
from rxstream._layers import Layer, leaves, merged, placed, spelt_out, understood, with_profile
from rxstream._relief import Backpressure, BufferUnit, relieved
from rxstream._settings import read_environment, read_toml, table, to_toml
from rxstream._stream_options import ConfigFields, StreamOptions, check_options
from rxstream.bulkhead import Bulkhead
from rxstream.config import Limits, Prompt, Target, Timeouts
from rxstream.creation import stream
from rxstream.errors import ConfigurationError
from rxstream.events import Event
from rxstream.guards import Guard
from rxstream.observable import Stream
from rxstream.operators import on_error_complete, text
from rxstream.policy import ErrorPolicy
from rxstream.profiles import profile as profile_of
from rxstream.provider_options import ProviderOptions, options_of, provider_name
from rxstream.providers import PROVIDERS, provider
from rxstream.quota import RateLimiter
from rxstream.sinks.handler import as_handler
from rxstream.tracks import failover

__all__ = ["Mode", "RateLimit", "StreamConfig"]

Mode: TypeAlias = Literal["event", "token", "character", "word", "sentence", "segment"]
"""What a consumer gets: events; or the answer's text, in pieces as the provider sends them, or by the unit. A segment is a
paragraph, or a whole block of code."""

_UNITS: Final[dict[str, Any]] = {
    "token": "delta",
    "character": "character",
    "word": "word",
    "sentence": "sentence",
    "segment": "code_fence",
}
_FILE: Final = "rxstream.toml"
_OWN: Final = ("base_url", "api_key", "client")
"""Options of the first model that are not for those that it fails over to."""

_Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
_Rate: TypeAlias = Annotated[float, Field(gt=0, strict=True)]


class RateLimit(Input):
    """What each model may be asked: the options of `rxstream.RateLimiter`.

    Args:
        requests_per_minute: Requests that each model may be sent; None for as many as the provider permits.
        tokens_per_minute: Tokens, of input and output, that it may use; None for as many as the provider permits.
        max_wait: Seconds that a stream may wait; None for as long as it takes.
    """

    requests_per_minute: _Rate | None = None
    tokens_per_minute: _Rate | None = None
    max_wait: Annotated[float, Field(ge=0, strict=True)] | None = None


class StreamConfig(Input):
    """How streams are made and handled.

    Example:
        >>> config = StreamConfig(timeouts=30, on_error="retry", mode="sentence")
        >>> config.timeouts.total, config.on_error.action
        (30.0, 'retry')
        >>> config.replace(timeouts={"idle": 5}).timeouts.total  # one value at a time
        30.0

    Args:
        default_target: The model, as ``provider:model``, where none is named.
        mode: What a consumer gets; see `Mode`. By default events.
        backpressure: What happens while the consumer is paused or slow. ``hold`` (the default): the source is held. ``buffer``:
            it runs on as far as the buffer reaches. ``coalesce``: the same, and what waits is joined. ``drop_oldest``, ``drop_newest``,
            ``latest``: what is too much is dropped. ``error``: too much ends the stream.
        buffer: How much may wait, in `buffer_unit`; by default 1024, and 1 MiB for ``coalesce``. ``hold`` and ``latest`` have none.
        buffer_unit: ``events`` (the default; in other modes pieces of text), ``tokens`` (items with content), ``characters`` or
            ``bytes`` (of text, as UTF-8; 64 for an item without). ``coalesce`` counts bytes.
        timeouts: Six clocks; a number is the total. See `rxstream.Timeouts`.
        limits: How much one stream may hold. See `rxstream.Limits`.
        on_error: What is done when a stream fails. See `rxstream.ErrorPolicy`.
        rate_limits: Requests and tokens a minute for each model; by default none.
        max_concurrent: Streams at a time; by default any number.
        max_waiting: With `max_concurrent`, streams that may wait for a place; by default 1024.
        handlers: Who is told of each stream that a manager starts. Not dumped.
        provider_options: By provider, more fields of its request. See `rxstream.provider_options`.
        api_keys: By provider, its key, where that is not in the provider's own variable of the environment. Shown nowhere.

    Raises:
        ConfigurationError: a value is not as described; the message says which, and has the nearest name of an unknown one.
    """

    default_target: Annotated[str, Field(min_length=1)] | None = None
    mode: Mode = "event"
    backpressure: Backpressure = "hold"
    buffer: _Count | None = None
    buffer_unit: BufferUnit = "events"
    timeouts: Timeouts = Field(default_factory=Timeouts)
    limits: Limits = Field(default_factory=Limits)
    on_error: ErrorPolicy = Field(default_factory=ErrorPolicy)
    rate_limits: RateLimit | None = None
    max_concurrent: _Count | None = None
    max_waiting: Annotated[int, Field(ge=0, strict=True)] = 1024
    handlers: tuple[Any, ...] = Field(default=(), exclude=True, repr=False)
    provider_options: dict[str, SerializeAsAny[ProviderOptions]] = Field(default_factory=Fixed)
    api_keys: dict[str, SecretStr] = Field(default_factory=Fixed, exclude=True, repr=False)

    _kept: Kept = PrivateAttr(default_factory=Kept)

    if TYPE_CHECKING:  # fields take more than what they become

        def __init__(self, /, **fields: Unpack[ConfigFields]) -> None: ...

    # --- where it comes from ------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        *,
        profile: str | None = None,
        path: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        **overrides: Unpack[ConfigFields],
    ) -> Self:
        """The configuration that profile, file, environment and arguments make together, the later over the earlier.

        ``profile`` may be said in the file and in ``RXSTREAM_PROFILE``, too. In both, ``"off"`` is None.

        Args:
            profile: One of `rxstream.profiles.PROFILES`; ``"off"`` for none, whatever the layers say.
            path: A TOML file; by default ``rxstream.toml`` in the current folder, if there is one.
            env: Variables; by default the process's own. `StreamConfig`'s field ``idle`` of ``timeouts`` is
                ``RXSTREAM_TIMEOUTS__IDLE``.
            overrides: Values of this class's fields.

        Raises:
            ConfigurationError: a value does not fit; the message says in which layer it is.
            MissingDependency: pydantic-settings is not installed.
        """
        fields = [*(name for name in cls.model_fields if name != "handlers"), "profile"]
        try:
            file = Path(_FILE if path is None else path)
        except TypeError:
            raise ConfigurationError(f"path={show(path)}: must be a string or a Path") from None
        if path is not None and not file.is_file():
            raise ConfigurationError(f"path: there is no file {file.name!r} where it says")
        if env is not None and not is_mapping(env):
            raise ConfigurationError(f"env={show(env)}: must be a dict")
        layers = [
            read_toml(file) if file.is_file() else Layer(file.name, {}),
            read_environment(fields, os.environ if env is None else env),
            Layer("argument", overrides),
        ]
        return cls._layered(with_profile(profile, layers))

    @classmethod
    def from_profile(cls, name: str, **overrides: Unpack[ConfigFields]) -> Self:
        """The profile of this name, with `overrides` over it. Nothing else is read.

        Example:
            >>> StreamConfig.from_profile("voice", timeouts={"idle": 4}).mode
            'sentence'

        Raises:
            ConfigurationError: there is no such profile, or a value does not fit.
        """
        return cls._layered([Layer(f"profile {name}", profile_of(name).values), Layer("argument", overrides)])

    def replace(self, **overrides: Unpack[ConfigFields]) -> Self:
        """This configuration with other values. Of what has fields of its own only those that are given are others.

        Raises:
            ConfigurationError: a value does not fit.
        """
        values, origins = merged([Layer("argument", self._set()), Layer("replaced", overrides)])
        made = self.checked(values)
        before = self._kept.origins
        made._kept = self._kept.heir(
            {path: before.get(path, origin) if origin == "argument" else origin for path, origin in origins.items()}
        )
        return made

    @classmethod
    def _layered(cls, layers: Sequence[Layer]) -> Self:
        try:
            values, origins = merged(layers)
            made = cls.checked(values)
        except ConfigurationError as error:
            raise ConfigurationError(placed(layers, str(error), cls.checked)) from None
        made._kept.origins = origins
        return made

    def to_toml(self) -> str:
        """What was set, as a TOML document that `load` reads; without keys and handlers."""
        return to_toml(self.model_dump(mode="json", exclude_unset=True))

    # --- what it makes ------------------------------------------------------------------------------------------------

    @property
    def guards(self) -> tuple[Guard, ...]:
        """Who is asked before each request: the same objects each time."""
        found: list[Guard] = []
        if self.max_concurrent is not None:
            found.append(self._kept.guard(Bulkhead, self.max_concurrent, max_waiting=self.max_waiting))
        if self.rate_limits is not None:
            found.append(self._kept.guard(RateLimiter, **self.rate_limits.model_dump()))
        return tuple(found)

    def stream(self, target: str | None, prompt: Prompt, **options: Unpack[StreamOptions]) -> Stream[Event]:
        """The answer of a model, made as this configuration says: `rxstream.stream` with everything applied.

        The events are as they come: what the consumer gets of them, and what waits for him, is `apply`.

        Args:
            target: ``provider:model``; None for `default_target`.
            prompt: As for `rxstream.stream`.
            options: Those of `rxstream.stream`. ``timeouts``, ``limits`` and ``extra`` go over this configuration's value by value, ``guards``
                come after its own, and ``on_error`` takes the place of its own.

        Raises:
            ConfigurationError: an option is not as described, or unknown; or there is no target.
        """
        check_options(options)
        first = Target.parse(self._target(target), known=PROVIDERS)
        policy = ErrorPolicy.of(options.get("on_error", self.on_error))
        guards = options.get("guards", ())
        shared: StreamOptions = {
            **options,
            "timeouts": Timeouts.of(self._over("timeouts", options.get("timeouts"))),
            "limits": Limits.of(self._over("limits", options.get("limits"))),
            "guards": (*self.guards, *guards) if is_list(guards) else guards,
            "on_error": policy,
        }
        if not policy.to:
            return self._ask(first, prompt, shared)
        shared["on_error"] = "fail" if policy.retries is None else policy.retries
        others: StreamOptions = {name: value for name, value in shared.items() if name not in (*_OWN, "label")}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        answers = [self._ask(Target.parse(name, known=PROVIDERS), prompt, others) for name in policy.to]
        head = self._ask(first, prompt, shared)
        answer = failover(head, *answers, after_output=policy.after_output, on_finish=policy.on_finish)
        answer.label = head.label
        return answer.pipe(on_error_complete()) if policy.action == "complete_partial" else answer

    def apply(self, source: Observable[Event]) -> Stream[Any]:
        """What the consumer gets of `source`: `mode`, and behind it `backpressure` with its `buffer`."""
        answer: Stream[Any] = Stream.of(source, label=getattr(source, "label", ""))
        if self.mode != "event":
            answer = answer.pipe(text(by=_UNITS[self.mode]))
        relief = relieved(self.backpressure, self.buffer, self.buffer_unit)
        return answer if relief is None else answer.pipe(relief)

    def _over(self, name: str, given: Any) -> Any:
        """This configuration's value of a field, and what is `given` over it."""
        own = Layer("", {name: getattr(self, name)})
        return merged([own] if given is None else [own, Layer("", {name: given})])[0][name]

    def _target(self, target: str | None) -> str:
        named = self.default_target if target is None else target
        if named is None:
            raise ConfigurationError("target: none is given, and the configuration has no default_target")
        return named

    def _ask(self, target: Target, prompt: Prompt, options: StreamOptions) -> Stream[Event]:
        row = provider(target.provider)
        theirs, extra = self.provider_options.get(row.name), options.get("extra") or {}
        asked: StreamOptions = {
            **options,
            "extra": {**theirs.body(), **extra} if theirs is not None and is_mapping(extra) else extra,
        }
        if options.get("client") is None and options.get("api_key") is None:
            asked["api_key"] = self._key(row.name)
        return stream(str(target), prompt, **asked)

    def _key(self, name: str) -> str | None:
        """The key for a provider: its own, or that of the same account under another name (``openai`` and ``openai-chat``)."""
        row = PROVIDERS[name]
        for known in (name, *self.api_keys):
            other = PROVIDERS[known]
            same = known == name or (
                row.api_key_env and (other.base_url, other.api_key_env) == (row.base_url, row.api_key_env)
            )
            if same and known in self.api_keys:
                return self.api_keys[known].get_secret_value()
        return None

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by its path.

        That is ``profile voice``, ``rxstream.toml``, ``environment``, ``argument``, ``replaced`` or ``default``.
        """
        given = dict(leaves(self._set()))
        return {
            path: self._kept.origins.get(path, "argument" if path in given else "default") for path, _ in self._leaves()
        }

    def explain(self) -> str:
        """A table of all values and where each came from. Of keys it says only that there are some.

        Example:
            >>> table = StreamConfig(mode="word").explain()
            >>> table.splitlines()[2].split()
            ['mode', "'word'", 'argument']
        """
        origins = self.origins
        return table(
            [("setting", "value", "from"), *((path, _shown(each), origins[path]) for path, each in self._leaves())]
        )

    def _leaves(self) -> list[tuple[str, Any]]:
        values = {**self.model_dump(), "handlers": len(self.handlers), "api_keys": self.api_keys}
        return list(leaves({name: values[name] for name in type(self).model_fields}))

    def _set(self) -> dict[str, Any]:
        return spelt_out(
            {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        )

    # --- how it is checked --------------------------------------------------------------------------------------------

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, data: Any) -> Any:
        return understood(data) if is_mapping(data) else data

    @field_validator("provider_options", mode="before")
    @classmethod
    def _read_options(cls, given: Any) -> Any:
        return {name: options_of(name, options) for name, options in given.items()} if is_mapping(given) else given

    @field_validator("provider_options", "api_keys")
    @classmethod
    def _fix(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            provider_name(name)
        return Fixed(given)

    @field_validator("handlers", mode="before")
    @classmethod
    def _read_handlers(cls, given: Any) -> Any:
        if not is_list(given):
            return given
        handlers = tuple(given)
        for handler in handlers:
            as_handler(handler)
        return handlers

    @model_validator(mode="after")
    def _fits_together(self) -> StreamConfig:
        for name in (self.default_target, *self.on_error.to):
            if name is not None:
                Target.parse(name, known=PROVIDERS)
        if self.buffer is None and self.buffer_unit == "events":
            return self
        if self.backpressure in ("hold", "latest"):
            raise ValueError(f"buffer: backpressure={self.backpressure!r} has none; 'buffer' and others have")
        if self.backpressure == "coalesce" and self.buffer_unit != "bytes":
            raise ValueError("buffer_unit: what coalesce holds is counted in bytes")
        return self


def _shown(value: object) -> str:
    return "a key" if isinstance(value, SecretStr) else repr(value)
