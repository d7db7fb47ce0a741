"""Tool calls of one choice, put together from their fragments.

Rules of this module:

* A fragment belongs to the call of its ``index``; without one, to the call of its ``id``; without either, to the last
  call. A new id on a known index is a new call, and seals the one before it.
* Nothing else is sealed before the ``finish_reason``, for fragments of several calls may come in turn; and then only a call
  whose arguments are whole JSON, for more may follow. The rest, and what went on after its seal, waits for the stream's end.
* An id or name that is repeated is not more of it: the first that is not empty stands.
* Time is linear, however the fragments come: no call is searched for, and none is read twice to see whether it is whole.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from rxstream.events import Event, PartEnd, Raw, ToolCall, ToolCallDelta, ToolCallStart
from rxstream.providers._shared import PartNumbers, is_object

__all__ = ["ToolCalls"]

_MARK: Final = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)  # what opens or closes something in JSON; an escape may hide it


class _Call:
    def __init__(self, part: int, index: int | None, kind: Literal["function", "custom"]) -> None:
        self.part = part
        self.index = index
        self.kind: Literal["function", "custom"] = kind
        self.id = self.name = ""
        self.pieces: list[str] = []
        self.sealed = self.reopened = False
        # How far `is_whole` has read, and what it found there.
        self._read = self._depth = 0
        self._in_string = self._escaped = self._closed = self._whole = False

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def is_whole(self) -> bool:
        """Whether the arguments are a whole JSON value, which the beginning of an object never is."""
        new = [piece for piece in self.pieces[self._read :] if not piece.isspace()]
        self._read = len(self.pieces)
        if new and self._closed:  # what goes on after its end is no JSON, and never will be
            self._whole = False
        elif new:
            for piece in new:
                self._follow(piece)
            self._closed = not (self._depth or self._in_string)
            self._whole = self._closed and _is_json(self.arguments)
        return self._whole

    def _follow(self, piece: str) -> None:
        start, self._escaped = int(self._escaped), False
        for found in _MARK.finditer(piece, start):
            mark = found[0]
            if mark == '"':
                self._in_string = not self._in_string
            elif mark == "\\":  # the next piece begins with what it escapes
                self._escaped = True
            elif not self._in_string:
                self._depth += (mark in "{[") - (mark in "}]")


class ToolCalls:
    """The tool calls of one choice.

    Args:
        choice: Number of the choice.
        parts: Its numbers for parts.
    """

    def __init__(self, choice: int, parts: PartNumbers) -> None:
        self._choice = choice
        self._parts = parts
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}  # the last of it
        self._by_id: dict[str, _Call] = {}  # the first of it
        self._moved: dict[_Call, None] = {}  # calls with something new since the last `settle`, in order

    @property
    def begun(self) -> bool:
        """Whether there is a call."""
        return bool(self._calls)

    @property
    def open(self) -> bool:
        """Whether a call is not sealed yet."""
        return any(not call.sealed for call in self._calls)

    @property
    def cut(self) -> bool:
        """Whether a call is open whose arguments are not whole."""
        return any(not call.sealed and not call.is_whole() for call in self._calls)

    def add(self, entry: Any, raw: bytes | None, out: list[Event]) -> None:
        """Takes one entry of ``tool_calls``, or the value of the older ``function_call``."""
        if not is_object(entry):
            out.append(Raw(name="tool_calls", payload=entry, raw=raw))
            return
        custom = entry.get("custom")
        function = entry.get("function", entry)
        given = custom if is_object(custom) else function if is_object(function) else {}
        call_id, name = _text(entry.get("id")), _text(given.get("name"))
        arguments = _arguments(given.get("input") if given is custom else given.get("arguments"))
        if entry.get("extra_content"):  # Gemini's signature of the thought behind the call
            out.append(Raw(name="extra_content", payload=entry, raw=raw))
        if not (call_id or name or arguments):
            return
        index = _index(entry.get("index"))
        call = self._find(index, call_id, name)
        if call is not None and self._is_other(call, index, call_id, name):
            self._seal(call, raw, out)
            call = None
        is_new = call is None
        if call is None:
            part = self._parts.number(("tool", len(self._calls)))
            call = _Call(part, index, "custom" if given is custom else "function")
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        late = (call_id and not call.id) or (name and not call.name)
        call.id, call.name = call.id or call_id, call.name or name
        if call.id:
            self._by_id.setdefault(call.id, call)
        if is_new or late:
            out.append(ToolCallStart(choice=self._choice, part=call.part, id=call.id, name=call.name, raw=raw))
        self._moved[call] = None
        if arguments:
            call.pieces.append(arguments)
            call.reopened |= call.sealed
            call.sealed = False
            out.append(ToolCallDelta(choice=self._choice, part=call.part, arguments=arguments, raw=raw))

    def settle(self, raw: bytes | None, out: list[Event]) -> None:
        """The choice has its ``finish_reason``: what is whole is sealed. With the rest something may still come."""
        for call in self._moved:
            if not (call.sealed or call.reopened) and call.is_whole():
                self._seal(call, raw, out)
        self._moved.clear()

    def end(self, raw: bytes | None, out: list[Event], *, sure: bool) -> None:
        """The stream ended: all calls are whole. If that is not `sure`, only those whose arguments are whole JSON."""
        for call in self._calls:
            if not call.sealed and (sure or call.is_whole()):
                self._seal(call, raw, out)

    def _find(self, index: int | None, call_id: str, name: str) -> _Call | None:
        by_id = self._by_id.get(call_id)
        if index is not None:
            return self._by_index.get(index) or (by_id if by_id is not None and by_id.index is None else None)
        if call_id:
            return by_id or self._nameless(name)
        return self._calls[-1] if self._calls else None

    def _nameless(self, name: str) -> _Call | None:
        """The last call, if it was begun without an id and this is not the beginning of another."""
        last = self._calls[-1] if self._calls else None
        return last if last is not None and not last.id and not (name and last.name) else None

    def _is_other(self, call: _Call, index: int | None, call_id: str, name: str) -> bool:
        """Whether a fragment begins another call in the place of `call`."""
        if call_id and call.id:
            return call_id != call.id
        if not (name and call.name) or call_id:
            return False
        return (index is None or name != call.name) and call.is_whole()

    def _seal(self, call: _Call, raw: bytes | None, out: list[Event]) -> None:
        if call.sealed:
            return
        call.sealed = True
        out.append(
            ToolCall(
                choice=self._choice,
                part=call.part,
                id=call.id,
                name=call.name,
                arguments=call.arguments,
                kind=call.kind,
                raw=raw,
            )
        )
        out.append(PartEnd(choice=self._choice, part=call.part, kind="tool_call", id=call.id, raw=raw))


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _arguments(value: Any) -> str:
    """Arguments as text: some servers send them as an object."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()
