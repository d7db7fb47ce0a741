"""What an operator needs that passes events on and may end the stream itself."""

from __future__ import annotations

import pytest
from reactivex import Observable, abc

from rxstream import events as ev
from rxstream._cut import Cut
from rxstream.errors import BudgetExceeded
from rxstream.events import Event, Phase
from rxstream.loop import LoopScheduler
from tests.support.contests import Told, started
from tests.support.scripted import HANG, Scripted, Step
from tests.support.virtual_loop import settle, virtual_time


class _At(Cut):
    """Cuts when it is told to."""

    def on_next(self, event: Event) -> None:
        self.fold(event)
        self.emit(event)


CALL = ev.ToolCallStart(id="c", name="f")


@pytest.mark.parametrize(
    ("steps", "phase"),
    [
        ([], "first_event"),
        ([started()], "first_output"),
        ([ev.Heartbeat()], "first_output"),
        ([ev.TextDelta(text="")], "first_output"),
        (["a"], "output"),
        ([ev.ThinkingDelta(text="hm")], "output"),
        ([ev.Media(kind="audio", data="aGk=")], "output"),
        ([ev.ServerTool(name="search", step="start")], "output"),
        (["a", CALL], "tool_call"),
        ([CALL, ev.ToolCall(id="c", name="f", arguments="{}")], "output"),
        ([CALL, ev.TextDelta(text="a", part=1)], "output"),
    ],
)
@virtual_time
async def test_the_error_says_how_far_it_was_and_is_told_once(steps: list[Step], phase: Phase) -> None:
    cuts: list[_At] = []

    def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        cuts.append(_At(observer, LoopScheduler.of(scheduler)))
        return cuts[-1].subscribe(script.events())

    script = Scripted([*steps, HANG])
    told = Told(Observable(subscribe))
    await settle()
    error = BudgetExceeded("x")
    cuts[0].cut(error)
    cuts[0].cut(BudgetExceeded("again"))
    await settle()
    assert (told.error, error.phase, error.partial, script.running) == (error, phase, told.response, 0)
