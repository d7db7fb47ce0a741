"""Dialects: what each provider's bytes mean, and the one registry of providers."""
