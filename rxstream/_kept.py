"""What a configuration keeps: what its streams share, and where its values came from."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from rxstream.guards import Guard

__all__ = ["Kept"]


class Kept:
    """It takes no part in comparing two configurations, and is not pickled with one."""

    def __init__(self) -> None:
        self.origins: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._made: dict[tuple[Any, ...], Guard] = {}

    def guard(self, kind: type[Any], /, *arguments: Any, **options: Any) -> Guard:
        """The guard made of these arguments, which all who ask for it share."""
        key = (kind, *arguments, *options.items())
        with self._lock:
            if key not in self._made:
                self._made[key] = kind(*arguments, **options)
            return self._made[key]

    def heir(self, origins: Mapping[str, str]) -> Kept:
        """For a configuration derived from this one: it shares the guards."""
        heir = Kept()
        heir.origins, heir._lock, heir._made = origins, self._lock, self._made
        return heir

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept)

    def __hash__(self) -> int:
        return hash(Kept)

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()
