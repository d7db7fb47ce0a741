"""Where requests may go, and with which keys: told at once where it is wrong, by the name of whoever gave it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxstream
from rxstream.config import Request
from rxstream.errors import ConfigurationError, ConnectError
from rxstream.providers import PROVIDERS, provider
from rxstream.sources._address import check_address, check_exposure, check_key, host_of
from rxstream.sources.sdk import Connection, open_stream
from tests.support.asking import DIALECTS, GOOD
from tests.support.live import TRANSPORTS, Transport, watch
from tests.support.server import CLOSE, ScriptedServer, page

KEY = "hidden-word-0123456789"
EXAMPLE = "such as https://host.example/v1 or http://127.0.0.1:8080/v1"
NO_URL = f"must begin with http:// or https:// and a host, {EXAMPLE}"
NO_SIGN = "holds a space, a backslash or a sign that does not show; write it again by hand"
NO_HOST = "is no name of a host and no IP address"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in PROVIDERS.values():
        for name in (*row.api_key_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)


def refusal(attempt: Callable[[], object]) -> str:
    """What is said in refusing it; empty if it is taken. Any other exception is raised."""
    try:
        attempt()
    except ConfigurationError as error:
        return str(error)
    return ""


WRONG: dict[Any, str] = {
    "": NO_URL,
    "host.example/v1": NO_URL,
    "//host.example/v1": NO_URL,
    "https:host.example": NO_URL,
    "http://": NO_URL,
    "http:///v1": NO_URL,
    "http://:80/v1": NO_URL,
    "ftp://host.example": NO_URL,
    "file:///etc/passwd": NO_URL,
    "unix:///run/server": NO_URL,
    "javascript:alert(1)": NO_URL,
    "https://host.example:0": NO_URL,
    "https://host.example:65536": NO_URL,
    "https://host.example:-1": NO_URL,
    "https://host.example:port": NO_URL,
    "https://[::1/v1": NO_URL,
    "https://[nothing]/v1": NO_URL,
    " https://host.example": NO_SIGN,
    "https://host.example/v1\n": NO_SIGN,
    "https://host.example\r\nX-Injected: yes": NO_SIGN,
    "https://ho st.example": NO_SIGN,
    "https://host.example\\@other.example": NO_SIGN,
    "https://host\u202e.example": NO_SIGN,
    "https://host\u200b.example": NO_SIGN,
    "https://host\x00.example": NO_SIGN,
    "https://host..example": NO_HOST,
    "https://.example": NO_HOST,
    "https://" + "a" * 64 + ".example": NO_HOST,
    "https://a%2eb.example": NO_HOST,
    "https://\u3002": NO_HOST,
    "http://127.1": NO_HOST,
    "http://0x7f000001": NO_HOST,
    "http://2130706433": NO_HOST,
    "http://0177.0.0.1": NO_HOST,
    "http://256.1.1.1": NO_HOST,
    "https://user@host.example": "has a user or a password before 'host.example'",
    f"https://user:{KEY}@host.example": "has a user or a password before 'host.example'",
    "http://127.0.0.1@other.example": "has a user or a password before 'other.example'",
    f"https://host.example/v1?key={KEY}": "has a query (?…) or a fragment (#…)",
    f"https://host.example/v1#{KEY}": "has a query (?…) or a fragment (#…)",
    "https://host.example/" + "a" * 3000: f"has 3021 characters; the URL of a server, {EXAMPLE}, is not that long",
    5: f"must be a string with the URL of a server, {EXAMPLE}, not an int",
    b"https://host.example": f"must be a string with the URL of a server, {EXAMPLE}, not a bytes",
}


@pytest.mark.parametrize("url", WRONG, ids=repr)
def test_a_wrong_url_is_refused_where_it_is_given(url: Any) -> None:
    """By the name of the argument; nothing of it but the host is repeated."""
    with pytest.raises(ConfigurationError) as refused:
        rxstream.stream("compatible:m", "hi", base_url=url)
    assert str(refused.value).startswith("base_url: ")
    assert WRONG[url] in str(refused.value)
    assert KEY not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("url", [url for url in WRONG if isinstance(url, str) and url.strip() and "\x00" not in url])
@pytest.mark.parametrize(
    ("name", "variable"),
    [("openai", "OPENAI_BASE_URL"), ("anthropic", "ANTHROPIC_BASE_URL"), ("ollama", "OLLAMA_BASE_URL")],
)
async def test_a_wrong_url_of_the_environment_is_told_the_subscriber(
    name: str, variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the variable; white space around it is forgiven."""
    monkeypatch.setenv(variable, url)
    if url != url.strip():
        return
    outcome = await watch(rxstream.stream(f"{name}:m", "hi", api_key=KEY))
    [error] = outcome.ends
    assert type(error) is ConfigurationError
    assert str(error).startswith(f"{variable}: ")
    assert WRONG[url] in str(error)
    assert KEY not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example",
        "https://HOST.example:8443/a/b/",
        "https://münchen.example/v1",
        "https://xn--mnchen-3ya.example",
        "https://my_service:80",
        "https://host.example.",
        "https://[2001:db8::1]:8080/v1",
        "http://[fe80::1%25eth0]/v1",
        "HTTP://LOCALHOST/v1",
    ],
)
def test_a_right_url_is_taken(url: str) -> None:
    assert check_address(url, named="base_url") == url


