"""What tests of configurations share."""

from __future__ import annotations

import pickle

from rxstream import StreamConfig

PLANTED = "sk-planted-in-a-config-0123456789"


def again(config: StreamConfig) -> StreamConfig:
    """As another process gets it."""
    loaded: StreamConfig = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own
    return loaded
