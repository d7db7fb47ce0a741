"""Tracks side by side, in figures: how fast, how long, how dear, and how alike.

Rules of this module:

* Pure: of two `Snapshot` states the same comparison comes out, whenever and how often one asks.
* What is not known is None, never zero.
* Tracks stand in the order given; a pair is of an earlier and a later one.
* A report shows text that a model wrote: control characters are never shown, and HTML is escaped.

The words of a pair cost n·m/64 machine steps over the whole life of two tracks, not at each comparison; their sentences are
compared each with each, once. What an answer has beyond 16 384 words or 512 sentences is counted and not compared; of JSON
65 536 characters and 4 096 fields are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from pydantic import BaseModel, ConfigDict

from rxstream import _report
from rxstream._check import positive
from rxstream._fields import Fields, fields_of
from rxstream._similarity import CommonWords, Growing, Matches, around, common_prefix
from rxstream.errors import ConfigurationError
from rxstream.events import FinishReason
from rxstream.prices import price
from rxstream.response import Response
from rxstream.snapshot import Said, Snapshot, SnapshotStatus
from rxstream.usage import Provenance

__all__ = [
    "Comparer",
    "Comparison",
    "Divergence",
    "FieldDifference",
    "FieldReport",
    "PairReport",
    "Score",
    "SentencePair",
    "TrackReport",
    "compare_responses",
]

Score = Callable[[Snapshot], float]
"""A figure of yours for the state of a track, such as how good its answer is."""

_MOST_JSON = 65_536


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class TrackReport(_Record):
    """One track in figures; times in seconds since the request."""

    label: str
    status: SnapshotStatus
    model: str = ""
    provider: str = ""
    first_output: float | None = None
    """When the first content came."""
    behind: float | None = None
    """How long after the first track that spoke."""
    ended: float | None = None
    outputs: int | None = None
    """Events with content; None for an answer that was not streamed."""
    outputs_per_second: float | None = None
    """… over the time from the first to the last of them."""
    characters: int = 0
    characters_per_second: float | None = None
    words: int = 0
    """While the track runs, without the word and the sentence that are being written."""
    sentences: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    usage_provenance: Provenance = "absent"
    """Where the tokens, and so the cost, come from."""
    cost: float | None = None
    """US dollars; looked up when all tracks have ended."""
    finish_reason: FinishReason | None = None
    error: str | None = None
    """What it failed of."""
    score: float | None = None
    """The figure of yours."""


class Divergence(_Record):
    """Where two texts part."""

    offset: int
    """Characters that they have in common before it."""
    before: str
    """What stands there before the word in which they part."""
    first: str
    """How the first text goes on from the beginning of that word; empty where it has ended before."""
    second: str


class SentencePair(_Record):
    """Two sentences that say nearly the same."""

    first: str
    second: str
    similarity: float
    """Of the words of both, the share that both have."""


class FieldDifference(_Record):
    """A field of JSON that has two values."""

    path: str
    first: Any
    second: Any


class FieldReport(_Record):
    """Two JSON texts by field, as far as both have come."""

    same: tuple[str, ...] = ()
    """Paths of the fields with equal values."""
    different: tuple[FieldDifference, ...] = ()
    only_first: tuple[str, ...] = ()
    """Paths that the second text, which is complete, does not have."""
    only_second: tuple[str, ...] = ()
    complete: bool = False
    """Whether both texts are."""


class PairReport(_Record):
    """Two tracks compared."""

    first: str
    second: str
    common_prefix: int
    """Characters that both texts begin with."""
    divergence: Divergence | None = None
    """Where they part; None while one is the beginning of the other and may go on."""
    similarity: float | None = None
    """The share of all words and marks in the longest common subsequence; None if both have none, or one has none yet."""
    overlap: float | None = None
    """… of those of the shorter one: while one track is far behind, this says more. None where it has none."""
    agreement: float | None = None
    """Of the sentences of both, the share with a match in the other; None while one has no sentence."""
    matches: tuple[SentencePair, ...] = ()
    """For each sentence of the first that has one its best match in the second, in the order of the first."""
    json_fields: FieldReport | None = None
    """Where both texts are JSON."""


class Comparison(_Record):
    """Tracks compared, as they stand at one moment. `report` gives it as text; a notebook shows it as a table.

    ``model_dump_json()`` gives it as JSON.
    """

    elapsed: float | None = None
    """Seconds since the requests; None for answers that were not streamed."""
    done: bool = False
    """Whether all tracks have ended: nothing will change any more."""
    tracks: tuple[TrackReport, ...]
    pairs: tuple[PairReport, ...] = ()
    first_to_speak: str | None = None
    """Label of the track whose content came first."""
    lead: float | None = None
    """Seconds by which it was before the next."""

    def track(self, label: str) -> TrackReport:
        """The figures of one track.

        Raises:
            ConfigurationError: there is none of that label.
        """
        for track in self.tracks:
            if track.label == label:
                return track
        raise ConfigurationError(f"there is no track {label!r}, only {', '.join(track.label for track in self.tracks)}")

    def report(self) -> str:
        """All of it as plain text, for a terminal."""
        return _report.as_text(self)

    def __str__(self) -> str:
        """The report."""
        return self.report()

    def _repr_html_(self) -> str:
        return _report.as_html(self)


class Comparer:
    """Compares the states of the same tracks again and again, and does no work twice.

    Args:
        score: A figure of yours for each track; asked again when the track has changed.
        threshold: How alike two sentences have to be to agree: above 0, at most 1.

    Raises:
        ConfigurationError: `threshold` is out of its range.
    """

    def __init__(self, *, score: Score | None = None, threshold: float = 0.6) -> None:
        if positive("threshold", threshold) > 1:
            raise ConfigurationError(f"threshold={threshold!r}: must be at most 1")
        self._score = score
        self._threshold = threshold
        self._tracks: dict[str, _Track] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}

    def compare(self, states: Mapping[str, Snapshot], *, elapsed: float | None = None) -> Comparison:
        """The comparison of the tracks as they are now.

        Args:
            states: Of all tracks, by their labels.
            elapsed: Seconds since the requests.
        """
        for label, state in states.items():
            self._tracks.setdefault(label, _Track()).update(state, self._score)
        done = all(state.over for state in states.values())
        said = [(state.first_output, label) for label, state in states.items() if state.first_output is not None]
        spoken = sorted(said, key=lambda one: one[0])  # of equals, the first given
        start = spoken[0][0] if spoken else None
        return Comparison(
            elapsed=elapsed,
            done=done,
            tracks=tuple(self._tracks[label].report(start, priced=done) for label in states),
            pairs=tuple(self._compared(*pair) for pair in combinations(states, 2)),
            first_to_speak=spoken[0][1] if spoken else None,
            lead=spoken[1][0] - spoken[0][0] if len(spoken) > 1 else None,
        )

    def _compared(self, first: str, second: str) -> PairReport:
        pair = self._pairs.setdefault((first, second), _Pair())
        return pair.report(self._tracks[first], self._tracks[second], self._threshold)


class _Track:
    """What is known of one track's text."""

    def __init__(self) -> None:
        self.text = ""
        self.growing = Growing()
        self.fields: Fields | None = None
        self._state: Snapshot | None = None
        self._score: float | None = None

    @property
    def state(self) -> Snapshot:
        assert self._state is not None  # noqa: S101 - it is updated before it is asked
        return self._state

    def update(self, state: Snapshot, score: Score | None) -> None:
        if state is self._state:
            return
        before, self._state = self._state, state
        if before is None or len(before.said) != len(state.said) or not state.said.grown_from(before.said):
            self.text = state.text
            self.fields = fields_of(self.text[:_MOST_JSON])
        self.growing.update(state.said, closed=state.over)
        self._score = float(score(state)) if score is not None else None

    def report(self, start: float | None, *, priced: bool) -> TrackReport:
        state, usage = self.state, self.state.usage
        first, last = state.first_output, state.last_output
        span = last - first if first is not None and last is not None else 0.0
        return TrackReport(
            label=state.label,
            status=state.status,
            model=state.model,
            provider=state.provider,
            first_output=first,
            behind=first - start if first is not None and start is not None else None,
            ended=state.ended,
            outputs=state.outputs,
            outputs_per_second=state.outputs / span if state.outputs and span > 0 else None,
            characters=len(state.said),
            characters_per_second=len(state.said) / span if span > 0 else None,
            words=self.growing.word_count,
            sentences=self.growing.sentence_count,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usage_provenance=usage.provenance,
            cost=price(usage, provider=state.provider, model=state.model) if priced else usage.cost,
            finish_reason=state.finish_reason,
            error=f"{state.error.kind}: {state.error.message}" if state.error is not None else None,
            score=self._score,
        )


