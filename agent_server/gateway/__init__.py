"""Which provider answers for which model name."""
