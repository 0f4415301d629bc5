"""How names in a workflow are spelt."""

import re

STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
WORKFLOW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

# Set by the engine for every step.
RESERVED_ENV = frozenset({"RUN_ID", "STEP", "ATTEMPT", "IDEMPOTENCY_KEY", "OUTPUT"})
