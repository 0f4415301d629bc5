"""The long tail of upstreams, through the optional package litellm, loaded on first use."""
