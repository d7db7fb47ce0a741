"""What is to be done when a stream fails, as data: to be kept in a configuration and given to `rxstream.stream`.

Rules of this module:

* A field is an option of the operator that does it, by the same name, with the same default; what is no data (a function, a
  budget) is given to the operator itself.
* Checked when it is made; what is refused is a `rxstream.errors.ConfigurationError` that says which field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from rxstream._check import show
from rxstream._input import Input, is_mapping
from rxstream.errors import ConfigurationError

__all__ = ["ErrorPolicy", "OnError", "Retry"]

_Seconds: TypeAlias = Annotated[float, Field(ge=0, strict=True)]
_Reason: TypeAlias = Literal["length", "content_filter", "refusal", "pause", "error", "other"]
_Action: TypeAlias = Literal["fail", "retry", "failover", "complete_partial"]


class Retry(Input):
    """How a request is made again: the options of `rxstream.operators.retry_stream` that are data.

    Example:
        >>> Retry(attempts=5, after_output="restart").max_delay
        8.0

    Args:
        attempts: Requests in all, at most; by default 3.
        after_output: What becomes of text that was delivered: ``fail`` (the default), ``resume``, ``restart``,
            ``continue_`` or ``buffer``.
        delay: Seconds that are waited at most before the second attempt, each time twice as long; by default 0.5.
        max_delay: Seconds that are waited at most, where the provider does not ask for more; by default 8.
        max_retry_after: Seconds that a provider may ask for; if it asks for more, the stream fails at once; by default 120.
    """

    attempts: Annotated[int, Field(ge=1, strict=True)] = 3
    after_output: Literal["fail", "resume", "restart", "continue_", "buffer"] = "fail"
    delay: _Seconds = 0.5
    max_delay: _Seconds = 8.0
    max_retry_after: _Seconds = 120.0

    @classmethod
    def of(cls, given: Retry | Mapping[str, Any]) -> Retry:
        """The policy that `given`, which may be a dict of the fields, describes.

        Raises:
            ConfigurationError: an unknown field, or one that is out of its range.
        """
        return cls.checked(given)


class ErrorPolicy(Input):
    """What is done when a stream fails, and when that does not help.

    Example:
        >>> policy = ErrorPolicy(action="failover", retry=Retry(attempts=2), to=["openai:gpt-5-mini"])
        >>> policy == ErrorPolicy.of({"action": "failover", "retry": {"attempts": 2}, "to": ["openai:gpt-5-mini"]})
        True

    Args:
        action: ``fail`` (the default): the stream ends with the error. ``retry``: the model is asked again. ``failover``:
            another model is asked. ``complete_partial``: what arrived is the answer
            (`rxstream.operators.on_error_complete`).
        retry: How each model is asked again before the next step, a `Retry` or a dict of its fields; by default not at
            all, but with the action ``retry``.
        to: The other models, as ``provider:model``, in the order in which they are asked: for ``failover`` and
            ``complete_partial``.
        after_output: What becomes of text that was delivered when another model is asked: ``fail`` (the default),
            ``restart`` or ``continue_``; see `rxstream.tracks.failover`.
        on_finish: Reasons to finish for which another model is asked; see `rxstream.tracks.failover`.
    """

    action: _Action = "fail"
    retry: Retry | None = None
    to: Annotated[Sequence[Annotated[str, Field(min_length=1)]], AfterValidator(tuple)] = ()
    after_output: Literal["fail", "restart", "continue_"] = "fail"
    on_finish: Annotated[Sequence[_Reason], AfterValidator(tuple)] = ()

    @classmethod
    def of(cls, given: OnError) -> ErrorPolicy:
        """The policy that `given` describes.

        Args:
            given: One of the actions; a `Retry`, which is the action ``retry``; a policy, or a dict of its fields.

        Raises:
            ConfigurationError: it is none of these, or its fields do not fit together.
        """
        if isinstance(given, Retry):
            return cls(action="retry", retry=given)
        if isinstance(given, str):
            return cls.checked({"action": given}, named="on_error")
        if is_mapping(given) and (
            within := [name for name in given if name in Retry.model_fields.keys() - cls.model_fields.keys()]
        ):
            raise ConfigurationError(
                f"on_error: {', '.join(within)} is for retry: {{'action': 'retry', 'retry': {{…}}}}"
            )
        if isinstance(given, ErrorPolicy) or is_mapping(given):
            return cls.checked(given, named="on_error")
        raise ConfigurationError(f"on_error: must be an action, a Retry, an ErrorPolicy or a dict, not {show(given)}")

    @model_validator(mode="after")
    def _fits_together(self) -> ErrorPolicy:
        if self.action == "failover" and not self.to:
            raise ValueError("to: name the models that are asked when this one fails")
        if self.to and self.action not in ("failover", "complete_partial"):
            raise ValueError(f"to: is for the actions failover and complete_partial, not for {self.action}")
        if not self.to and (self.after_output != "fail" or self.on_finish):
            raise ValueError("after_output, on_finish: are for failing over; name models in to, or see Retry")
        if self.retry is not None and self.action == "fail":
            raise ValueError("retry: is given, but the action is fail; say action='retry'")
        return self

    @property
    def retries(self) -> Retry | None:
        """How each model is asked again."""
        return Retry() if self.retry is None and self.action == "retry" else self.retry


OnError: TypeAlias = _Action | Retry | ErrorPolicy | Mapping[str, Any]
"""What `ErrorPolicy.of` makes a policy of."""
