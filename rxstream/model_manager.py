"""`APIModelManager`: a `StreamManager` that asks models by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from rxstream._check import at_least, instance, show
from rxstream._input import is_mapping
from rxstream.config import Target
from rxstream.errors import ConfigurationError
from rxstream.loop import refuse_to_block
from rxstream.manager import StreamManager
from rxstream.providers import PROVIDERS, provider
from rxstream.sinks.handler import StreamMetadata
from rxstream.stream_config import StreamConfig

if TYPE_CHECKING:
    from rxstream._stream_options import StreamOptions
    from rxstream.config import Prompt
    from rxstream.events import Event
    from rxstream.observable import Stream
    from rxstream.response import Response

__all__ = ["APIModelManager"]


class APIModelManager(StreamManager):
    """Asks models, and manages their answers.

    Example:
        >>> import rxstream
        >>> with rxstream.APIModelManager(default_provider="local") as models:
        ...     answer = models.generate("What is the capital of France?", "smollm2", params={"max_tokens": 20})
        >>> isinstance(answer.text, str)
        True

    Args:
        config: How models are asked, and handlers told; see `rxstream.StreamConfig`.
        default_provider: Whose model is meant by a name that names no provider; by default the provider of the configuration's
            ``default_target``, if it has one.
        max_streams: See `rxstream.StreamManager`, for all that follows.
        max_waiting: Streams that may wait.
        keep: Streams that have ended and are kept.
        replay: Events that a late subscriber of `events` sees.

    Raises:
        ConfigurationError: one of them is not as described.
    """

    def __init__(
        self,
        config: StreamConfig | None = None,
        *,
        default_provider: str | None = None,
        max_streams: int | None = None,
        max_waiting: int | None = None,
        keep: int = 1000,
        replay: int = 0,
    ) -> None:
        instance("default_provider", default_provider, str)
        super().__init__(config, max_streams=max_streams, max_waiting=max_waiting, keep=keep, replay=replay)
        self.config = config or StreamConfig()
        """How models are asked."""
        self.default_provider = self._provider(default_provider)
        """Whose model is meant by a name that names no provider."""

    def generate_stream_with_handlers(
        self,
        prompt: Prompt,
        model_id: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        handlers: Iterable[object] = (),
        metadata: StreamMetadata | Mapping[str, Any] | None = None,
        stream_id: str | None = None,
    ) -> str:
        """Ask a model, and tell handlers of its answer.

        Args:
            prompt: A string, a message, or a conversation; see `rxstream.messages`.
            model_id: ``provider:model``; or, where there is a default provider, a model of it, in whose name slashes may be.
                By default the configuration's ``default_target``.
            params: More arguments of `rxstream.stream`, such as ``{"max_tokens": 100, "temperature": 0}``.
            handlers: Handlers for this answer alone, told after the registered ones.
            metadata: See `rxstream.StreamManager.start_stream`.
            stream_id: What to call it; by default a number is given.

        Returns:
            The id of the stream.

        Raises:
            ConfigurationError: an argument is not as described; nothing is sent.
            BulkheadFull: as many streams run, and wait, as may.
        """
        return self._start(self._ask(prompt, model_id, params), metadata, handlers, stream_id).id

    def generate(
        self,
        prompt: Prompt,
        model_id: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        handlers: Iterable[object] = (),
        timeout: float | None = None,
    ) -> Response:
        """Ask a model, and wait for its whole answer.

        Args:
            prompt: As for `generate_stream_with_handlers`, and what follows, too.
            model_id: Which model.
            params: More arguments of `rxstream.stream`.
            handlers: Handlers for this answer alone.
            timeout: Seconds to wait at most; None for as long as it takes.

        Raises:
            StreamError: the stream failed; ``partial`` holds what arrived.
            TimeoutError: `timeout` ran out; the stream is cancelled, as it is by Ctrl-C.
            ConfigurationError: an argument is not as described, or called on the manager's own loop: await `agenerate` there.
        """
        if timeout is not None:
            at_least("timeout", timeout)  # before anything is sent
        refuse_to_block(self.loop, "use `await manager.agenerate(…)`")
        managed = self._start(self._ask(prompt, model_id, params), None, handlers, None)
        try:
            return managed.answer(timeout)
        finally:
            managed.session.cancel("nobody waits for it any more")

    async def agenerate(
        self,
        prompt: Prompt,
        model_id: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        handlers: Iterable[object] = (),
    ) -> Response:
        """`generate` for coroutines, on any loop. Cancelling it cancels the stream.

        Raises:
            StreamError: the stream failed; ``partial`` holds what arrived.
            ConfigurationError: an argument is not as described.
        """
        managed = self._start(self._ask(prompt, model_id, params), None, handlers, None)
        try:
            return await managed.wait()
        finally:
            managed.session.cancel("nobody waits for it any more")

    def _ask(self, prompt: Prompt, model_id: str | None, params: Mapping[str, Any] | None) -> Stream[Event]:
        if not is_mapping(given := {} if params is None else params):
            raise ConfigurationError(f"params={show(params)}: must be a dict")
        instance("model_id", model_id, str)
        options = cast("StreamOptions", dict(given))
        return self.config.stream(self._target(model_id), prompt, **options)

    def _provider(self, name: str | None) -> str | None:
        if name is not None:
            return provider(name).name
        target = self.config.default_target
        return None if target is None else Target.parse(target, known=PROVIDERS).provider

    def _target(self, model_id: str | None) -> str | None:
        if model_id is None or self.default_provider is None:
            return model_id
        # A slash is part of many models' names: openai/gpt-5-mini is one of openrouter's, and not for OpenAI.
        first, sign, _ = model_id.partition(":")
        return model_id if sign and first.lower() in PROVIDERS else f"{self.default_provider}:{model_id}"
