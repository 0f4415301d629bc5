"""Steps: everything with an effect happens here, and ends with its attempt."""
