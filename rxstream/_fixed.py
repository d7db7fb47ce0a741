"""Dicts and lists that nobody changes: what is in a configuration once it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from rxstream._input import is_mapping

__all__ = ["Fixed", "FixedList", "fixed", "plain"]

_DEEPEST: Final = 100


def _refuse(_self: object, *_given: object, **_named: object) -> NoReturn:
    raise TypeError("a configuration cannot be changed; replace() makes another one")


class Fixed(dict[str, Any]):
    """A dict that cannot be changed once it is made."""

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none, for it changes
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Fixed], tuple[dict[str, Any]]]:
        return Fixed, (dict(self),)

    if not TYPE_CHECKING:  # to a type checker it is a dict
        __setitem__ = __delitem__ = __ior__ = _refuse
        clear = pop = popitem = setdefault = update = _refuse


class FixedList(list[Any]):
    """A list that cannot be changed once it is made."""

    def __hash__(self) -> int:  # type: ignore[override]  # likewise
        return hash(tuple(self))

    def __reduce__(self) -> tuple[type[FixedList], tuple[list[Any]]]:
        return FixedList, (list(self),)

    if not TYPE_CHECKING:
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse


def fixed(value: Any, *, depth: int = 0) -> Any:
    """A copy of `value` that cannot be changed, nor anything in it.

    Raises:
        ValueError: there are more than a hundred dicts and lists in each other.
    """
    if depth > _DEEPEST:
        raise ValueError("is nested too deeply")
    if is_mapping(value):
        return Fixed({name: fixed(each, depth=depth + 1) for name, each in value.items()})
    items: Any = value
    return FixedList([fixed(each, depth=depth + 1) for each in items]) if isinstance(value, (list, tuple)) else value


def plain(value: Any) -> Any:
    """A copy of what is `fixed`, which may be changed."""
    if is_mapping(value):
        return {name: plain(each) for name, each in value.items()}
    items: Any = value
    return [plain(each) for each in items] if isinstance(value, list) else value
