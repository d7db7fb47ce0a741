"""Where streams end: callbacks, iterators, Reactive Streams' subscribers, and text that is safe on a terminal."""