class _Pair:
    """What is known of two tracks together."""

    def __init__(self) -> None:
        self._generations = (0, 0)
        self._begin()

    def _begin(self) -> None:
        self._prefix = 0
        self._common = CommonWords()
        self._matches = Matches()

    def report(self, first: _Track, second: _Track, threshold: float) -> PairReport:
        a, b = first.growing, second.growing
        if (a.generation, b.generation) != self._generations:
            self._generations = (a.generation, b.generation)
            self._begin()
        self._prefix = common_prefix(first.text, second.text, self._prefix)
        self._common.update(a.words, b.words)
        self._matches.update(a.sentences, b.sentences)
        known = (a.words or a.closed) and (b.words or b.closed)
        return PairReport(
            first=first.state.label,
            second=second.state.label,
            common_prefix=self._prefix,
            divergence=self._divergence(first, second),
            similarity=self._common.similarity if known else None,
            overlap=self._common.overlap,
            agreement=self._matches.agreement(threshold),
            matches=tuple(
                SentencePair(first=sentence.text, second=b.sentences[number].text, similarity=alike)
                for sentence, (alike, number) in zip(a.sentences, self._matches.best[0], strict=True)
                if alike >= threshold
            ),
            json_fields=_by_field(first.fields, second.fields),
        )

    def _divergence(self, first: _Track, second: _Track) -> Divergence | None:
        offset = self._prefix
        for shorter, longer in ((first, second), (second, first)):
            ended = len(shorter.text) == offset
            if ended and (len(longer.text) == offset or not shorter.state.over):
                return None
        before, one, other = around(first.text, second.text, offset)
        return Divergence(offset=offset, before=before, first=one, second=other)