@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s]{1,40}", fullmatch=True))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """Never another exception; what is taken has a host that can be shown."""
    said = refusal(lambda: check_exposure(check_address(text, named="base_url"), what="the key"))
    assert said.startswith("base_url: ") if said else host_of(text).isprintable()


# --- keys in the clear --------------------------------------------------------------------------------------------------

NEAR = [
    "http://localhost",
    "http://sub.localhost:8080",
    "http://127.0.0.1:1",
    "http://127.8.9.1",
    "http://[::1]",
    "http://[::ffff:192.168.1.1]",
    "http://10.1.2.3",
    "http://172.31.0.1",
    "http://192.168.0.1",
    "http://169.254.1.1",
    "http://100.64.0.1",
    "http://[fe80::1]",
    "http://[fd00::1]",
    "http://printer.local",
    "http://ollama",
    "http://my_service:11434",
    "http://host.docker.internal:11434",
    "http://nas.home.arpa",
]
FAR = [
    "http://host.example",
    "http://api.openai.com/v1",
    "http://localhost.example.com",
    "http://10.0.0.1.example.com",
    "http://mylocal.com",
    "http://8.8.8.8",
    "http://172.32.0.1",
    "http://[2606:4700::1111]",
    "http://[::ffff:8.8.8.8]",
]


@pytest.mark.parametrize("url", FAR)
def test_no_key_goes_over_the_internet_in_the_clear(url: str) -> None:
    """Whoever wants that has to give a client of their own; without a key there is nothing to read."""
    row = provider("compatible")
    with pytest.raises(ConfigurationError) as refused:
        Connection.to(row, base_url=url, api_key=KEY)
    assert str(refused.value) == (
        f"base_url: the key would go to {host_of(url)} in the clear, for everybody on the way to read; "
        "write https://, or, if it has to be http://, give a client= of your own"
    )
    assert Connection.to(row, base_url=url).base_url == url
    assert Connection.to(row, base_url=url.replace("http:", "https:"), api_key=KEY).provider is row


@pytest.mark.parametrize("url", NEAR)
def test_a_key_may_go_to_the_machine_next_door(url: str) -> None:
    assert Connection.to(provider("compatible"), base_url=url, api_key=KEY).base_url == url


@given(st.ip_addresses())
def test_an_address_is_near_unless_the_internet_routes_it(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    url = f"http://[{address}]" if address.version == 6 else f"http://{address}"
    if address.is_global:
        with pytest.raises(ConfigurationError, match="in the clear"):
            check_exposure(url, what="the key")
    else:
        check_exposure(url, what="the key")


async def test_nor_does_a_key_of_a_header() -> None:
    """Headers whose names say that they hold one count as keys."""
    for name, hidden in (("X-Api-Key", True), ("Authorization", True), ("Cookie", True), ("X-Title", False)):
        request = Request.build(provider="compatible", model="m", messages="hi", extra_headers={name: KEY})
        connection = Connection.to(provider("compatible"), base_url="http://nowhere.invalid.example")
        with pytest.raises(ConfigurationError if hidden else ConnectError) as refused:
            async with open_stream(request, connection):
                pass
        assert KEY not in str(refused.value)
        assert ("a key in extra_headers would go to nowhere" in str(refused.value)) is hidden


async def test_a_client_of_your_own_goes_where_you_say() -> None:
    """That is the way out: it is asked as it is."""
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url="http://nowhere.example/v1", api_key=KEY) as client:
        assert Connection.to(provider("openai-chat"), client=client).base_url == "http://nowhere.example/v1/"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int, name: str, transport: Transport) -> None:
    """Not even on the same machine: the other server gets neither key nor prompt; where it points to is told, without keys."""
    with ScriptedServer(GOOD[name]("Hello")) as other:
        to = f"http://me:{KEY}@127.0.0.1:{other.port}/v1?key={KEY}"
        with ScriptedServer(page(status, "", location=to)) as server:
            url = server.url + DIALECTS[name]
            outcome = await watch(rxstream.stream(f"{name}:m", "hi", base_url=url, api_key=KEY, transport=transport))
        assert not other.requests
    assert str(outcome.error).startswith(f"{host_of(url)} redirects to http://127.0.0.1:{other.port}/v1; set base_url")
    assert KEY not in str(outcome.error)


# --- keys ---------------------------------------------------------------------------------------------------------------

BROKEN = [
    f"{KEY}\nX-Injected: yes",
    f"{KEY} {KEY}",
    f"{KEY}\u2028x",
    f"{KEY}ü",
    f"\ufeff{KEY}",
    f"{KEY}\x00",
    f"{KEY}\t1",
]


@pytest.mark.parametrize("key", BROKEN, ids=ascii)
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Where it is given, by its name, and without a piece of it."""
    with pytest.raises(ConfigurationError) as refused:
        rxstream.stream("compatible:m", "hi", base_url="http://127.0.0.1:1", api_key=key)
    assert str(refused.value).startswith(
        "api_key: is no key: it holds a space, a line break or a letter that is not ASCII"
    )
    assert KEY[:6] not in str(refused.value)


