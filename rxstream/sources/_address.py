"""Where a request may go: the URL of a web server, written as it is meant, that no key is sent to in the clear.

Rules of this module:

* What is refused is told by the name of whoever gave it: an argument, or a variable of the environment.
* A refusal repeats no more of a URL than its host: the rest may hold a key.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from rxstream._check import kind_of
from rxstream.errors import ConfigurationError

__all__ = ["check_address", "check_exposure", "check_key", "host_of"]

_LONGEST: Final = 2048
_EXAMPLE: Final = "such as https://host.example/v1 or http://127.0.0.1:8080/v1"
_NEARBY: Final = (".local", ".localhost", ".internal", ".home.arpa", ".test", ".invalid")
"""Ends of names that no server of the internet has."""
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?", re.IGNORECASE)
"""Hosts that programs take for an IP address, however odd they are written."""


def check_address(url: object, *, named: str) -> str:
    """`url`, the URL of a web server, which `named` gave.

    Raises:
        ConfigurationError: it is none; or it has parts that do not belong into it.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{named}: must be a string with the URL of a server, {_EXAMPLE}, not {kind_of(url)}")
    if len(url) > _LONGEST:
        raise ConfigurationError(
            f"{named}: has {len(url)} characters; the URL of a server, {_EXAMPLE}, is not that long"
        )
    if any(char.isspace() or not char.isprintable() or char == "\\" for char in url):
        raise ConfigurationError(
            f"{named}: holds a space, a backslash or a sign that does not show; write it again by hand"
        )
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, known = urlsplit(""), False
    if not known:
        raise ConfigurationError(f"{named}: must begin with http:// or https:// and a host, {_EXAMPLE}")
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{named}: has a user or a password before {_host(parts)!r}; a key goes into api_key=, "
            "anything else into extra_headers={'Authorization': …}"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"{named}: has a query (?…) or a fragment (#…); a key goes into api_key=, else give client="
        )
    if not _is_host(_host(parts)):
        raise ConfigurationError(f"{named}: {_host(parts)[:64]!r} is no name of a host and no IP address")
    return url


def check_exposure(url: str, *, what: str) -> None:
    """`what`, which holds a key, is not sent to `url` such that others can read it on its way.

    Raises:
        ConfigurationError: it would be: the URL is not encrypted, and its host is not on this machine or network.
    """
    if _is_exposed(url):
        raise ConfigurationError(
            f"base_url: {what} would go to {host_of(url)} in the clear, for everybody on the way to read; "
            "write https://, or, if it has to be http://, give a client= of your own"
        )


def check_key(key: object, *, named: str) -> str:
    """`key`, which `named` gave, without the white space around it.

    Raises:
        ConfigurationError: no header can carry it.
    """
    if not isinstance(key, str):
        raise ConfigurationError(f"{named}: must be a string, not {kind_of(key)}")
    word = key.strip()
    if any(not "!" <= char <= "~" for char in word):
        raise ConfigurationError(
            f"{named}: is no key: it holds a space, a line break or a letter that is not ASCII; copy it again, on one line"
        )
    return word


def host_of(url: str) -> str:
    """Host and port of a URL, without what may be a key in it."""
    parts = urlsplit(url)
    host = f"[{_host(parts)}]" if ":" in _host(parts) else _host(parts)
    return f"{host}:{parts.port}" if parts.port else host


def _host(parts: SplitResult) -> str:
    return parts.hostname or ""


def _is_host(host: str) -> bool:
    if ":" in host or _NUMERIC.fullmatch(host):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        return False
    return bool(re.fullmatch(r"[\w.-]+", name, re.ASCII)) and len(name) < 254


def _is_exposed(url: str) -> bool:
    """Whether what is sent to `url` can be read on its way: it is not encrypted, and leaves the local network."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    host = _host(parts).rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." in host and not host.endswith(_NEARBY)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_global
