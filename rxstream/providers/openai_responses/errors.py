"""What an error of the Responses API means: it reports as Chat Completions does, and one table serves both dialects."""

from typing import Final

from rxstream.providers import _openai_errors

__all__ = ["classify"]

classify: Final = _openai_errors.classify
