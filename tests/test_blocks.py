"""Paragraphs and fenced blocks, as Markdown has them."""

from __future__ import annotations

import pytest

from rxstream.segment import TextUnit, split

FENCE = "```py\nx = 1\n\ny = 2\n```\n"


@pytest.mark.parametrize("by", ["paragraph", "code_fence"])
@pytest.mark.parametrize(
    "blocks",
    [
        ["One\nline.\n\n", "Two.\n \t\n\n", "    Three.\n"],
        ["\n \nLeading.\n\n", "And last.\n\n\n"],
        ["a\r\n\r\n", "b\r\n"],
        ["a\n\n", FENCE + "\n", "b\n\n", FENCE],
        ["a\n\n", "  ~~~~ info `x`\n~~~\n\n~~~~x\n   ~~~~~ \t\r\n\n", "b"],
        ["a\n\n", "```\nnever closed\n\n    ```\n``\n``` x\n``` ```\n\nstill open"],
        ["a\n\n", "``` x`y\n\n", "no fence\n\n", "``\n\n", "none"],
        ["a\n\n", "    ```\n\n", "\t```\n\n", "indented too far"],
        ["a ```\n\n", "not at the beginning\n~~ ~\n\n", "b"],
    ],
)
def test_blocks(by: TextUnit, blocks: list[str]) -> None:
    """Empty lines end a block, but not within a fence; they go with the block before them."""
    assert split("".join(blocks), by) == blocks


def test_a_paragraph_keeps_the_fence_that_stands_in_it() -> None:
    """No empty line, no cut."""
    paragraphs = [f"Like this:\n{FENCE}and so on.\n\n", "Next"]
    assert split("".join(paragraphs), "paragraph") == paragraphs


def test_a_fence_stands_apart() -> None:
    """With `code_fence` it is a piece, wherever it stands."""
    blocks = ["Like\nthis:\n", FENCE, "and this:\n", "~~~\n~~~\n\n", "   ```\n```\n", "End.\n\n", "Next"]
    assert split("".join(blocks), "code_fence") == blocks
    assert split(" \n" + FENCE, "code_fence") == [" \n" + FENCE]
