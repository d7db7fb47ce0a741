"""Virtual time: exact, free of cost, and no cover for what is forgotten."""

from __future__ import annotations

import asyncio
import time

import pytest

from rxstream.testing.virtual import VirtualLoop, run_virtual, settle, virtual_time


def test_a_day_costs_nothing_and_every_time_is_exact() -> None:
    at: list[float] = []

    async def main() -> str:
        for seconds in (0.1, 0.2, 86_400.0):
            await asyncio.sleep(seconds)
            at.append(asyncio.get_running_loop().time())
        return "done"

    started = time.monotonic()
    assert run_virtual(main()) == "done"
    assert time.monotonic() - started < 60
    assert at == pytest.approx([0.1, 0.3, 86_400.3])


def test_the_clock_stands_while_there_is_work() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


def test_time_can_pass_while_code_runs() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.advance(2.5)
        before = loop.time()
        loop.jump()
        return [before, loop.time()]

    assert run_virtual(main()) == [2.5, 2.5]


def test_timers_that_are_set_are_known() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.call_later(3, settle)
        loop.call_later(2, settle).cancel()
        loop.call_later(1, settle)
        return loop.timers

    assert run_virtual(main()) == [1.0, 3.0]


def test_a_task_that_is_left_behind_fails_it() -> None:
    left: list[asyncio.Task[None]] = []

    async def main() -> None:
        left.append(asyncio.ensure_future(asyncio.sleep(10)))

    with pytest.raises(AssertionError, match="tasks are left behind"):
        run_virtual(main())


def test_a_wait_for_what_never_comes_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxstream.testing.virtual._PATIENCE", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    waiting = loop.create_task(main())
    with pytest.raises(AssertionError, match="what can never come"):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()


def test_where_a_loop_is_running_it_says_so() -> None:
    async def main() -> None:
        run_virtual(asyncio.sleep(1))

    with pytest.raises(AssertionError, match="a loop is running here"):
        asyncio.run(main())


def test_what_is_no_coroutine_is_refused() -> None:
    @virtual_time  # type: ignore[arg-type]
    def forgot_that_it_is_async() -> None:
        """It gives nothing to wait for."""

    for call in (forgot_that_it_is_async, lambda: run_virtual(asyncio.sleep)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a coroutine is needed"):
            call()


def test_it_waits_for_other_threads() -> None:
    async def main() -> str:
        return await asyncio.to_thread(lambda: "from a thread")

    assert run_virtual(main()) == "from a thread"


@pytest.mark.parametrize("seconds", [1, 60])
@virtual_time
async def test_a_test_of_its_own_keeps_its_arguments(seconds: int) -> None:
    await asyncio.sleep(seconds)
    assert asyncio.get_running_loop().time() == seconds
