"""Engines: what makes a run durable."""
