"""Upstreams: one adapter for each wire format, one row for each provider that speaks it."""
