"""What an error of Chat Completions means, at OpenAI and at compatible servers: one table serves both of OpenAI's dialects."""

from typing import Final

from rxstream.providers import _openai_errors

__all__ = ["classify"]

classify: Final = _openai_errors.classify
