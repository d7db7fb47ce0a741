"""OpenAI's Chat Completions, as OpenAI and the many servers that are compatible with it speak it."""
