"""Who serves models: one row of data for each, most of them servers that speak OpenAI's Chat Completions.

Rules of this module:

* A row is knowledge, never code: the decoders and encoders are tolerant by default and work for a server without a row.
* A row says only what is true of the server and makes a difference: where it is, which key it wants, and how its words differ.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["COMPATIBLE", "Cursor", "Dialect", "Evidence", "Prefill", "Provider", "Quirks"]

Dialect = Literal["anthropic", "openai-chat", "openai-responses"]
"""Anthropic's Messages, OpenAI's Chat Completions, OpenAI's Responses."""

Evidence = Literal["done", "finish", "usage"]
"""What shows that an answer is whole: the ``[DONE]`` mark; a ``finish_reason`` for each choice; a usage report."""

Cursor = Literal["bytes", "events"]
"""How an answer that was cut is taken up again: llama.cpp's streams from a byte on; OpenAI's background responses from the
event after a sequence number."""

Prefill = Literal["last", "partial", "continue"]
"""How a model is made to go on after an assistant's text: it does wherever that comes last; where the message is marked
``partial``; where the request says ``continue_final_message``."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How a server's Chat Completions differ. The defaults suit a server of which nothing is known."""

    terminal: tuple[Evidence, ...] = ("done", "finish")
    """What completes an answer at the end of the body; any one of these is enough."""
    ask_usage: bool = True
    """Whether the request asks for usage with ``stream_options``; False where it comes unasked, or asking is refused."""
    reasoning_in_output: bool = True
    """Whether ``completion_tokens`` includes reasoning."""
    reasoning_field: str = ""
    """The name under which reasoning of earlier turns goes back to the server; empty where it must not."""
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the limit on output tokens."""
    keeps_connections: bool = True
    """Whether a connection can be used again; else each request has its own."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves a model, and how to talk to them."""

    name: str
    dialect: Dialect = "openai-chat"
    base_url: str = ""
    """Where it is; empty where only the user knows."""
    base_url_env: tuple[str, ...] = ()
    """Environment variables that name another address, first found first."""
    api_key_env: tuple[str, ...] = ()
    """Environment variables that hold the key, first found first."""
    key_required: bool = True
    local: bool = False
    """Whether it usually runs on the user's own machine, where tokens cost nothing."""
    cursor: Cursor | None = None
    """How it gives the rest of an answer that was cut; None where it cannot."""
    prefill: Prefill | None = None
    """How its models go on after a text of theirs; None where that is not documented, or where they would say it again."""
    prefill_models: str = ""
    """A pattern found in the names of the models that do; empty where all do."""
    quirks: Quirks = Quirks()


_TOLERANT: Final = Quirks()
_THINKS: Final = Quirks(reasoning_field="reasoning_content")


def _hosted(
    name: str,
    base_url: str,
    *keys: str,
    quirks: Quirks = _TOLERANT,
    base_url_env: tuple[str, ...] = (),
    partial: str = "",
) -> Provider:
    return Provider(
        name=name,
        base_url=base_url,
        api_key_env=keys,
        quirks=quirks,
        base_url_env=base_url_env,
        prefill="partial" if partial else None,
        prefill_models=partial,
    )


def _local(
    name: str,
    port: int,
    *keys: str,
    quirks: Quirks,
    base_url_env: tuple[str, ...] = (),
    cursor: Cursor | None = None,
    prefill: Prefill | None = None,
) -> Provider:
    return Provider(
        name=name,
        base_url=f"http://127.0.0.1:{port}/v1",
        base_url_env=base_url_env,
        api_key_env=keys,
        key_required=False,
        local=True,
        quirks=quirks,
        cursor=cursor,
        prefill=prefill,
    )


# A server of this family that is interrupted says [DONE] all the same, but gives no finish_reason. After an answer it now
# and then closes the connection without a word, in the moment of the next request: one in 250 failed of it.
_LLAMACPP: Final = Quirks(terminal=("finish",), reasoning_field="reasoning_content", keeps_connections=False)

COMPATIBLE: Final = (
    Provider(name="compatible", key_required=False),
    # On the user's machine.
    _local("llamacpp", 8080, "LLAMA_API_KEY", quirks=_LLAMACPP, cursor="bytes", prefill="last"),
    _local("local", 8080, quirks=_LLAMACPP, cursor="bytes", prefill="last"),
    _local("lmstudio", 1234, "LM_API_TOKEN", quirks=_THINKS),
    _local(
        "ollama",
        11434,
        "OLLAMA_API_KEY",
        base_url_env=("OLLAMA_BASE_URL",),
        # It ends whole answers with a null finish_reason now and then; its usage report comes last.
        quirks=Quirks(terminal=("done", "finish", "usage"), reasoning_field="reasoning"),
    ),
    _local("vllm", 8000, "VLLM_API_KEY", quirks=Quirks(reasoning_field="reasoning"), prefill="continue"),
    _local("litellm", 4000, "LITELLM_API_KEY", quirks=_THINKS),
    # Hosted.
    _hosted(
        "alibaba",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        quirks=_THINKS,
        partial=r"^qwen",
    ),
    _hosted(
        "azure",
        "",
        "AZURE_OPENAI_API_KEY",
        base_url_env=("AZURE_OPENAI_BASE_URL",),
        quirks=Quirks(max_tokens="max_completion_tokens"),
    ),
    _hosted("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", quirks=Quirks(reasoning_field="reasoning")),
    _hosted("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", quirks=_THINKS),
    _hosted("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", quirks=_THINKS),
    _hosted("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "GOOGLE_API_KEY"),
    _hosted("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", quirks=Quirks(reasoning_field="reasoning")),
    _hosted("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN"),
    # Usage comes unasked, and unknown fields of the request are refused.
    _hosted("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", quirks=Quirks(ask_usage=False)),
    _hosted(
        "moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", quirks=_THINKS, partial=r"^(?:kimi|moonshot)-"
    ),
    _hosted(
        "openrouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        quirks=Quirks(reasoning_field="reasoning"),
    ),
    # Usage comes unasked, with every chunk.
    _hosted(
        "perplexity",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        "PPLX_API_KEY",
        quirks=Quirks(ask_usage=False),
    ),
    _hosted("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    _hosted(
        "vercel", "https://ai-gateway.vercel.sh/v1", "AI_GATEWAY_API_KEY", quirks=Quirks(reasoning_field="reasoning")
    ),
    _hosted("xai", "https://api.x.ai/v1", "XAI_API_KEY", quirks=Quirks(reasoning_in_output=False)),
    _hosted("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY", quirks=_THINKS),
)
"""Everybody who speaks Chat Completions but is not OpenAI."""
