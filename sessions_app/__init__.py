"""A durable job engine: jobs are rows, work is shards under leases, events are a log."""

__version__ = "0.1.0"