def _by_field(first: Fields | None, second: Fields | None) -> FieldReport | None:
    if first is None or second is None:
        return None
    a, b = first.values, second.values
    both = [path for path in a if path in b]
    same = [path for path in both if a[path] == b[path] and isinstance(a[path], bool) == isinstance(b[path], bool)]
    equal = set(same)
    return FieldReport(
        same=tuple(same),
        different=tuple(
            FieldDifference(path=path, first=a[path], second=b[path]) for path in both if path not in equal
        ),
        only_first=tuple(path for path in a if path not in b) if second.complete else (),
        only_second=tuple(path for path in b if path not in a) if first.complete else (),
        complete=first.complete and second.complete,
    )


def compare_responses(
    responses: Mapping[str, Response], *, score: Score | None = None, threshold: float = 0.6
) -> Comparison:
    """Compare answers that are finished; what only a stream can tell, times and rates, is None.

    Example:
        >>> from rxstream import Response
        >>> from rxstream.response import Choice
        >>> from rxstream.messages import TextPart
        >>> answers = {
        ...     name: Response(choices=[Choice(parts=[TextPart(text=text)])], finish_reason="stop")
        ...     for name, text in {"local": "The sky is blue.", "cloud": "The sky is grey."}.items()
        ... }
        >>> pair = compare_responses(answers).pairs[0]
        >>> pair.similarity, pair.divergence.before, pair.divergence.first, pair.divergence.second
        (0.8, 'The sky is ', 'blue.', 'grey.')

    Args:
        responses: At least two, by what each is to be called.
        score: A figure of yours for each; see `Comparer`.
        threshold: How alike two sentences have to be to agree: above 0, at most 1.

    Raises:
        ConfigurationError: there are fewer than two, or `threshold` is out of its range.
    """
    if len(responses) < 2:
        raise ConfigurationError(f"{len(responses)} responses were given; at least 2 are needed")
    comparer = Comparer(score=score, threshold=threshold)
    found = comparer.compare({label: _snapshot(label, response) for label, response in responses.items()})
    tracks = tuple(track.model_copy(update={"outputs": None}) for track in found.tracks)
    return found.model_copy(update={"tracks": tracks})


def _snapshot(label: str, response: Response) -> Snapshot:
    return Snapshot(
        label=label,
        status="completed" if response.finish_reason is not None else "failed",
        said=Said.of(response.text),
        model=response.model,
        provider=response.provider,
        usage=response.usage,
        finish_reason=response.finish_reason,
    )