@pytest.mark.parametrize("key", [key for key in BROKEN if "\x00" not in key and key.strip() != KEY], ids=ascii)
async def test_a_broken_key_of_the_environment_is_told_by_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with ScriptedServer([CLOSE]) as server:
        outcome = await watch(rxstream.stream("openai:m", "hi", base_url=f"{server.url}/v1"))
    assert not server.requests
    assert str(outcome.ends[0]).startswith("OPENAI_API_KEY: is no key: ")
    assert KEY[:6] not in str(outcome.ends[0])


@pytest.mark.parametrize(
    ("key", "what"), [(7, "an int"), (b"bytes", "a bytes"), (["list"], "a list"), (True, "a bool")]
)
def test_a_key_is_a_string(key: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^api_key: must be a string, not {what}$"):
        rxstream.stream("openai:m", "hi", api_key=key)


@pytest.mark.parametrize("around", ["{}\n", "  {}", "\t{}\r\n"])
async def test_white_space_around_a_key_is_no_part_of_it(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file or a careless copy leaves it."""
    monkeypatch.setenv("OPENAI_API_KEY", around.format(KEY))
    with ScriptedServer(GOOD["openai"]("Hello")) as server:
        outcome = await watch(rxstream.stream("openai:m", "hi", base_url=f"{server.url}/v1"))
    outcome.assert_complete()
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    said = refusal(lambda: check_key(text, named="api_key"))
    assert said or text.strip().isascii()
    assert len(text) < 4 or text not in said
