"""Several streams as one. A track is a stream with a label; its failure is an event, and the others go on.

::

    from rxstream import tracks

    tracks.race(stream("local:smollm2", prompt), stream("openai:gpt-5-mini", prompt))
"""

from rxstream.tracks._align import align
from rxstream.tracks._best_of import best_of
from rxstream.tracks._combine_tracks import combine_tracks
from rxstream.tracks._compare import compare
from rxstream.tracks._concat_ordered import concat_ordered
from rxstream.tracks._concat_unordered import concat_unordered
from rxstream.tracks._failover import failover
from rxstream.tracks._hedge import hedge
from rxstream.tracks._interleave import interleave
from rxstream.tracks._merge import merge
from rxstream.tracks._prioritize import prioritize
from rxstream.tracks._race import race
from rxstream.tracks._supersede import supersede
from rxstream.tracks._switch_latest import switch_latest
from rxstream.tracks._vote import vote

__all__ = [
    "align",
    "best_of",
    "combine_tracks",
    "compare",
    "concat_ordered",
    "concat_unordered",
    "failover",
    "hedge",
    "interleave",
    "merge",
    "prioritize",
    "race",
    "supersede",
    "switch_latest",
    "vote",
]
