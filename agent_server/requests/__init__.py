"""Each accepted body becomes a `ChatRequest`."""
