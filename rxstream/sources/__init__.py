"""Where streams begin: models, SDKs' streams, iterables, callbacks, tapes."""
