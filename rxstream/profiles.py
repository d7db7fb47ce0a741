"""Named settings of a `rxstream.StreamConfig` for common uses: data, with a reason for each value.

A profile is a place to begin: files, the environment and arguments go over it, one value at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from rxstream._check import show
from rxstream._input import hint
from rxstream.errors import ConfigurationError

__all__ = ["PROFILES", "Profile", "Setting", "profile"]


class Setting(NamedTuple):
    """One value of a profile."""

    path: str
    """Which: the fields on the way to it, with dots between."""
    value: Any
    why: str
    """The reason for it, a sentence."""


class Profile(NamedTuple):
    """Settings that serve one use."""

    name: str
    use: str
    """What it is for, a sentence."""
    settings: tuple[Setting, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The settings as a `rxstream.StreamConfig` takes them: a dict in a dict."""
        values: dict[str, Any] = {}
        for path, value, _ in self.settings:
            *way, last = path.split(".")
            place = values
            for step in way:
                place = place.setdefault(step, {})
            place[last] = value
        return values


_LOW_LATENCY: Final = Profile(
    "low_latency",
    "Somebody waits for the first word, and would rather be told soon that there is none.",
    (
        Setting("timeouts.connect", 5.0, "A server that has not answered in five seconds is not about to."),
        Setting("timeouts.first_event", 10.0, "Providers send a first event at once, whatever the model does."),
        Setting(
            "timeouts.first_output",
            20.0,
            "Who waits longer for a first word has gone; a model that reasons needs more.",
        ),
        Setting("timeouts.idle", 15.0, "A gap of this length in a text is a fault to a reader."),
        Setting("on_error.action", "retry", "A failure before the first word is repaired unseen."),
        Setting("on_error.retry.attempts", 2, "A third attempt would come when nobody waits any more."),
        Setting(
            "on_error.retry.delay", 0.1, "The first failure is most often one of a connection: it is over at once."
        ),
        Setting("on_error.retry.max_delay", 1.0, "A longer wait is no low latency."),
        Setting(
            "on_error.retry.max_retry_after", 2.0, "Who asks for more is to be told to the reader, or failed over."
        ),
        Setting("backpressure", "coalesce", "A slow screen gets fewer and larger pieces, and is soon up to date."),
    ),
)

_THROUGHPUT: Final = Profile(
    "throughput",
    "Many answers are wanted, and nobody reads along: batches, evaluations, pipelines.",
    (
        Setting(
            "timeouts.first_output", 1200.0, "Under load a request waits in the provider's queue, and that is no fault."
        ),
        Setting("timeouts.idle", 300.0, "The same holds in the middle of an answer."),
        Setting("on_error.action", "retry", "At volume some requests always fail."),
        Setting("on_error.retry.attempts", 6, "Together with the delays, attempts for about a minute."),
        Setting("on_error.retry.after_output", "restart", "Nobody has read the text: it may be taken back."),
        Setting("on_error.retry.max_delay", 30.0, "Long delays spread the requests of many streams after an outage."),
        Setting("on_error.retry.max_retry_after", 600.0, "A quota that is used up is worth waiting for."),
        Setting("max_concurrent", 32, "More streams at a time gain little on one core, and hit the providers' limits."),
        Setting(
            "backpressure", "buffer", "The provider is read at its own pace, however unevenly the results are taken."
        ),
        Setting("buffer", 8192, "About two long answers' events, at most some megabytes a stream."),
    ),
)

_RELIABLE: Final = Profile(
    "reliable",
    "The answer matters more than when it comes.",
    (
        Setting("timeouts.connect", 30.0, "Half of the default: another attempt is worth more than the wait."),
        Setting("timeouts.idle", 60.0, "The same: a stalled stream is asked again rather than waited for."),
        Setting("timeouts.step", 900.0, "No attempt goes on for ever, even one that dribbles."),
        Setting("timeouts.total", 3600.0, "Nor do all of them together."),
        Setting("on_error.action", "retry", "What may succeed is asked again."),
        Setting("on_error.retry.attempts", 6, "Outages of providers are most often over within a minute or two."),
        Setting(
            "on_error.retry.after_output", "restart", "Every provider can be asked anew; none of the text is guessed."
        ),
        Setting("on_error.retry.max_delay", 30.0, "The later attempts come when an outage is over."),
        Setting("on_error.retry.max_retry_after", 300.0, "A provider that says when it will be back is believed."),
        Setting("backpressure", "hold", "Nothing is dropped: a consumer that is slow slows the source."),
    ),
)

_VOICE: Final = Profile(
    "voice",
    "The answer is spoken as it comes.",
    (
        Setting("mode", "sentence", "Speech needs a sentence's melody; less sounds like a list of words."),
        Setting("timeouts.connect", 5.0, "Silence on a line is taken for a broken one after a few seconds."),
        Setting("timeouts.first_output", 8.0, "As long as a filler phrase and a pause can cover."),
        Setting("timeouts.idle", 8.0, "The sentences that are still being spoken cover as much."),
        Setting("on_error.action", "retry", "A failure before the first word is not heard."),
        Setting("on_error.retry.attempts", 2, "A third attempt would come after too long a silence."),
        Setting("on_error.retry.after_output", "fail", "What was spoken cannot be taken back."),
        Setting("on_error.retry.delay", 0.1, "A pause of this length is a breath."),
        Setting("on_error.retry.max_delay", 0.5, "A longer one is a question whether anybody is there."),
        Setting("on_error.retry.max_retry_after", 1.0, "Who asks for more is asking for a silence."),
        Setting("backpressure", "buffer", "A model writes faster than anybody speaks, and nothing may be left out."),
        Setting("buffer", 64, "Sentences: five minutes of speech. Then the model is held."),
    ),
)

_NOTEBOOK: Final = Profile(
    "notebook",
    "Somebody tries things out in a notebook, and a cell is to end.",
    (
        Setting("timeouts.total", 600.0, "A cell that has run for ten minutes keeps the notebook from all others."),
        Setting("limits.characters", 400_000, "A cell's output of more makes the notebook's file slow to open."),
        Setting("on_error.action", "retry", "A cell need not be run again by hand because of a busy provider."),
        Setting("on_error.retry.after_output", "restart", "The display takes text back, and shows the whole answer."),
        Setting("backpressure", "coalesce", "A cell is drawn a few times a second, whatever the model's pace."),
    ),
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {each.name: each for each in (_LOW_LATENCY, _THROUGHPUT, _RELIABLE, _VOICE, _NOTEBOOK)}
)
"""The profiles, by name."""


def profile(name: str) -> Profile:
    """The profile of this name.

    Example:
        >>> profile("voice").values["mode"]
        'sentence'

    Raises:
        ConfigurationError: there is none; the message has the nearest name.
    """
    found = PROFILES.get(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise ConfigurationError(f"profile={show(name)}: there is none of this name{hint(str(name), PROFILES)}")
    return found
