"""Anthropic's Messages format: the adapter sends and receives, the wire translates."""
