"""``rxstream models``: what could be used here, and what is missing."""

from __future__ import annotations

import argparse
import http.client
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS, Provider
from rxstream.sinks.console import printable
from rxstream.sources._address import check_address, check_exposure, check_key
from rxstream.sources.local import LocalServer, missing

__all__ = ["cloud_keys", "local_target", "print_models"]

_PATIENCE = 0.5
"""Seconds to wait for a server on this machine."""
_SHOWN = 6
"""Models to name of a server that has many."""
_LONGEST = 80
"""Characters of a model's name."""
_MOST_BYTES = 1_000_000
"""Of a server's list of models."""
_START = {
    "litellm": "litellm --model MODEL",
    "llamacpp": "llama-server -m FILE.gguf",
    "lmstudio": "lms server start",
    "ollama": "ollama serve",
    "vllm": "vllm serve MODEL",
}
"""What starts a server."""


def print_models(arguments: Sequence[str]) -> int:
    """Print a line a provider, those that can be used first."""
    parser = argparse.ArgumentParser(
        prog="rxstream models", description="List what could be used here, and what is missing."
    )
    parser.parse_args(arguments)
    rows = sorted({row.name: row for row in PROVIDERS.values()}.values(), key=lambda row: (not row.local, row.name))
    with ThreadPoolExecutor(len(rows)) as threads:  # the servers are asked at the same time
        states = list(threads.map(_state, rows))
    width = max(len(row.name) for row in rows)
    for title, wanted in (("Can be used here:", True), ("Missing something:", False)):
        print(title)
        for row, (usable, words) in zip(rows, states, strict=True):
            if usable is wanted:
                print(f"  {row.name:<{width}}  {printable(' '.join(words.split()))}")
        if not any(usable is wanted for usable, _ in states):
            print("  nothing")
        print()
    print('Use one as: rxstream -m PROVIDER:MODEL "prompt"')
    return 0


def cloud_keys() -> dict[str, str]:
    """Providers whose key is in the environment, and the variable that has it."""
    return {
        row.name: variable
        for row in PROVIDERS.values()
        if row.key_required and (variable := _first_set(row.api_key_env)) is not None
    }


def local_target() -> str:
    """The target of the model in this process, such as ``local:smollm2``.

    Raises:
        MissingDependency: its weights are not installed; the message has the command.
        ConfigurationError: they cannot be read.
    """
    return f"local:{LocalServer().model}"


def _state(row: Provider) -> tuple[bool, str]:
    """Whether `row` can be used, and what to say of it."""
    if row.name == "local":
        lacking = missing()
        return (False, lacking) if lacking else (True, f"{local_target()}, started in this process when it is asked")
    address = _first_value(row.base_url_env) or row.base_url
    if row.local:
        return _ask(row, address)
    needs: list[str] = []
    if not address:
        needs.append(f"an address: {_export(row.base_url_env, 'URL') if row.base_url_env else '--base-url URL'}")
    if row.key_required and _first_set(row.api_key_env) is None:
        needs.append(f"a key: {_export(row.api_key_env, 'KEY')}")
    if needs:
        return False, "needs " + ", and ".join(needs)
    return True, f"key from {_first_set(row.api_key_env)}"


def _export(variables: Sequence[str], value: str) -> str:
    others = f" (or {', '.join(variables[1:])})" if len(variables) > 1 else ""
    return f"export {variables[0]}={value}{others}"


def _first_set(variables: tuple[str, ...]) -> str | None:
    return next((name for name in variables if os.environ.get(name, "").strip()), None)


def _first_value(variables: tuple[str, ...]) -> str:
    name = _first_set(variables)
    return os.environ[name].strip() if name is not None else ""


def _ask(row: Provider, address: str) -> tuple[bool, str]:
    """Ask a server on this machine which models it has."""
    try:
        check_address(address, named=_first_set(row.base_url_env) or "base_url")
        if key := _first_value(row.api_key_env):
            check_exposure(address, what="the key")
            check_key(key, named=str(_first_set(row.api_key_env)))
        status, body = _get(f"{address.rstrip('/')}/models", key)
    except ConfigurationError as error:
        return False, str(error)
    except (OSError, http.client.HTTPException):
        return False, f"no server answers at {address}; start it: {_START[row.name]}"
    if status in (401, 403):
        return False, f"the server at {address} wants a key: {_export(row.api_key_env, 'KEY')}"
    try:
        names = [str(model["id"])[:_LONGEST] for model in json.loads(body)["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False, f"what answers at {address} (HTTP {status}) has no list of models: another program's server?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return True, f"at {address}: {', '.join(names[:_SHOWN]) or 'no model loaded'}{more}"


def _get(url: str, key: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    try:
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read(_MOST_BYTES)
    finally:
        connection.close()
