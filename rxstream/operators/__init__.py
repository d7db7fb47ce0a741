"""Operators on events. Each works on any Observable; Rx's own stand beside them, never behind.

::

    from reactivex import operators as ops
    from rxstream import operators as rxo

An operator emits nothing while its subscriber's gate is closed (see `rxstream.Gate`). Those that wait, keep or count do so on
the subscriber's loop: a source that calls from another thread goes through ``observe_on_loop`` first.
"""

from rxstream.operators._chunks import chunks
from rxstream.operators._of_track import of_track
from rxstream.operators._of_type import of_type
from rxstream.operators._responses import responses
from rxstream.operators._text import text

__all__ = ["chunks", "of_track", "of_type", "responses", "text"]
