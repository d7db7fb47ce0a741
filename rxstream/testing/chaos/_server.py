"""The chaos server: three dialects, one script, and faults by plan.

Rules of this module:

* Whatever is asked is answered with the script. A request that asks to go on after a beginning of the script's text is
  answered with the rest.
* The plan says what befalls the n-th request that asks for a stream: a question, or the rest of an answer. All else (models,
  look-ups, cancellations) is answered well.
* All that it knows is told in `Served` records, for every thread to read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from rxstream import _check as check
from rxstream._input import is_mapping
from rxstream.errors import ConfigurationError
from rxstream.providers.compatible import Dialect
from rxstream.testing.chaos._answer import Answer, play
from rxstream.testing.chaos._engine import ScriptedServer
from rxstream.testing.chaos._errors import error_body
from rxstream.testing.chaos._exchange import Exchange, Recorded
from rxstream.testing.chaos._faults import Fault, Faults, befall, several
from rxstream.testing.chaos._frames import Frame, frames
from rxstream.testing.chaos._generation import Generation
from rxstream.testing.chaos._kept import Kept
from rxstream.testing.chaos._render import render
from rxstream.testing.chaos._said import said_before
from rxstream.testing.chaos._script import DIALECTS, Script
from rxstream.testing.chaos._served import Served
from rxstream.testing.chaos._steps import END, PATIENCE, Head

__all__ = ["ChaosServer", "Plan"]

Plan = str | Fault | Sequence[Faults] | Callable[[Served], Faults] | None
"""What befalls which: one fault, all answers; a list, the n-th answer the n-th, all further ones nothing; a function, each
answer what it says."""

_ASKED: Final[dict[str, Dialect]] = {
    "/messages": "anthropic",
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
}
_LAST_PORT: Final = 65535
_HEADERS: Final = {"openai-responses": "x-request-id", "openai-chat": "x-request-id", "anthropic": "request-id"}


class ChaosServer:
    """A server on the loopback that answers with a script, and fails as it is told: a context manager, from any thread.

    An exception in a function of the plan is raised when the context is left.

    Args:
        script: What the model says: a `Script`, a text (a word is a piece), or a function that says it for each request.
        faults: What goes wrong with which answer. A fault, such as ``"reset:content=2"`` or `Fault`, befalls every answer. Of a
            list, the first befalls the first answer, and so on, then nothing more; a list in it is several faults at once,
            None none. A function is asked for every answer.
        rate: Events a second that the model makes; None for all at once.
        headers: Further headers of every good answer, such as rate limits.
        host: The address that it listens on.
        port: The port; 0 takes a free one.
        tell: Called in the server's thread with each record when its answer has ended.
        remember: How many records and kept answers there are at most; the oldest are forgotten.

    Raises:
        ConfigurationError: an option has a wrong value.
        OSError: on entering, where the port cannot be had.

    Example:
        >>> from urllib.request import Request, urlopen
        >>> with ChaosServer("Why not?") as server:
        ...     request = Request(server.base_url("openai-chat") + "/chat/completions", b'{"stream": true}')
        ...     with urlopen(request) as response:
        ...         body = response.read()
        ...     server.requests[0].text_sent, server.requests[0].ended
        ('Why not?', 'complete')
    """

    def __init__(
        self,
        script: Script | str | Callable[[Served], Script | str],
        *,
        faults: Plan = None,
        rate: float | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tell: Callable[[Served], object] | None = None,
        remember: int = 10_000,
    ) -> None:
        self._script = script if callable(script) else _scripted(script)
        self._plan = _planned(faults)
        self._rate = None if rate is None else check.positive("rate", rate)
        if check.count("port", port, least=0) > _LAST_PORT:
            raise ConfigurationError(f"port={port}: must be at most {_LAST_PORT}")
        if tell is not None:
            check.function("tell", tell)
        self._headers = dict(headers or {})
        self._tell = tell
        self._remember = check.count("remember", remember)
        self._engine = ScriptedServer(self._answer, host=host, port=port)
        self._count = 0
        self._kept: dict[str, Kept] = {}
        self.requests: list[Served] = []
        """The requests that asked for a stream, in the order in which they came."""
        self.others: list[Served] = []
        """All other requests."""
        self.cancelled: list[str] = []
        """The ids of kept answers that clients asked to stop, in that order."""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``"""
        return self._engine.url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._engine.port

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._engine.connections

    @property
    def open_connections(self) -> int:
        """TCP connections that neither side has closed."""
        return self._engine.open_connections

    def base_url(self, dialect: Dialect) -> str:
        """What a client of this dialect is to be given.

        Raises:
            ConfigurationError: there is no such dialect.
        """
        check.one_of("dialect", dialect, DIALECTS)
        return self.url if dialect == "anthropic" else f"{self.url}/v1"

    def kept(self, name: str) -> Kept | None:
        """The answer that is kept under this id: of a response, or of a conversation."""
        return self._kept.get(name)

    def wait_left(self, request: int = -1, *, timeout: float = PATIENCE) -> Served:
        """Block until the client of this request is seen to leave, and give its record.

        A client that keeps its connection for the next request, after an answer that was complete, has not left.

        Raises:
            TimeoutError: it was not, for `timeout` seconds.
        """
        served = self.requests[request]
        try:
            served.left.wait(timeout)
        except TimeoutError:
            how = served.ended or f"goes on, phase {served.phase}"
            raise TimeoutError(f"the client has not left within {timeout:g} s; its answer: {how}") from None
        return served

    def down(self) -> None:
        """Refuse connections from now on, and drop those that are open; from any thread."""
        self._engine.down()

    def up(self) -> None:
        """Listen again, on the same port; from any thread."""
        self._engine.up()

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.__exit__()

    # --- requests -----------------------------------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        address = urlsplit(request.path)
        path = address.path.rpartition("/v1")[2] or address.path
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        dialect = _ASKED.get(path)
        if request.method == "POST" and dialect is not None:
            await self._ask(exchange, dialect)
        elif request.method == "GET" and path.startswith("/responses/") and query.get("stream") == "true":
            kept = self._kept.get(path.removeprefix("/responses/"))
            await self._go_on(exchange, kept, kept.after(_number(query, "starting_after", -1)) if kept else [])
        elif request.method == "GET" and path == "/stream":
            kept = self._kept.get(query.get("conv_id", ""))
            await self._go_on(exchange, kept, kept.since(_number(query, "from", 0)) if kept else [])
        else:
            served = self._note(Served(request, -1, None), self.others)
            status, body = self._other(request, path, query)
            served.outcome = "complete" if status < 400 else "refused"
            await _send_json(exchange, status, body)
            self._over(served)

    async def _ask(self, exchange: Exchange, dialect: Dialect) -> None:
        """Somebody asks the model."""
        try:
            asked = exchange.request.json
        except ValueError:
            asked = None
        if not is_mapping(asked) or asked.get("stream") is not True:
            served = self._note(Served(exchange.request, -1, dialect, outcome="refused"), self.others)
            why = "this server answers with streams only" if is_mapping(asked) else "the request is no JSON object"
            await _send_json(exchange, 400, error_body(dialect, "request", why))
            self._over(served)
            return
        served = self._next(exchange, dialect)
        answer, name = self._made(served, asked, dialect)
        await self._give(exchange, served, answer, keep=name)

    def _made(self, served: Served, asked: Mapping[str, Any], dialect: Dialect) -> tuple[Answer, str]:
        """A new answer, and the id under which it is to be kept."""
        script = _scripted(self._script(served)) if callable(self._script) else self._script
        said = said_before(asked, script.text)
        served.continued = len(said)
        number = served.number + 1
        if said:
            script = script.rest(said)
        if dialect == "openai-chat" and not _wants_usage(asked):
            script = script.without_usage()
        body = _body(script, dialect, str(asked.get("model") or "scripted-1"), number)
        generation = Generation(body, self._rate)
        answer = Answer(dialect, generation, body, Head(headers={_HEADERS[dialect]: f"req_{number}", **self._headers}))
        name = served.headers.get("x-conversation-id", "")
        if not name and dialect == "openai-responses" and asked.get("background") is True:
            name = str(body[0].payload["response"]["id"])
        return answer, name

    async def _go_on(self, exchange: Exchange, kept: Kept | None, rest: list[Frame]) -> None:
        """Somebody comes back for the rest of an answer."""
        served = self._next(exchange, kept.dialect if kept else None)
        if kept is None:
            served.outcome = "refused"
            await _send_json(exchange, 404, error_body("openai-responses", "not_found"))
            self._over(served)
            return
        await self._give(exchange, served, Answer(kept.dialect, kept.generation, rest))

    def _next(self, exchange: Exchange, dialect: Dialect | None) -> Served:
        """The record of the next request for a stream."""
        self._count += 1
        return self._note(Served(exchange.request, self._count - 1, dialect), self.requests)

    def _note(self, served: Served, where: list[Served]) -> Served:
        where.append(served)
        del where[: -self._remember], self._engine.requests[: -self._remember]
        return served

    async def _give(self, exchange: Exchange, served: Served, answer: Answer, *, keep: str = "") -> None:
        faults = several(self._plan(served))
        served.faults = tuple(map(str, faults))
        answer.lasting = bool(keep) or served.request.method == "GET"
        befall(answer, faults, stages=(0, 1))
        if keep and not answer.page:
            self._kept.pop(keep, None)
            self._kept[keep] = Kept(keep, answer.dialect, answer.generation, list(answer.frames))
            if len(self._kept) > self._remember:
                del self._kept[next(iter(self._kept))]
        befall(answer, faults, stages=(2,))
        try:
            await play(answer, exchange, served)
        except asyncio.CancelledError:
            served.outcome = served.ended or "stopped"
            raise
        finally:
            self._over(served)

    def _over(self, served: Served) -> None:
        if self._tell is not None:
            self._tell(served)

    # --- all else -----------------------------------------------------------------------------------------------------------

    def _other(self, request: Recorded, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        """The status and the JSON of an answer that is no stream."""
        match request.method, path.strip("/").split("/"):
            case "GET", ["models"]:
                model = {"id": "scripted-1", "object": "model", "type": "model", "created": 1, "owned_by": "rxstream"}
                return 200, {"object": "list", "data": [model], "has_more": False}
            case "GET", ["health"]:
                return 200, {"status": "ok"}
            case "GET", ["responses", name] if name in self._kept:
                return 200, self._kept[name].response
            case "POST", ["responses", name, "cancel"] if name in self._kept:
                return 200, self._cancel(name).response
            case "DELETE", ["stream"] if (name := query.get("conv_id", "")) in self._kept:
                self._cancel(name)
                return 204, None
            case "POST", ["streams", "lookup"]:
                names = request.json.get("conversation_ids", [])
                return 200, [self._kept[name].session for name in names if name in self._kept]
            case _:
                return 404, error_body("openai-responses", "not_found")

    def _cancel(self, name: str) -> Kept:
        self.cancelled.append(name)
        self._kept[name].generation.cancel()
        return self._kept[name]


def _scripted(script: object) -> Script:
    if not isinstance(script, (Script, str)):
        raise ConfigurationError(f"script={script!r}: must be a Script, a text, or a function that gives one of them")
    return Script.of_text(script) if isinstance(script, str) else script


def _wants_usage(asked: Mapping[str, Any]) -> bool:
    options: Any = asked.get("stream_options")
    return is_mapping(options) and options.get("include_usage") is True


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name, "")
    return int(value) if value.isdecimal() else default


def _body(script: Script, dialect: Dialect, model: str, number: int) -> list[Frame]:
    if script.tape is not None and script.tape[0] == dialect:
        return frames(script.tape[1], dialect)
    return frames(render(script, dialect, model=model, number=number), dialect)


def _planned(plan: Plan) -> Callable[[Served], Faults]:
    """The plan as a function; what is written in it is checked now."""
    if callable(plan):
        return plan
    if not isinstance(plan, Sequence) or isinstance(plan, str):
        always = several(plan)
        return lambda _: always
    turns = [several(faults) for faults in plan]
    return lambda served: turns[served.number] if served.number < len(turns) else ()


async def _send_json(exchange: Exchange, status: int, body: Any) -> None:
    if status == 204:
        await exchange.wire(b"HTTP/1.1 204 No Content\r\n\r\n")
        return
    await exchange.head(Head(status, "application/json"))
    await exchange.send(json.dumps(body).encode())
    await exchange.finish(END)
