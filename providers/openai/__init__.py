"""OpenAI's chat completions format: the adapter sends and receives, the wire translates."""
