"""The rule-based planner: no model, no key, the same tools."""
