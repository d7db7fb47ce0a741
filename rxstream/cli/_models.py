"""``rxstream models``: what could be used here, and what is missing."""

from __future__ import annotations

import argparse
import http.client
import json
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from rxstream.errors import ConfigurationError
from rxstream.providers import PROVIDERS, Provider
from rxstream.sinks.console import printable
from rxstream.sources.local import missing

__all__ = ["cloud_keys", "print_models"]

_PATIENCE = 0.5
"""Seconds to wait for a server on this machine."""
_SHOWN = 6
"""Models to name of a server that has many."""


def print_models(arguments: Sequence[str]) -> int:
    """Print a line a provider, those that can be used first."""
    parser = argparse.ArgumentParser(
        prog="rxstream models", description="List what could be used here, and what is missing."
    )
    parser.parse_args(arguments)
    rows = sorted({row.name: row for row in PROVIDERS.values()}.values(), key=lambda row: (not row.local, row.name))
    found = [(row.name, *_state(row)) for row in rows]
    width = max(len(name) for name, _, _ in found)
    for title, wanted in (("Can be used here:", True), ("Missing something:", False)):
        lines = [f"  {name:<{width}}  {printable(words)}" for name, usable, words in found if usable is wanted]
        print("\n".join([title, *(lines or ["  nothing"]), ""]))
    print(f'Use one as: rxstream -m {"PROVIDER:MODEL":<{width}} "prompt"')
    return 0


def cloud_keys() -> dict[str, str]:
    """Providers whose key is in the environment, and the variable that has it."""
    return {
        row.name: variable
        for row in PROVIDERS.values()
        if row.key_required and (variable := _first_set(row.api_key_env)) is not None
    }


def _state(row: Provider) -> tuple[bool, str]:
    """Whether `row` can be used, and what to say of it."""
    if row.name == "local":
        lacking = missing()
        return (lacking is None, lacking or "local:smollm2, started in this process when it is asked")
    address = _first_value(row.base_url_env) or row.base_url
    if not address:
        return False, _need("an address: base_url=, --base-url", row.base_url_env)
    if row.local:
        return _ask(address)
    variable = _first_set(row.api_key_env)
    if variable is None and row.key_required:
        return False, _need("a key", row.api_key_env)
    return True, f"key from {variable}"


def _need(what: str, variables: tuple[str, ...]) -> str:
    return f"needs {what}" + (f" or the variable {' or '.join(variables)}" if variables else "")


def _first_set(variables: tuple[str, ...]) -> str | None:
    return next((name for name in variables if os.environ.get(name)), None)


def _first_value(variables: tuple[str, ...]) -> str:
    name = _first_set(variables)
    return os.environ[name] if name is not None else ""


def _ask(address: str) -> tuple[bool, str]:
    """Ask a server on this machine which models it has."""
    parts = urlsplit(address)
    if not parts.hostname:
        raise ConfigurationError(f"{address!r} is not an address of a server")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_PATIENCE)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models")
        names = [model["id"] for model in json.loads(connection.getresponse().read())["data"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return False, f"no server answers at {address}"
    finally:
        connection.close()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return True, f"at {address}: {', '.join(names[:_SHOWN]) or 'no model loaded'}{more}"
