"""The fold from events to the answer as a whole.

Rules of this module:

* Pure: no clock, no I/O, no provider. `Aggregator.add` never fails on an event, `Aggregator.response` may be asked at any time.
* Within a choice, parts stand in the order of their numbers.
* `Retracted` is obeyed, and the text of an attempt that goes on where another was cut is joined to it.
* What needs pydantic, `Response`, is loaded by the first `Aggregator`: importing must stay cheap, and an answer can be asked
  for when the interpreter is going down and imports nothing any more.

The events are those of one stream; of a combined one, take one `source` at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rxstream._fold import Fold
from rxstream.events import Event

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["Aggregator", "aggregate"]


def aggregate(events: Iterable[Event]) -> Response:
    """The answer that `events` come to; partial if they do not reach their `Finished`.

    Raises:
        TypeError: one of `events` is not an event.
    """
    aggregator = Aggregator()
    for event in events:
        aggregator.add(event)
    return aggregator.response()


class Aggregator(Fold):
    """Folds events, one at a time, into a `Response`."""

    def __init__(self) -> None:
        from rxstream._assemble import assemble  # noqa: PLC0415 - see the rules above

        super().__init__()
        self._assemble = assemble

    def response(self) -> Response:
        """The answer so far."""
        return self._assemble(self)
