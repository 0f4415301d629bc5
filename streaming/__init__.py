"""Events in the middle, the error tree, and an encoder for each stream format. No IO."""
