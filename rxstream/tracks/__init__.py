"""Several streams as one. A track is a stream with a label; its failure is an event, and the others go on.

::

    from rxstream import tracks

    tracks.race(stream("local:smollm2", prompt), stream("openai:gpt-5-mini", prompt))
"""

__all__: list[str] = []
