"""Does a decoder keep the rules of one? See `rxstream.typing.Decoder`.

A decoder of your own provider is held against bodies that were recorded of it, cut and broken in many ways::

    def test_my_decoder() -> None:
        verify_decoder(MyDecoder, [Path("answer.sse").read_bytes(), Path("tool_call.sse").read_bytes()])

pytest is not needed.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rxstream._check import count, function, show
from rxstream.errors import ConfigurationError, StreamError
from rxstream.events import Event, Finished, decode, encode, is_content
from rxstream.testing._broken import broken, cut, cuttings
from rxstream.testing._lab import Broken, NotApplicable, must
from rxstream.testing.verify import Verification, verified
from rxstream.typing import Decoder

__all__ = ["verify_decoder"]

_SOME: Final = 150
"""Places at which a body is cut off, at most."""
_LONG: Final = 512 * 1024
_READ: Final = 1024
_LINEAR: Final = 10.0
"""Four times as much may take so many times as long on a busy machine; sixteen times is quadratic."""


@dataclass(frozen=True)
class _Subject:
    """What is tried, and how thoroughly."""

    make: Callable[[], Decoder]
    samples: Mapping[str, bytes]
    rounds: int
    seed: int

    def chance(self) -> random.Random:
        return random.Random(self.seed)  # noqa: S311 - not for secrets

    def broken(self) -> Iterator[tuple[str, bytes]]:
        """Broken bodies, and what to call each."""
        chance = self.chance()
        for name, body in self.samples.items():
            for number in range(self.rounds):
                yield f"{name}, broken for the {number + 1}. time with seed={self.seed}", broken(body, chance)


@dataclass(frozen=True)
class _Reading:
    """What a decoder made of a body."""

    events: list[Event]
    error: StreamError | None

    @property
    def essence(self) -> tuple[list[Event], type[StreamError] | None]:
        return self.events, None if self.error is None else type(self.error)


def _read(decoder: Decoder, pieces: Sequence[bytes]) -> _Reading:
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
        if decoder.failure is not None:
            events += decoder.close()  # raises what the first held back
    except StreamError as error:
        return _Reading(events, error)
    return _Reading(events, None)


def _same(ours: _Reading, theirs: _Reading, where: str) -> None:
    """The rule is broken unless both are the same events, and the same kind of end."""
    if ours.essence == theirs.essence:
        return
    pairs = enumerate(zip(ours.events, theirs.events, strict=False))
    at = next((number for number, (one, other) in pairs if one != other), min(len(ours.events), len(theirs.events)))
    ends = [repr(reading.error) if reading.error else "a proper end" for reading in (ours, theirs)]
    raise Broken(
        f"{where}: {len(ours.events)} events and {ends[0]}, where {len(theirs.events)} and {ends[1]} were due; "
        f"the first that differs is number {at}"
    )


# --- the rules ------------------------------------------------------------------------------------------------------------


def _reads(subject: _Subject) -> None:
    for name, body in subject.samples.items():
        reading = _read(subject.make(), [body])
        must(reading.events, f"{name}: no event, and {reading.error!r}")


def _any_cutting(subject: _Subject) -> None:
    chance = subject.chance()
    for name, body in subject.samples.items():
        whole = _read(subject.make(), [body])
        for pieces in cuttings(body, chance, ways=subject.rounds):
            _same(_read(subject.make(), pieces), whole, f"{name}, cut into {len(pieces)}")


def _empty_pieces(subject: _Subject) -> None:
    for name, body in subject.samples.items():
        half = len(body) // 2
        pieces = [b"", body[:half], b"", b"", body[half:], b""]
        _same(_read(subject.make(), pieces), _read(subject.make(), [body]), f"{name}, with empty pieces")


def _garbage(subject: _Subject) -> None:
    for name, body in subject.broken():
        try:
            _read(subject.make(), [body])
        except Exception as error:
            raise Broken(f"{name}: {type(error).__name__}: {error}") from error


def _events_in_hand(subject: _Subject) -> None:
    chance = subject.chance()
    for name, body in subject.broken():
        whole = _read(subject.make(), [body])
        for pieces in cuttings(body, chance, ways=1):
            _same(whole, _read(subject.make(), pieces), f"{name}, in one piece")


def _shown_failures(subject: _Subject) -> None:
    for name, body in subject.broken():
        decoder = subject.make()
        try:
            decoder.feed(body)
        except StreamError:
            continue
        if (shown := decoder.failure) is None:
            continue
        raised: StreamError | None = None
        try:
            decoder.feed(b"\n")
        except StreamError as error:
            raised = error
        must(raised is shown, f"{name}: `failure` was {shown!r}, and the next call raised {raised!r}")


def _no_invented_end(subject: _Subject) -> None:
    for name, body in subject.samples.items():
        due = sum(map(is_content, _read(subject.make(), [body]).events))
        for at in range(0, len(body), max(1, len(body) // _SOME)):
            reading = _read(subject.make(), [body[:at]])
            ended = bool(reading.events) and isinstance(reading.events[-1], Finished)
            where = f"{name}, cut off after {at} bytes"
            must(reading.error or ended, f"{where}: close() raised nothing, without a Finished")
            given = sum(map(is_content, reading.events))
            must(reading.error or given >= due, f"{where}: a Finished, with {given} of {due} events of content")


def _nothing_after_the_end(subject: _Subject) -> None:
    finished = False
    for name, body in subject.samples.items():
        decoder = subject.make()
        try:
            decoder.feed(body)
        except StreamError:
            continue
        if not decoder.finished:
            continue
        finished = True
        try:
            more = decoder.feed(body)
        except StreamError as error:
            raise Broken(f"{name}: after the end it raised {error!r}") from error
        must(not more, f"{name}: after the end it gave {len(more)} events more")
    if not finished:
        raise NotApplicable("no sample has the provider's mark of the end")


def _one_finished(subject: _Subject) -> None:
    for name, body in [*subject.samples.items(), *subject.broken()]:
        events = _read(subject.make(), [body]).events
        places = [number for number, event in enumerate(events) if isinstance(event, Finished)]
        must(places in ([], [len(events) - 1]), f"{name}: Finished is number {places} of {len(events)} events")


def _leaves_stamps(subject: _Subject) -> None:
    for name, body in subject.samples.items():
        for event in _read(subject.make(), [body]).events:
            stamps = (event.source, event.attempt, event.seq, event.at)
            must(stamps == ("", 1, 0, 0.0), f"{name}: {type(event).__name__} has {stamps}")


def _can_be_written(subject: _Subject) -> None:
    for name, body in [*subject.samples.items(), *subject.broken()]:
        for event in _read(subject.make(), [body]).events:
            try:
                again = decode(encode(event))
            except Exception as error:  # noqa: BLE001 - whatever cannot be written breaks the rule
                raise Broken(f"{name}: {type(event).__name__} cannot be written and read: {error}") from None
            must(again == event, f"{name}: {type(event).__name__} is another one when it is read again")


def _apart(subject: _Subject) -> None:
    for name, body in subject.samples.items():
        alone = _read(subject.make(), [body]).events
        must(alone, f"{name}: of a decoder made after others comes nothing")
        for step in (1, 5):
            decoders = (subject.make(), subject.make())
            events: tuple[list[Event], ...] = ([], [])
            failed = False
            for piece in cut(body, range(step, len(body), step)):
                for decoder, given in zip(decoders, events, strict=True):
                    try:
                        given.extend(decoder.feed(piece))
                    except StreamError:
                        failed = True
                if failed:
                    break
            right = all(given == alone[: len(given)] for given in events) and len({len(given) for given in events}) == 1
            must(right, f"{name}: two decoders that read it at once do not give what one gives")


def _linear(subject: _Subject) -> None:
    body = next(iter(subject.samples.values()))
    head = body[: len(body) // 2]

    def seconds(size: int) -> float:
        best = float("inf")
        for _ in range(3):
            decoder, filling = subject.make(), b"x" * _READ
            collecting = gc.isenabled()
            gc.disable()  # what else lives in this process is not what is measured, nor what other threads do
            started = time.thread_time()
            try:
                decoder.feed(head)
                for _ in range(size // _READ):
                    decoder.feed(filling)
            except StreamError:
                pass  # it has a limit, which is well
            finally:
                if collecting:
                    gc.enable()
            best = min(best, time.thread_time() - started)
        return best

    once, four_times = seconds(_LONG), seconds(4 * _LONG)
    must(
        four_times < _LINEAR * max(once, 0.002),
        f"an event of {_LONG} bytes took {once:.4f} s, one of {4 * _LONG} {four_times:.4f} s",
    )


_RULES: Final[Sequence[tuple[str, str, Callable[[_Subject], None]]]] = (
    ("D.1", "it reads the samples", _reads),
    ("D.2", "however the bytes are cut, the events and the end are the same", _any_cutting),
    ("D.3", "an empty piece changes nothing", _empty_pieces),
    ("D.4", "what is broken gives events or a StreamError, and no other exception", _garbage),
    ("D.5", "feed() never raises while it has events in hand: what came before a failure is given", _events_in_hand),
    ("D.6", "the failure that `failure` shows is raised by the next call", _shown_failures),
    (
        "D.7",
        "no end is invented: of a body that is cut off, close() raises, or all content and Finished are there",
        _no_invented_end,
    ),
    ("D.8", "after `finished` more bytes are ignored", _nothing_after_the_end),
    ("D.9", "Finished comes at most once, and last", _one_finished),
    ("D.10", "source, attempt, number and time of an event are left to the source", _leaves_stamps),
    ("D.11", "every event can be written as JSON and read again", _can_be_written),
    ("D.12", "two decoders know nothing of each other", _apart),
    ("D.13", "the time for one event grows no faster than its size", _linear),
)


def verify_decoder(
    factory: Callable[[], Decoder],
    samples: Mapping[str, bytes] | Sequence[bytes],
    *,
    rounds: int = 50,
    seed: int = 0,
    exempt: Mapping[str, str] | None = None,
) -> Verification:
    """Hold a decoder against every rule of one, and give what came of it.

    Args:
        factory: Gives a fresh decoder.
        samples: Bodies that it is to read, by name, or in a list: whole answers, with text, with tool calls, with usage. The
            more they have of what the provider can say, the more is tried.
        rounds: How many broken bodies are made of each sample, and how many cuttings.
        seed: Chooses other ones.
        exempt: Rules that it need not keep, by number, such as ``{"D.8": "it has no mark"}``, and why.

    Raises:
        ContractViolation: a rule is broken; its message is the table of all rules. What the decoder raised is its cause.
        ConfigurationError: an option is not as described.
        Exception: what `factory` raises, at its first call.

    Example:
        >>> from rxstream.providers import decoder_for
        >>> from rxstream.testing import verify_decoder
        >>> from rxstream.testing.chaos import Script, render
        >>> body = b"".join(render(Script("Why ", "not?"), "anthropic"))
        >>> verify_decoder(lambda: decoder_for("anthropic"), [body], rounds=5).passed
        True
    """
    __tracebackhide__ = True
    function("factory", factory)
    if not isinstance(samples, (Mapping, Sequence)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"samples: must be a dict or a list of bodies, not {show(samples)}")
    named = dict(samples) if isinstance(samples, Mapping) else {f"sample {n}": body for n, body in enumerate(samples)}
    if not named or not all(type(body) is bytes and body for body in named.values()):
        raise ConfigurationError("samples: must be a dict or a list of bodies, at least one, and each of them bytes")
    made = factory()  # what is wrong with making one is no fault of its own, and told at once
    if not isinstance(made, Decoder):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"factory: must give a decoder, with feed() and close(), not {show(made)}")
    return verified(_Subject(factory, named, count("rounds", rounds), seed), _RULES, exempt)
