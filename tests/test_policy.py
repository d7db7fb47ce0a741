"""What is done when a stream fails, as data."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from rxstream.errors import ConfigurationError
from rxstream.operators import retry_stream
from rxstream.policy import ErrorPolicy, Retry
from rxstream.tracks import failover


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ("fail", ErrorPolicy()),
        ("retry", ErrorPolicy(action="retry")),
        ("complete_partial", ErrorPolicy(action="complete_partial")),
        (Retry(attempts=5), ErrorPolicy(action="retry", retry=Retry(attempts=5))),
        ({"action": "retry", "retry": {"delay": 1}}, ErrorPolicy(action="retry", retry=Retry(delay=1.0))),
        ({"action": "failover", "to": ["a:b"]}, ErrorPolicy(action="failover", to=["a:b"])),
        (ErrorPolicy(action="failover", to=["a:b"]), ErrorPolicy(action="failover", to=["a:b"])),
    ],
)
def test_a_policy_is_made_of_all_that_describes_one(given: Any, policy: ErrorPolicy) -> None:
    assert ErrorPolicy.of(given) == policy
    assert ErrorPolicy.of(json.loads(policy.model_dump_json())) == policy


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("explode", "action"),
        ("failover", "to: name the models"),
        (5, "on_error"),
        (None, "on_error"),
        ({"acton": "retry"}, "did you mean 'action'"),
        ({"action": "retry", "to": ["a:b"]}, "not for retry"),
        ({"action": "fail", "retry": {}}, "retry: is given"),
        ({"action": "retry", "retry": {"atempts": 1}}, "did you mean 'attempts'"),
        ({"action": "retry", "retry": {"attempts": 0}}, r"retry\.attempts"),
        ({"action": "retry", "retry": {"delay": -1}}, r"retry\.delay"),
        ({"action": "retry", "retry": {"max_delay": float("inf")}}, "max_delay"),
        ({"action": "failover", "to": [""]}, r"to\[0\]"),
        ({"action": "complete_partial", "after_output": "restart"}, "are for failing over"),
        ({"action": "retry", "on_finish": ["length"]}, "are for failing over"),
        ({"action": "failover", "to": ["a:b"], "on_finish": ["stop"]}, r"on_finish\[0\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ErrorPolicy.of(given)


def test_a_retry_of_a_dict() -> None:
    assert Retry.of({"attempts": 2}) == Retry(attempts=2)
    assert Retry.of(Retry(delay=2.0)).delay == 2
    with pytest.raises(ConfigurationError, match="attempts"):
        Retry.of({"attempts": "many"})


def test_only_retry_retries_unless_it_is_said_how() -> None:
    assert [ErrorPolicy.of(word).retries for word in ("fail", "retry", "complete_partial")] == [None, Retry(), None]
    assert ErrorPolicy(action="complete_partial", retry=Retry(attempts=2)).retries == Retry(attempts=2)


def test_fields_are_the_operators_options_with_their_defaults() -> None:
    """So that one page describes both."""
    options = inspect.signature(retry_stream).parameters
    assert {name: options[name].default for name in Retry.model_fields} == Retry().model_dump()
    data = {name for name, option in options.items() if "Callable" not in option.annotation and name != "budget"}
    assert data - {"max_buffered"} == set(Retry.model_fields)
    options, policy = inspect.signature(failover).parameters, ErrorPolicy()
    assert (policy.after_output, tuple(policy.on_finish)) == (
        options["after_output"].default,
        options["on_finish"].default,
    )


def test_models_are_a_list_that_nobody_changes() -> None:
    given = ["openai:gpt-5"]
    policy = ErrorPolicy(action="failover", to=given)
    given.append("openai:gpt-6")
    assert policy.to == ("openai:gpt-5",)
    with pytest.raises(ConfigurationError, match="to: must be a list, not 'openai:gpt-5'"):
        ErrorPolicy(action="failover", to="openai:gpt-5")
