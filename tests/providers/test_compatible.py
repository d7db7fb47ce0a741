"""The rows of data: that they are complete and cannot be changed by accident."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from rxstream.providers.compatible import COMPATIBLE, Provider, Quirks

BY_NAME = {row.name: row for row in COMPATIBLE}


@pytest.mark.parametrize("row", COMPATIBLE, ids=list(BY_NAME))
def test_a_row_is_complete(row: Provider) -> None:
    """It has an address or is told one, a key's variable if it wants a key, and something that ends an answer."""
    address = urlsplit(row.base_url)
    assert row.dialect == "openai-chat"
    assert not row.base_url or (address.netloc and not row.base_url.endswith("/"))
    assert row.local == (address.hostname == "127.0.0.1")
    assert address.scheme == ("http" if row.local else "https") or not row.base_url
    assert row.base_url or row.base_url_env or row.name == "compatible"
    assert row.api_key_env or not row.key_required
    assert all(name == name.upper() for name in (*row.api_key_env, *row.base_url_env))
    assert set(row.quirks.terminal) & {"done", "finish"}


def test_names_are_used_once() -> None:
    """No row hides another."""
    assert len(BY_NAME) == len(COMPATIBLE)


def test_local_servers_have_their_usual_ports() -> None:
    """And want no key."""
    ports = {row.name: urlsplit(row.base_url).port for row in COMPATIBLE if row.local and not row.key_required}
    assert ports == {"llamacpp": 8080, "local": 8080, "lmstudio": 1234, "ollama": 11434, "vllm": 8000, "litellm": 4000}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("xai", "XAI_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("groq", "GROQ_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("mistral", "MISTRAL_API_KEY"),
        ("together", "TOGETHER_API_KEY"),
        ("perplexity", "PERPLEXITY_API_KEY"),
        ("azure", "AZURE_OPENAI_API_KEY"),
        ("huggingface", "HF_TOKEN"),
    ],
)
def test_keys_are_where_the_field_keeps_them(name: str, key: str) -> None:
    """The first variable is the one that the vendor's own documents name."""
    assert BY_NAME[name].api_key_env[0] == key


def test_a_row_is_frozen() -> None:
    """All streams share it."""
    with pytest.raises(AttributeError):
        setattr(BY_NAME["xai"], "base_url", "https://elsewhere")  # noqa: B010  # a plain assignment does not type-check
    assert hash(BY_NAME["xai"].quirks) == hash(Quirks(reasoning_in_output=False))
