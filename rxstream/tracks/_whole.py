"""Combinations that choose among complete answers: nothing is delivered before the choice is made."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from rxstream.aggregate import Answers
from rxstream.events import Event
from rxstream.tracks._answer import OneAnswer
from rxstream.tracks._lane import Lane

if TYPE_CHECKING:
    from rxstream.response import Response

__all__ = ["WholeAnswers"]


class WholeAnswers(OneAnswer):
    """All lanes run to their end; each answer is judged when it is complete."""

    @abstractmethod
    def judge(self, lane: Lane, response: Response) -> None:
        """A lane's answer is complete; may raise what the user's callback raises."""

    @abstractmethod
    def winner(self) -> Lane | None:
        """Whose answer it is, as far as it is decided; called again after each that has ended."""

    def begin(self) -> None:
        """Ask all of them."""
        for lane in self.lanes:
            self.open(lane)

    def heard(self, lane: Lane, event: Event) -> None:
        """Keep everything."""
        self.keep(lane, event)

    def completed(self, lane: Lane) -> None:
        """One more answer."""
        answers = Answers()
        try:
            for event in self._kept[lane.index]:
                answers.add(event)
            self.judge(lane, answers.response())
        except Exception as error:  # noqa: BLE001 - the user's own; or there is no one answer
            self.finish(error)
        else:
            self._decide()

    def failed(self, lane: Lane, _error: Exception, /) -> None:
        """One less."""
        self.give_up(lane)
        self._decide()

    def _decide(self) -> None:
        winner = self.winner()
        if winner is not None:
            self.choose(winner, f"{winner.label} was chosen")
            self.finish()
        elif not self.left():
            self.finish(self.lost())
