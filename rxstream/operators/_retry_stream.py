"""``retry_stream``: ask again when a stream fails, without doubling or losing any text."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

from reactivex import Observable, abc

from rxstream._asking import Asked, label_of, repeated
from rxstream._check import at_least, count, function, one_of
from rxstream.budget import RetryBudget
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import Event
from rxstream.loop import LoopScheduler
from rxstream.operators._retries import Options, Retries

__all__ = ["retry_stream"]

_KEPT: Final = 65_536
"""Events of an attempt that may be kept back before its first content."""


def retry_stream(
    *,
    attempts: int = 3,
    after_output: Literal["fail", "resume", "restart", "continue_", "buffer"] = "fail",
    when: Callable[[Exception], bool] | None = None,
    delay: float = 0.5,
    max_delay: float = 8.0,
    max_retry_after: float = 120.0,
    budget: RetryBudget | Literal["shared"] | None = "shared",
    jitter: Callable[[float], float] | None = None,
    max_buffered: int = 1_000_000,
) -> Callable[[Observable[Event]], Asked]:
    """Ask again when the stream fails, without doubling or losing any text.

    ::

        source:  --Started--✗        --Started--("Hel")--("lo")--Finished--|
             retry_stream()
        result:  -----------Retrying------------Started,("Hel")--("lo")--Finished--|

    Nothing of an attempt is delivered before its first content but that it failed: `Retrying`, and what it used. After its
    first content text is on the screen, and `after_output` says what becomes of it:

    * ``fail``: the stream ends with the error, whose ``partial`` holds what arrived.
    * ``resume``: the provider gives the rest, exactly; a `Seam` marks the place. For OpenAI's Responses API, where the answer
      is then made in the background and stored for about ten minutes (OpenAI's guide "Background mode"), and for llama.cpp's
      server, which is also that of the local model.
    * ``restart``: the model is asked anew; with its first content what was said before is `Retracted`. An attempt that
      ends without any has failed.
    * ``continue_``: the model is asked to go on after its text, and a `Seam` marks the place. Only plain text can be gone
      on with: not once a tool was called, or reasoning, a refusal or media was given.
    * ``buffer``: an attempt is delivered when it is complete, and only then.

    Text is never compared or trimmed. What the attempts used is added up. Before attempt n+1 it waits a random time between
    0 and ``min(max_delay, delay * 2 ** (n - 1))`` (M. Brooker, "Exponential backoff and jitter", AWS Architecture Blog,
    2015), and at least as long as the provider asked for. No request is made while the stream is paused. The clock ``total``
    of a request is for all attempts together; it ends the stream at once, also in the midst of what has just come. What was
    delivered is kept, so that the error holds it, and all that was used.

    ``retry`` of Rx asks again at once, and delivers text twice.

    Example:
        >>> import rxstream
        >>> from rxstream import operators as rxo
        >>> rxstream.from_iterable(["Hel", "lo"]).pipe(rxo.retry_stream()).run().text
        'Hello'

    Args:
        attempts: Requests in all, at most; those that resume count.
        after_output: What becomes of text that was delivered.
        when: Which errors to ask again after; by default those that are ``retryable``. It is asked only of a `StreamError`,
            and not of one that says that nobody shall be asked any more (`Cancelled`, `BudgetExceeded`).
        delay: Seconds that are waited at most before the second attempt; each time twice as long.
        max_delay: Seconds that are waited at most, where the provider does not ask for more.
        max_retry_after: Seconds that a provider may ask for; if it asks for more, the stream fails at once.
        budget: What limits further requests, over all streams that share it; ``shared`` for the process's own for this
            model, or for all sources together of which the model is not known; None for no limit.
        jitter: How long to wait, given the most, both in seconds; by default any time up to it. What is no such time ends
            the stream with a `ConfigurationError`.
        max_buffered: Events that an attempt may have with ``buffer``; it fails of more. (Before the first content: 65 536.)

    Raises:
        ConfigurationError: an option is out of its range; to the subscriber: ``resume`` is asked of what cannot, or an item is no
            event.
    """
    count("max_buffered", max_buffered)
    options = Options(
        attempts=count("attempts", attempts),
        after_output=one_of("after_output", after_output, ("fail", "resume", "restart", "continue_", "buffer")),
        when=_retryable if when is None else when,
        delay=at_least("delay", delay),
        max_delay=at_least("max_delay", max_delay),
        max_retry_after=at_least("max_retry_after", max_retry_after),
        budget=budget,
        jitter=_full_jitter if jitter is None else jitter,
        most=max_buffered if after_output == "buffer" else _KEPT,
    )
    function("when", options.when)
    function("jitter", options.jitter)
    if budget != "shared" and budget is not None and not isinstance(budget, RetryBudget):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"budget={budget!r}: must be a RetryBudget, 'shared' or None")

    def retried(source: Observable[Event]) -> Asked:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return Retries(source, options, observer, LoopScheduler.of(scheduler)).start()

        return Asked(subscribe, repeated(source, retried), label_of(source))

    return retried


def _retryable(error: Exception) -> bool:
    return isinstance(error, StreamError) and error.retryable


def _full_jitter(most: float) -> float:
    return random.uniform(0.0, most)  # noqa: S311 - it spreads requests, it keeps no secret
