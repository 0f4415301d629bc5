"""Relaying: an answer whose format the client speaks as well goes out as the upstream sent it."""
