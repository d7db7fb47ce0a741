"""Operators on events. Each works on any Observable; Rx's own stand beside them, never behind.

::

    from reactivex import operators as ops
    from rxstream import operators as rxo
"""

from rxstream.operators._chunks import chunks
from rxstream.operators._of_type import of_type
from rxstream.operators._text import text

__all__ = ["chunks", "of_type", "text"]
