"""The handler that puts events into a queue."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

import rxstream
from rxstream.errors import ConfigurationError, Disconnected
from rxstream.events import Event
from rxstream.observable import Stream
from rxstream.response import Response
from rxstream.sinks.queue import QueueStreamHandler
from tests.support.scripted import Scripted, Step, numbered, words
from tests.support.virtual_loop import virtual_time


def stream(*steps: Step) -> tuple[Stream[Event], Scripted]:
    script = Scripted(steps)
    return Stream.of(script.events()), script


def kinds(items: list[Any]) -> list[str]:
    return [getattr(item, "text", type(item).__name__) for item in items]


@pytest.mark.parametrize("size", [0, 1])
@virtual_time
async def test_an_asyncio_queue_gets_all_and_then_the_answer(size: int) -> None:
    taken: asyncio.Queue[Any] = asyncio.Queue(size)
    source, _ = stream(*words("to ", "be"))
    source.subscribe(QueueStreamHandler(taken))
    items = [await taken.get() for _ in range(4)]
    assert kinds(items) == ["to ", "be", "Finished", "to be"]
    assert isinstance(items[-1], Response)


@virtual_time
async def test_a_full_queue_holds_the_stream_that_has_no_other_handler() -> None:
    taken: asyncio.Queue[Any] = asyncio.Queue(1)
    source, script = stream(*numbered(300))
    source.subscribe(QueueStreamHandler(taken))
    await asyncio.sleep(100)
    assert script.given < 80
    items = [await taken.get() for _ in range(302)]
    assert kinds(items)[:300] == [f"{number} " for number in range(300)]


@virtual_time
async def test_the_error_is_last() -> None:
    taken: queue.Queue[Any] = queue.Queue()
    source, _ = stream("a", 1.0, Disconnected("cut"))
    source.subscribe(QueueStreamHandler(taken))
    await asyncio.sleep(2)
    items = [taken.get_nowait() for _ in range(2)]
    assert kinds(items) == ["a", "Disconnected"]


@virtual_time
async def test_a_full_queue_of_another_thread_is_waited_for() -> None:
    taken: queue.Queue[Any] = queue.Queue(1)
    source, _ = stream(*words("a", "b"))
    source.subscribe(QueueStreamHandler(taken))
    got: list[Any] = []
    for _ in range(4):
        await asyncio.sleep(10)
        got.append(taken.get_nowait())
    assert kinds(got) == ["a", "b", "Finished", "ab"]


def test_a_thread_takes_what_a_stream_puts() -> None:
    taken: queue.Queue[Any] = queue.Queue(2)
    got: list[Any] = []

    def take() -> None:
        while not isinstance(item := taken.get(timeout=20), Response):
            got.append(item)

    thread = threading.Thread(target=take)
    thread.start()
    rxstream.from_iterable(["to ", "be"]).subscribe(QueueStreamHandler(taken))
    thread.join(20)
    assert kinds(got) == ["Started", "to ", "be", "Finished"]


def test_what_is_no_queue_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^queue="):
        QueueStreamHandler([])


@pytest.mark.parametrize("make", [queue.SimpleQueue, lambda: queue.Queue(9), asyncio.Queue, lambda: asyncio.Queue(9)])
@virtual_time
async def test_who_takes_learns_that_no_more_will_come(make: Callable[[], Any]) -> None:
    taken = make()
    source, _ = stream(*words("to ", "be"))
    subscription = source.subscribe(QueueStreamHandler(taken))
    await asyncio.sleep(1.5)
    subscription.dispose()
    items = [taken.get_nowait() for _ in range(taken.qsize())]
    assert kinds(items) == ["to ", "Cancelled"]


@virtual_time
async def test_a_full_queue_that_is_given_up_stays_as_it_is() -> None:
    taken: queue.Queue[Any] = queue.Queue(1)
    source, _ = stream(*words("to ", "be"))
    subscription = source.subscribe(QueueStreamHandler(taken))
    await asyncio.sleep(5)
    subscription.dispose()
    assert kinds([taken.get_nowait()]) == ["to "]
    assert taken.empty()
