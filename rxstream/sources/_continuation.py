"""The request that makes a model go on after its own text, and what a request may cost in tokens: arithmetic on requests.

Rules of this module:

* The text goes back as it was said, to the last space: nothing is trimmed, so nothing can be missing at the seam.
* Prefill is used only where it is documented for this provider and this model, and the answer cannot begin with reasoning.
  Everywhere else the model is asked in words, after its text as a turn of its own.
* The limit on output tokens stays as it was: how many of them the first part took is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from rxstream._input import is_mapping
from rxstream.config import Request
from rxstream.messages import ImagePart, Message, OpaquePart, Part, TextPart
from rxstream.providers import Provider
from rxstream.providers.anthropic.encode import DEFAULT_MAX_TOKENS

__all__ = ["GO_ON", "continued", "tokens_of"]

GO_ON: Final = (
    "Your last message was cut off by a broken connection. Continue it from exactly where it stops, even in the middle of a "
    "word or a sentence. Repeat nothing of it, add no introduction, no comment and no apology: write only what follows."
)
"""What a model is asked that takes no prefill."""

_SHAPES: Final = ("response_format", "output_config", "output_format", "json_schema", "grammar")
"""Fields of providers' own by which an answer is held to a shape."""
_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")

_BYTES_A_TOKEN: Final = 3
_TOKENS_A_TURN: Final = 8
_TOKENS_AN_IMAGE: Final = 1600
_TOKENS_OUT: Final = 1024


def continued(
    request: Request, provider: Provider, text: str
) -> tuple[Request, Literal["prefill", "user_message"]] | str:
    """`request`, with `text` as the beginning of its answer; or, in words, why there can be none."""
    if not text:
        return "nothing was said yet"
    if request.response_format is not None or _is_shaped(request.extra):
        return "the answer has a shape (response_format), which a second half written apart may break"
    if (request.n or 1) > 1 or request.extra.get("n", 1) != 1:
        return "more than one answer was asked for (n)"
    last = request.messages[-1]
    if provider.dialect == "anthropic" and last.role != "assistant" and text.isspace():
        return "nothing but blanks was said yet, which is no turn for Anthropic"
    before, said = (request.messages[:-1], list(last.content)) if last.role == "assistant" else (request.messages, [])
    said = _joined(said, text)
    extra: Mapping[str, Any] = {}
    if takes_prefill(request, provider, text):
        kind: Literal["prefill", "user_message"] = "prefill"
        if provider.prefill == "partial":
            said.append(OpaquePart(provider=provider.name, payload={"partial": True}))
        elif provider.prefill == "continue":
            extra = {"continue_final_message": True, "add_generation_prompt": False}
        turns = [Message(role="assistant", content=said)]
    else:
        kind = "user_message"
        turns = [Message(role="assistant", content=said), Message(role="user", content=GO_ON)]
    changed = {"messages": [*before, *turns], "extra": {**request.extra, **extra}}
    return request.model_copy(update=changed), kind


def takes_prefill(request: Request, provider: Provider, text: str) -> bool:
    """Whether the model goes on where its last message ends, if that is `text`."""
    if provider.prefill is None or not re.search(provider.prefill_models, request.model):
        return False
    if request.reasoning not in (None, "none") or _thinks(request.extra):
        return False  # an answer that reasons begins with that
    return provider.dialect != "anthropic" or not text[-1].isspace()  # which Anthropic refuses


def tokens_of(request: Request, provider: Provider) -> int:
    """How many tokens the request will use at the most, roughly.

    A token for every three bytes of UTF-8 (a third more than English needs, one for each Chinese character), 1600 for an
    image, 8 for each turn; and for each answer ``max_tokens``, or 1024 where it is not given (4096 for Anthropic, which is
    what is asked of it then).
    """
    size = images = 0
    for message in request.messages:
        for part in message.content:
            if isinstance(part, ImagePart):
                images += 1
            else:
                size += len(part.model_dump_json(exclude_defaults=True).encode())
    size += sum(len(tool.model_dump_json(exclude_defaults=True).encode()) for tool in request.tools)
    if request.response_format is not None:
        size += len(msgspec.json.encode(request.response_format.json_schema))
    given = size // _BYTES_A_TOKEN + images * _TOKENS_AN_IMAGE + len(request.messages) * _TOKENS_A_TURN
    return given + (request.n or 1) * _limit(request, provider)


def _limit(request: Request, provider: Provider) -> int:
    for name in _OUTPUT_LIMITS:
        value = request.extra.get(name)
        if isinstance(value, int):
            return value
    return request.max_tokens or (DEFAULT_MAX_TOKENS if provider.dialect == "anthropic" else _TOKENS_OUT)


def _joined(said: list[Part], text: str) -> list[Part]:
    """The parts of a turn with `text` after them: one part of text, where that is what they end with."""
    last = said[-1] if said else None
    if isinstance(last, TextPart):
        return [*said[:-1], TextPart(text=last.text + text)]
    return [*said, TextPart(text=text)]


def _is_shaped(extra: Mapping[str, Any]) -> bool:
    text = extra.get("text")  # of the Responses API
    return any(extra.get(name) for name in _SHAPES) or (is_mapping(text) and "format" in text)


def _thinks(extra: Mapping[str, Any]) -> bool:
    thinking, template = extra.get("thinking"), extra.get("chat_template_kwargs")
    if is_mapping(thinking) and thinking.get("type") != "disabled":
        return True
    return bool(is_mapping(template) and template.get("enable_thinking"))
