"""The fields of a JSON text, as far as it has come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream._fields import fields_of


@pytest.mark.parametrize("text", ["", "Hello", '"a"', "12", " \n", "```json", "null"])
def test_what_does_not_begin_as_an_object_or_array_has_none(text: str) -> None:
    assert fields_of(text) is None


@pytest.mark.parametrize(
    ("text", "values", "complete"),
    [
        ("{}", {"": {}}, True),
        (" [ ] ", {"": []}, True),
        ('{"a": 1, "b": [true, null, {"c": "x"}], "d": {}}', {"a": 1, "b[0]": True, "b[1]": None, "b[2].c": "x", "d": {}}, True),
        ('```json\n{"a": 1}\n``` That is all.', {"a": 1}, True),
        ('{"a b": {"c.d": 1}, "é": 2}', {'["a b"]["c.d"]': 1, "é": 2}, True),
        ("{", {}, False),
        ('{"a"', {}, False),
        ('{"a":', {}, False),
        ('{"a": 12', {}, False),  # it may be 123
        ('{"a": 12.', {}, False),
        ('{"a": 12e', {}, False),
        ('{"a": tru', {}, False),
        ('{"a": true', {}, False),
        ('{"a": 12 ', {"a": 12}, False),
        ('{"a": "x', {}, False),
        ('{"a": "x\\', {}, False),
        ('{"a": "x"', {"a": "x"}, False),
        ('{"a": "x", "b": [1, 2', {"a": "x", "b[0]": 1}, False),
        ('{"a": {"b": 1', {}, False),
        ('{"a": 1; "b": 2}', {}, False),
        ('{"a": 1 ; "b": 2}', {"a": 1}, False),
        ('{"a": NaN}', {}, False),
        ("{[1]: 2}", {}, False),
        ('{"a" 1}', {}, False),
        ("[1,]", {"[0]": 1}, False),
    ],
)  # fmt: skip
def test_fields_that_are_whole(text: str, values: dict[str, Any], complete: bool) -> None:
    found = fields_of(text)
    assert found is not None
    assert (found.values, found.complete) == (values, complete)


def test_what_is_too_deep_is_left() -> None:
    found = fields_of('{"a": 1, "b": ' + "[" * 100_000)
    assert found is not None
    assert (found.values, found.complete) == ({"a": 1}, False)
    assert fields_of("{" + "[" * 100_000) is not None


def test_a_long_name_with_many_values_is_no_long_list_of_long_paths() -> None:
    found = fields_of('{"a": 1, "' + "k" * 32_000 + '": [' + "0," * 16_000 + "0]}")
    assert found is not None
    assert (found.values, found.complete) == ({"a": 1}, False)


def test_too_many_fields_are_left() -> None:
    found = fields_of("[" + "0," * 10_000 + "0]")
    assert found is not None
    assert (len(found.values), found.complete) == (4096, False)


def test_half_a_surrogate_pair_is_shown_as_it_was_written() -> None:
    found = fields_of('{"\\ud800": "x\\udfff", "ä": "\\ud83d\\ude00"}')
    assert found is not None
    assert found.values == {'["\\\\ud800"]': "x\\udfff", "ä": "😀"}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
documents = st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=4)


def leaves(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [leaf for one in inner for leaf in leaves(one)] if inner else [value]


@given(documents, st.sampled_from([None, 2]))
def test_of_a_whole_text_all_fields_and_of_a_part_some_of_them(document: Any, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    whole = fields_of(text)
    assert whole is not None
    assert whole.complete
    assert list(whole.values.values()) == leaves(document)
    before = 0
    for end in range(1, len(text)):
        part = fields_of(text[:end])
        assert part is not None
        assert not part.complete
        assert all(whole.values[path] == value for path, value in part.values.items())
        assert list(part.values) == list(whole.values)[: len(part.values)]
        assert len(part.values) >= before
        before = len(part.values)
