"""Where measurements go: memory, a log, OpenTelemetry and, through it, Prometheus."""
