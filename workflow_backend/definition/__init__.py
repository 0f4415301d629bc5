"""The workflow definition: schema, strict parse, lint, plan, graph. Pure."""
