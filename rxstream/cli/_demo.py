"""``rxstream demo``: two tracks, the local model beside a model in the cloud, or beside an honest stand-in for one."""

from __future__ import annotations

from rxstream.cli._models import cloud_keys
from rxstream.cli._track import Track
from rxstream.config import Target
from rxstream.creation import stream
from rxstream.providers import PROVIDERS
from rxstream.sources import local

__all__ = ["demo_tracks"]

LOCAL = "local:smollm2"
CLOUD = {
    "anthropic": "anthropic:claude-haiku-4-5",
    "openai": "openai:gpt-5-mini",
    "xai": "xai:grok-4-fast",
    "groq": "groq:llama-3.1-8b-instant",
    "mistral": "mistral:mistral-small-latest",
    "deepseek": "deepseek:deepseek-chat",
}
"""What to ask of a provider whose key is there: a small model of theirs."""
_MAX_TOKENS = 200


def demo_tracks(prompt: str, model: str | None) -> list[Track]:
    """The local track, and the other.

    Args:
        prompt: What both are asked.
        model: The other track's model; by default the first in `CLOUD` whose key is in the environment, else the stand-in:
            the same local server, reached through the Anthropic SDK as a model in the cloud would be, and sampled otherwise.

    Raises:
        MissingDependency: the local model is not installed; the message has the command.
    """
    here = Track(
        stream(LOCAL, prompt, temperature=0, max_tokens=_MAX_TOKENS, label="local · smollm2"),
        provider="local",
        model="smollm2",
    )
    keys = cloud_keys()
    name = model or next((name for provider, name in CLOUD.items() if provider in keys), None)
    if name is None:
        return [here, _stand_in(prompt)]
    target = Target.parse(name, known=PROVIDERS)
    there = stream(name, prompt, max_tokens=_MAX_TOKENS, label=f"cloud · {target.model}")
    return [here, Track(there, provider=target.provider, model=target.model)]


def _stand_in(prompt: str) -> Track:
    server = local.shared()
    there = stream(
        f"anthropic:{server.model}",
        prompt,
        temperature=0.8,
        max_tokens=_MAX_TOKENS,
        base_url=server.url,
        api_key=server.api_key,
        label="stand-in · smollm2 through the Anthropic SDK",
    )
    return Track(there, provider="local", model=server.model)
