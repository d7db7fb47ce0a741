"""What rxstream says through the standard library's `logging`: one logger, ``rxstream``, quiet unless something is lost.

Rules of this module:

* Every record has the facts of what it tells as data, in ``record.rxstream``: a dict of plain values, made by `facts`.
* Neither a prompt nor an answer nor a key is logged: a fact is a name, a number, a type. A provider may repeat the prompt in what it
  says of an error, so its words are not logged (`words`), nor a traceback that has them (`trace`). What a function of the program
  raises is the program's own, and is logged with its traceback.
* No handler is ours. Where no logging is set up Python prints warnings and errors on standard error, and nothing else: an
  error that no subscriber took is not to vanish.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from rxstream import errors

__all__ = ["facts", "log", "trace", "words"]

log: Final = logging.getLogger("rxstream")
"""The logger of the whole package."""


_OURS: Final = (
    errors.BulkheadFull,
    errors.CircuitOpen,
    errors.ConnectError,
    errors.Disconnected,
    errors.LimitExceeded,
    errors.RecordingFailed,
    errors.SequenceGap,
    errors.StreamIncomplete,
    errors.TimedOut,
)
"""Errors of a stream whose words are ours, where they have nothing that only a provider knows."""


def facts(what: str, **values: object) -> dict[str, Any]:
    """The ``extra`` of a record: `what` happened, and `values` that are not None; of an error its type and ids, never its text.

    Example:
        >>> facts("stream-failed", error=ValueError("the prompt"), attempt=2, model=None)
        {'rxstream': {'what': 'stream-failed', 'error': 'ValueError', 'attempt': 2}}
    """
    told: dict[str, Any] = {"what": what}
    for name, value in values.items():
        if isinstance(value, BaseException):
            told[name] = type(value).__name__
            for field in ("provider", "model", "status", "code", "request_id"):
                if known := getattr(value, field, None):
                    told[field] = known
        elif value is not None:
            told[name] = value if isinstance(value, (str, int, float)) else type(value).__name__
    return {"rxstream": told}


def words(error: BaseException) -> str:
    """The kind of `error`, and what it says, unless that may be a provider's.

    Example:
        >>> words(errors.Disconnected("the server closed the connection"))
        'Disconnected: the server closed the connection'
        >>> words(errors.BadRequest("the prompt is too long: ...", status=400, code="too_long"))
        'BadRequest (status=400, code=too_long)'
    """
    if not _quotes(error):
        return f"{type(error).__name__}: {error}"
    known = facts("", error=error)["rxstream"]
    where = ", ".join(f"{name}={value}" for name, value in known.items() if name not in ("what", "error"))
    return f"{type(error).__name__} ({where})" if where else type(error).__name__


def trace(error: BaseException) -> BaseException | None:
    """``exc_info`` of a record: `error`, unless a provider may speak in it, or in what it came of."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            if _quotes(one):
                return None
            seen.add(id(one))
            pending += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return error


def _quotes(error: BaseException) -> bool:
    """Whether what `error` says may be a provider's words, or somebody's reason to cancel."""
    seen: set[int] = set()
    while isinstance(error, errors.StreamError):
        if error.body or error.status is not None or error.code:
            return True
        if isinstance(error, _OURS):
            return False
        seen.add(id(error))
        if error.__cause__ is None or id(error.__cause__) in seen:
            return True
        error = error.__cause__  # of a source's own code
    return hasattr(error, "body")  # an SDK's
