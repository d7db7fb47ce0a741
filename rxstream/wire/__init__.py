"""Framings: bytes in, frames out, and back. Nothing here knows a provider, a clock or a socket."""
