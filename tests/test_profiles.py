"""Named settings: data, with a reason for each value."""

from __future__ import annotations

import re

import pytest

from rxstream._layers import leaves
from rxstream.errors import ConfigurationError
from rxstream.policy import Retry
from rxstream.profiles import PROFILES, profile
from rxstream.stream_config import StreamConfig


def test_there_are_five() -> None:
    assert list(PROFILES) == ["low_latency", "throughput", "reliable", "voice", "notebook"]
    assert all(profile(name).name == name for name in PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_each_is_a_configuration_with_a_reason_for_each_value(name: str) -> None:
    chosen = profile(name)
    config = StreamConfig.from_profile(name)
    told = {path: origin for path, origin in config.origins.items() if origin != "default"}
    assert told == dict.fromkeys((setting.path for setting in chosen.settings), f"profile {name}")
    for setting in chosen.settings:
        assert re.fullmatch(r"[A-Z].{12,}\.", setting.why), setting.path
        assert f"{setting.path} " in config.explain()
    assert chosen.use.endswith(".")


def test_none_says_what_is_the_default_anyway() -> None:
    """But where the profile is about it."""
    defaults = dict(
        leaves({**StreamConfig().model_dump(), "on_error": {"action": "fail", "retry": Retry().model_dump()}})
    )
    said = {
        (each.name, setting.path)
        for each in PROFILES.values()
        for setting in each.settings
        if defaults[setting.path] == setting.value
    }
    assert said == {("reliable", "backpressure"), ("voice", "on_error.retry.after_output")}


def test_values_are_a_new_dict_each_time() -> None:
    profile("voice").values["timeouts"]["idle"] = 5
    assert profile("voice").values["timeouts"]["idle"] == 8.0


@pytest.mark.parametrize("name", ["voise", "", 5])
def test_another_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'voice'" if name == "voise" else "allowed: low_latency"):
        profile(name)
