"""Every decoder of ours keeps every rule; and each rule finds its fault."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from rxstream.errors import ConfigurationError, ProtocolError, StreamError, StreamIncomplete
from rxstream.events import Event, Finished, Raw, TextDelta
from rxstream.providers import PROVIDERS, decoder_for
from rxstream.testing import ContractViolation, verify_decoder
from rxstream.testing.chaos import Call, Script, Thought, render
from tests.support.recordings import recordings

SAYS = Script(Thought("Hm. "), "Why ", "not, 日本? ", Call("weather", ['{"city": "Par', '"}']))
BODIES = {dialect: b"".join(render(SAYS, dialect)) for dialect in ("anthropic", "openai-chat", "openai-responses")}


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_decoder_of_ours_keeps_every_rule(name: str) -> None:
    body = BODIES[PROVIDERS[name].dialect]
    assert verify_decoder(lambda: decoder_for(name), [body], rounds=6).passed


@pytest.mark.parametrize("protocol", ["anthropic", "chat", "responses"])
def test_of_what_was_recorded_too(protocol: str) -> None:
    """Some of the short ones; others in each run."""
    bodies = {found.id: found.body for found in recordings(protocol) if 0 < len(found.body) < 6000}
    if not bodies:
        pytest.skip("no recordings")
    some = random.sample(sorted(bodies), min(8, len(bodies)))
    name = {"anthropic": "anthropic", "chat": "compatible", "responses": "openai"}[protocol]
    samples = {sample: bodies[sample] for sample in some}
    seed = random.randrange(10**6)  # noqa: S311 - not for secrets
    assert verify_decoder(lambda: decoder_for(name), samples, rounds=5, seed=seed).passed


class Lines:
    """A decoder of a protocol of lines: ``t text``, ``r`` nothing that we know, ``end``. It keeps every rule."""

    breaks: ClassVar[str] = ""

    def __init__(self) -> None:
        self.finished = False
        self.failure: StreamError | None = None
        self.pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[Event]:
        if self.failure is not None:
            raise self.failure
        events: list[Event] = []
        while not self.finished and data:
            head, line_end, data = data.partition(b"\n")
            self.pieces.append(head)
            if not line_end:
                break
            line = b"".join(self.pieces)
            self.pieces.clear()
            try:
                events += self.line(line)
            except StreamError as error:
                return self.failed(events, error)
        return events

    def failed(self, events: list[Event], error: StreamError) -> list[Event]:
        self.failure = error
        if not events:
            raise error
        return events

    def line(self, line: bytes) -> list[Event]:
        word, _, rest = line.partition(b" ")
        match word:
            case b"t":
                return [self.text(rest.decode("utf-8", "replace"))]
            case b"r":
                return [Raw(name="r")]
            case b"end":
                self.finished = True
                return [Finished(reason="stop")]
            case _:
                raise ProtocolError("no such line")

    def text(self, text: str) -> Event:
        return TextDelta(text=text)

    def close(self) -> list[Event]:
        if self.failure is not None:
            raise self.failure
        if not self.finished:
            raise StreamIncomplete("there was no end")
        return []


class Deaf(Lines):
    breaks = "D.1"

    def line(self, line: bytes) -> list[Event]:
        return []


class WholeLinesOnly(Lines):
    breaks = "D.2"

    def feed(self, data: bytes) -> list[Event]:
        self.pieces.clear()
        return super().feed(data)


class EmptyIsTheEnd(Lines):
    breaks = "D.3"

    def feed(self, data: bytes) -> list[Event]:
        if not data:
            raise StreamIncomplete("nothing more")
        return super().feed(data)


class Strict(Lines):
    breaks = "D.4"

    def text(self, text: str) -> Event:
        text.encode("ascii")
        assert "\ufffd" not in text
        return super().text(text)


class RaisesAtOnce(Lines):
    breaks = "D.5"

    def failed(self, events: list[Event], error: StreamError) -> list[Event]:
        self.failure = error
        raise error


class RaisesAnother(Lines):
    breaks = "D.6"

    def feed(self, data: bytes) -> list[Event]:
        if self.failure is not None:
            raise ProtocolError("something went wrong")
        return super().feed(data)


class Content(Lines):
    breaks = "D.7"

    def close(self) -> list[Event]:
        return []


class EndsForIt(Lines):
    breaks = "D.7"

    def close(self) -> list[Event]:
        try:
            return super().close()
        except StreamError:
            return [Finished(reason="stop")]


class GoesOn(Lines):
    breaks = "D.8"

    def feed(self, data: bytes) -> list[Event]:
        if self.finished:
            raise ProtocolError("it was over")
        return super().feed(data)


class EndsTwice(Lines):
    breaks = "D.9"

    def line(self, line: bytes) -> list[Event]:
        return super().line(line) * (2 if line == b"end" else 1)


class Numbers(Lines):
    breaks = "D.10"

    def text(self, text: str) -> Event:
        return TextDelta(text=text, seq=7)


class Unwritable(Lines):
    breaks = "D.11"

    def line(self, line: bytes) -> list[Event]:
        return [Raw(payload=object())] if line == b"r" else super().line(line)


class Shared(Lines):
    breaks = "D.12"
    shared: ClassVar[list[bytes]] = []

    def __init__(self) -> None:
        super().__init__()
        self.pieces = self.shared


class Quadratic(Lines):
    breaks = "D.13"

    def feed(self, data: bytes) -> list[Event]:
        self.pieces = [b"".join(self.pieces)]
        return super().feed(data)


SAMPLES: Mapping[str, bytes] = {"a text": b"t Why \nt not?\nr\nend\n", "a short one": b"t Yes.\nend\n"}
FAULTS: list[type[Lines]] = [found for found in Lines.__subclasses__() if found is not Shared]


def broken(make: Any, **options: Any) -> list[str]:
    with pytest.raises(ContractViolation) as found:
        verify_decoder(make, SAMPLES, **options)
    return [result.rule for result in found.value.verification.broken]


def test_a_decoder_that_keeps_every_rule_passes() -> None:
    verification = verify_decoder(Lines, SAMPLES)
    assert {result.outcome for result in verification.results} == {"passed"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_by_its_rule(fault: type[Lines]) -> None:
    assert fault.breaks in broken(fault)


def test_what_decoders_share_is_found() -> None:
    def make() -> Lines:
        return Shared()

    assert "D.12" in broken(make, rounds=1)


def test_a_decoder_that_is_one_for_all_is_found() -> None:
    only = Lines()
    assert "D.12" in broken(lambda: only, rounds=1)


def test_every_rule_finds_a_fault() -> None:
    rules = {result.rule for result in verify_decoder(Lines, SAMPLES, rounds=1).results}
    assert {fault.breaks for fault in Lines.__subclasses__()} == rules


def test_what_is_broken_is_told_with_the_sample_and_the_place() -> None:
    with pytest.raises(ContractViolation) as found:
        verify_decoder(WholeLinesOnly, SAMPLES)
    said = str(found.value)
    assert "FAILED" in said
    assert re.search(r"a text, cut into \d+: \d events and \w+\(.*\), where 4 and a proper end were due", said)


def test_what_the_kit_itself_raises_is_no_cause() -> None:
    with pytest.raises(ContractViolation, match="Raw cannot be written and read") as found:
        verify_decoder(Unwritable, SAMPLES, rounds=1)
    assert found.value.__cause__ is None


def test_a_rule_may_be_exempt() -> None:
    verification = verify_decoder(Numbers, SAMPLES, exempt={"D.10": "it numbers them itself"})
    told = [result.detail for result in verification.results if result.outcome == "not applicable"]
    assert told == ["it numbers them itself"]


def test_without_a_mark_nothing_is_asked_of_what_comes_after_it() -> None:
    class NoMark(Lines):
        def line(self, line: bytes) -> list[Event]:
            return [Raw(name="end")] if line == b"end" else super().line(line)

    results = verify_decoder(NoMark, SAMPLES).results
    assert [result.rule for result in results if result.outcome == "not applicable"] == ["D.8"]


def test_what_cannot_be_made_is_told_as_it_is() -> None:
    class Unmade(Lines):
        def __init__(self) -> None:
            raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        verify_decoder(Unmade, SAMPLES)


def test_what_a_decoder_raises_is_the_cause() -> None:
    with pytest.raises(ContractViolation, match="UnicodeEncodeError") as found:
        verify_decoder(Strict, SAMPLES, rounds=20)
    assert isinstance(found.value.__cause__, UnicodeEncodeError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factory": 7}, "factory"),
        ({"samples": []}, "samples: must be .*, at least one"),
        ({"samples": None}, "samples: must be"),
        ({"samples": b"t a body\nend\n"}, "samples: must be a dict or a list"),
        ({"factory": dict}, "factory: must give a decoder, .* not a dict"),
        ({"samples": {"a": b""}}, "samples"),
        ({"samples": ["text"]}, "samples"),
        ({"rounds": 0}, "rounds"),
        ({"exempt": {"D.99": ""}}, "exempt"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        verify_decoder(**{"factory": Lines, "samples": SAMPLES, **options})


def test_pytest_is_not_needed() -> None:
    code = "import sys, rxstream.testing; assert 'pytest' not in sys.modules and 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
