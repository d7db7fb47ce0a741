"""``supersede``: a draft speaks until the final answer is there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

from reactivex import Observable, abc

from rxstream._check import one_of
from rxstream._fold import Fold
from rxstream.events import Event, Finished, TextDelta, is_content
from rxstream.loop import LoopScheduler
from rxstream.observable import Stream
from rxstream.segment import split
from rxstream.tracks._answer import OneAnswer, answer_of
from rxstream.tracks._lane import Lane, checked
from rxstream.tracks._prefix import Prefix

__all__ = ["supersede"]

_LONGEST: Final = 2000
"""Characters after which a first sentence is long enough, wherever it ends."""


def supersede(
    draft: Observable[Event],
    final: Observable[Event],
    *,
    at: Literal["first_output", "first_sentence", "end"] = "first_sentence",
    edits: Literal["retract", "minimal"] = "retract",
) -> Stream[Event]:
    """Let a quick draft speak at once, and put the final answer in its place when it comes.

    ::

        draft:   --d("Paris, ")--d("I think.")--…
        final:   ------------f("It is ")----f("Paris. ")--f("Truly.")--Finished--|
             supersede(draft, final)
        result:  --d("Paris, ")--d("I think.")------------Retracted,f("It is "),f("Paris. "),f("Truly.")--Finished--|

    Both are asked at the same time: a local model as the draft, say, and one in the cloud. Until the final answer takes over
    its events are kept back. Then the draft is closed, its text is `Retracted`, and the answer is the final one's alone; so
    is its text for all that keep it. With ``edits="minimal"`` the characters that both texts begin with stay, and only the
    rest is retracted and said anew. Also known as ``switch_to``.

    If the final answer fails, the draft is the answer; if it fails after it has taken over, the stream fails with its error.
    If the draft fails, or ends without a word, the final answer takes over with its first content. A final answer without
    content does not take over from a draft that has some.

    Example:
        >>> import rxstream
        >>> from rxstream import tracks
        >>> draft, final = rxstream.from_iterable(["Paris, ", "I think."]), rxstream.from_iterable(["It is Paris."])
        >>> tracks.supersede(draft, final, at="end").run().text
        'It is Paris.'

    Args:
        draft: Speaks first.
        final: Has the last word.
        at: When it takes over: with its first content (``first_output``); when its first sentence is complete, which is known
            when the next one begins, or 2000 characters are there (``first_sentence``); at its proper ``end``. 65 536 of its
            events may be kept back until then; with more it has failed.
        edits: What becomes of the draft's text: ``retract`` all of it, or as little as both texts need (``minimal``), as far
            as the final text is known at that moment. A draft that has given anything but text is retracted in any case.

    Returns:
        One answer; with the usage of both. Fails with `TracksFailed` if both fail.

    Raises:
        ConfigurationError: `at` or `edits` is another word, or a track is no Observable.
    """
    both = checked((draft, final))
    one_of("at", at, ("first_output", "first_sentence", "end"))
    one_of("edits", edits, ("retract", "minimal"))
    return answer_of(both, lambda observer, scheduler: _Supersede(both, observer, scheduler, at, edits == "minimal"))


class _Supersede(OneAnswer):
    def __init__(
        self,
        tracks: Sequence[Observable[Event]],
        observer: abc.ObserverBase[Event],
        scheduler: LoopScheduler,
        at: str,
        minimal: bool,
    ) -> None:
        super().__init__(tracks, observer, scheduler)
        self._draft, self._final = self.lanes
        self._at = at
        self._minimal = minimal
        self._said = Fold()  # by the draft, where it is compared
        self._prefix: Prefix | None = None
        self._ready = False  # the final answer may take over from a draft that is well
        self._spoken = False  # it has given content
        self._sentence = ""  # its text so far, as long as its first sentence is waited for

    def begin(self) -> None:
        self.open(self._draft)
        self._final.start()  # its number comes after those of all attempts of the draft: so do texts that are joined

    def heard(self, lane: Lane, event: Event) -> None:
        if lane is self._final:
            self.keep(lane, event)
            self._listen(event)
        elif isinstance(event, Finished) or not (self.shown is lane or is_content(event)):
            self.keep(lane, event)  # it may not be the answer; it may have nothing to say
        elif self.shown is lane:
            self._show(event)
        else:
            self.shown = lane
            self._show(*self.kept(lane), event)

    def completed(self, lane: Lane) -> None:
        if lane is self.chosen:
            self.finish()
        else:
            self._decide()

    def failed(self, lane: Lane, error: Exception, /) -> None:
        if lane is self.chosen:
            self.finish(error)
        else:
            self.give_up(lane)
            self._decide()

    def emit(self, lane: Lane, event: Event) -> None:
        event = self._attempts.stamp(lane, event)
        if self._prefix is None:
            self._outlet.on_next(event)
        else:
            self.emit_all(self._prefix.pass_on(event))

    # --- who has the word -------------------------------------------------------------------------------------------------

    def _show(self, *events: Event) -> None:
        """Events of the draft."""
        *early, last = [self._attempts.stamp(self._draft, event) for event in events]
        if self._minimal:
            for event in (*early, last):
                self._said.add(event)
        self._outlet.items.extend(early)
        self._outlet.on_next(last)

    def _listen(self, event: Event) -> None:
        """An event of the final answer, which is kept back."""
        if not self._spoken and is_content(event):
            self._spoken = True
            self._ready = self._at == "first_output"
        if self._at == "first_sentence" and isinstance(event, TextDelta) and not event.choice:
            self._sentence += event.text
            self._ready = len(self._sentence) > _LONGEST or len(split(self._sentence, "sentence")) > 1
        if self._spoken:
            self._decide()

    def _decide(self) -> None:
        draft, final = self._draft, self._final
        if self.chosen is not None or (final.error is not None and not draft.over):
            return
        drafted = self.shown is not None and draft.error is None
        if final.error is None and self._spoken and (self._ready or final.over or (draft.over and not drafted)):
            self._take_over()
        elif not (draft.over and final.over):
            return  # one may have something to say yet
        elif draft.error is not None and final.error is not None:
            self.finish(self.lost())
        elif drafted or final.error is not None:
            self.choose(draft, "")
            self.finish()
        else:
            self._take_over()

    def _take_over(self) -> None:
        draft, final = self._draft, self._final
        self.chosen = final
        words = self.part_with(draft, f"{final.label} took over")
        kept = [self._attempts.stamp(final, event) for event in self.kept(final)]
        if self.shown is not None and self._minimal:
            self._prefix = self._compare(kept)
            words += self._prefix.retract()
            kept = [event for early in kept for event in self._prefix.pass_on(early)]
        elif self.shown is not None:
            words += self._attempts.retract(draft)
        self.shown = None
        self.emit_all([*words, *kept])
        if final.over:
            self.finish()

    def _compare(self, events: list[Event]) -> Prefix:
        known = Fold()
        for event in events:
            known.add(event)
        take_back = partial(self._attempts.take_back, self._draft)
        return Prefix(self._said, known, whole=self._final.over, take_back=take_back)
