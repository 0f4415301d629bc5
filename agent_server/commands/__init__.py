"""The commands of `agent-server`, one module each, imported when they are called."""
