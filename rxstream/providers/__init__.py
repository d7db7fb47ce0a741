"""Providers: who serves models, in which dialect, and what each dialect's bytes mean.

Rules of this package:

* A dialect is a folder with the same three names in each: ``encode.py`` (our request to theirs), ``decode.py`` (their bytes
  to events), ``errors.py`` (their error bodies to ours). Dialects do not know each other.
* A provider that speaks a known dialect is a row of data in `rxstream.providers.compatible`.
"""

from rxstream.providers._registry import PROVIDERS, decoder_for, provider
from rxstream.providers.compatible import Cursor, Dialect, Evidence, Prefill, Provider, Quirks

__all__ = ["PROVIDERS", "Cursor", "Dialect", "Evidence", "Prefill", "Provider", "Quirks", "decoder_for", "provider"]
