"""What an error of Chat Completions means, at OpenAI and at the servers compatible with it: one table serves both dialects."""

from rxstream.providers._openai_errors import classify

__all__ = ["classify"]
