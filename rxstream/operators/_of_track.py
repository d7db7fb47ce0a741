"""``of_track``: the events of one track of a combination."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable
from reactivex import operators as ops

from rxstream.errors import ConfigurationError
from rxstream.events import Event

__all__ = ["of_track"]


def of_track(label: str) -> Callable[[Observable[Event]], Observable[Event]]:
    """Let pass the events whose ``source`` is `label`.

    ::

        source:  --a("Hel")--b("Bon")--a("lo")--b("jour")--|
             of_track("b")
        result:  ------------b("Bon")-----------b("jour")--|

    Example:
        >>> import reactivex as rx
        >>> from rxstream.events import TextDelta
        >>> both = rx.of(TextDelta(source="a", text="Hel"), TextDelta(source="b", text="Bon"))
        >>> both.pipe(of_track("b")).run().text
        'Bon'

    Args:
        label: The track's label.

    Raises:
        ConfigurationError: `label` is no string.
    """
    if not isinstance(label, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"label={label!r}: must be the label of a track, a string")

    def is_of_it(event: Event) -> bool:
        return event.source == label

    return ops.filter(is_of_it)
