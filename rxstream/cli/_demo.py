"""``rxstream demo``: two tracks, the local model beside a model in the cloud, or beside an honest stand-in for one."""

from __future__ import annotations

from rxstream.cli._models import cloud_keys, local_target
from rxstream.cli._track import Track
from rxstream.config import Target
from rxstream.creation import stream
from rxstream.providers import PROVIDERS
from rxstream.sources import local

__all__ = ["demo_tracks"]

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


def demo_tracks(prompt: str, model: str | None, *, here: str | None = None) -> list[Track]:
    """The local track, and the other.

    Args:
        prompt: What both are asked.
        here: The local track's model; by default the one in a process of its own.
        model: The other track's model; by default the first in `CLOUD` whose key is in the environment, else the stand-in:
            the same local server, reached through the Anthropic SDK as a model in the cloud would be, and sampled otherwise.

    Raises:
        MissingDependency: the local model is not installed; the message has the command.
        ConfigurationError: `model` names no model.
    """
    keys = cloud_keys()
    other = model or next((name for provider, name in CLOUD.items() if provider in keys), None)
    there = (
        None if other is None else _named(other, prompt)
    )  # first: what is wrong with `model` is said before all else
    target = here or local_target()
    name = Target.parse(target, known=PROVIDERS).model
    nearby = Track(
        stream(target, prompt, temperature=0, max_tokens=_MAX_TOKENS, label=f"local · {name}", keep_raw=False),
        target=target,
    )
    return [nearby, there or _stand_in(prompt)]


def _named(target: str, prompt: str) -> Track:
    named = Target.parse(target, known=PROVIDERS)
    label = f"{'here' if PROVIDERS[named.provider].local else 'cloud'} · {named.model}"
    return Track(stream(target, prompt, max_tokens=_MAX_TOKENS, label=label, keep_raw=False), target=target)


def _stand_in(prompt: str) -> Track:
    server = local.shared()
    there = stream(
        f"anthropic:{server.model}",
        prompt,
        temperature=0.8,
        max_tokens=_MAX_TOKENS,
        base_url=server.url,
        api_key=server.api_key,
        label=f"stand-in · {server.model}",
        keep_raw=False,
    )
    variables = [variable for name in CLOUD for variable in PROVIDERS[name].api_key_env]
    note = (
        "The stand-in is the same local model, asked through the Anthropic SDK as a model in the cloud would be, for no "
        f"key is set. For a real one set {', '.join(variables[:-1])} or {variables[-1]}, "
        "or name any model: -m PROVIDER:MODEL"
    )
    return Track(
        there,
        target=f"anthropic:{server.model}",
        base_url=server.url,
        api_key=server.api_key,
        priced_as="local",
        note=note,
    )
