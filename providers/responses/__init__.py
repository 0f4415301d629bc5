"""OpenAI's Responses format: the adapter sends and receives, the wire translates."""
