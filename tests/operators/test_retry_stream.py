"""``retry_stream``: whatever fails, and when, text comes once."""

from __future__ import annotations

import asyncio

import reactivex as rx

from rxstream import operators as rxo
from rxstream.errors import Overloaded
from tests.support.contests import Told
from tests.support.virtual_loop import virtual_time


@virtual_time
async def test_a_thousand_attempts_do_not_grow_the_stack() -> None:
    told = Told(rx.throw(Overloaded("busy")).pipe(rxo.retry_stream(attempts=1000, delay=0, budget=None)))
    await asyncio.sleep(1)
    assert (len(told.items), str(told.error)) == (999, "busy")
