"""What two texts have in common at their beginning: kept from a draft, and cut from the final answer.

Rules of this module:

* Texts are compared character by character from their beginning, at a place that is known; nothing is guessed from content.
* No character is cut in two, as a reader counts them.
* What is kept of the draft, with what is let through of the final answer after it, is the final answer's text.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rxstream._fold import Fold, Key
from rxstream.events import Event, PartEnd, Retracted, TextDelta
from rxstream.segment import characters

__all__ = ["Prefix", "common"]

_stamp = msgspec.structs.replace


def common(draft: str, final: str, *, whole: bool) -> str:
    """The characters that both texts begin with.

    Args:
        draft: One text.
        final: The other.
        whole: Whether `final` will not go on; if it may, its last character may not be complete.
    """
    known = characters(final)
    size = 0
    for mine, theirs in zip(characters(draft), known if whole else known[:-1], strict=False):
        if mine != theirs:
            break
        size += len(mine)
    return final[:size]


class Prefix:
    """Lets the final answer's events through without the text that is kept of the draft.

    A draft that has said anything but text is not kept at all: its calls, its thinking and its sources are not those of the
    final answer.

    Args:
        draft: What the draft has said.
        final: What is known of the final answer.
        whole: Whether that is all of it.
        take_back: Makes the event that takes back all of an attempt but so many characters.
    """

    def __init__(self, draft: Fold, final: Fold, *, whole: bool, take_back: Callable[[int, int], Event]) -> None:
        self._take_back = take_back
        self._standing = _texts(draft)
        self._key: Key | None = min((key for key in final.texts if not key[1]), default=None)
        self._text = ""
        if self._key is not None and _is_text_alone(draft) and len({key[0] for key in final.texts}) == 1:
            said = "".join(self._standing.values())
            self._text = common(said, final.texts[self._key].getvalue(), whole=whole)
        self._skip = len(self._text)
        self._skipped = 0  # events that had nothing else

    def retract(self, keep: str | None = None) -> list[Event]:
        """What takes back all of the draft but `keep`, or but what both texts have in common."""
        if keep is not None:
            self._text = keep
        events: list[Event] = []
        room = len(self._text)
        for attempt, text in self._standing.items():
            kept = text[:room]
            room -= len(kept)
            if kept != text or not text:
                events.append(self._take_back(attempt, len(kept)))
            self._standing[attempt] = kept
        return events

    def pass_on(self, event: Event) -> list[Event]:
        """What is to be delivered for an event of the final answer."""
        before: list[Event] = []
        if isinstance(event, TextDelta) and self._skip and _key(event) == self._key:
            text = event.text[self._skip :]
            self._skip -= len(event.text) - len(text)
            if not text:
                self._skipped += 1
                return []
            event = _stamp(event, text=text)
        elif isinstance(event, PartEnd) and event.text is not None and _key(event) == self._key:
            before = self._keep(common(self._text, event.text, whole=True))
            event = _stamp(event, text=event.text[len(self._text) :])
        elif isinstance(event, Retracted) and self._key is not None and event.attempt == self._key[0]:
            offset = max(0, event.to_offset - len(self._text))
            before = self._keep(self._text[: event.to_offset])
            self._skip = 0  # what comes now is said anew
            event = _stamp(event, to_offset=offset)
        return [*before, _stamp(event, seq=event.seq - self._skipped) if self._skipped else event]

    def _keep(self, text: str) -> list[Event]:
        return self.retract(text) if text != self._text else []


def _key(event: TextDelta | PartEnd) -> Key:
    return event.attempt, event.choice, event.part


def _is_text_alone(fold: Fold) -> bool:
    others = any(store for store in fold.stores if store is not fold.texts)
    return not others and not any(choice for _, choice, _ in fold.texts)


def _texts(fold: Fold) -> dict[int, str]:
    """The text that stands of each attempt that has said anything, in order."""
    texts = {attempt: "" for attempt, _, _ in sorted(key for store in fold.stores for key in store)}
    for key in sorted(fold.texts):
        if not key[1]:
            texts[key[0]] += fold.texts[key].getvalue()
    return texts
