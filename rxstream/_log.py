"""What rxstream says through the standard library's `logging`: one logger, ``rxstream``, quiet unless something is lost.

Rules of this module:

* Every record has the facts of what it tells as data, in ``record.rxstream``: a dict of plain values, made by `facts`.
* Neither a prompt nor an answer nor a key is logged: a fact is a name, a number, a type.
* No handler is ours. Where no logging is set up Python prints warnings and errors on standard error, and nothing else: an
  error that no subscriber took is not to vanish.
"""

from __future__ import annotations

import logging
from typing import Any, Final

__all__ = ["facts", "log"]

log: Final = logging.getLogger("rxstream")
"""The logger of the whole package."""


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
