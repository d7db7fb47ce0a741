"""What an error of the Responses API means: it reports as Chat Completions does, and one table serves both."""

from rxstream.providers._openai_errors import classify

__all__ = ["classify"]
