"""How names in a workflow are spelt."""

import re

STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
WORKFLOW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# A workflow inside a document: fits as the name of a step and of a workflow.
SUB_WORKFLOW_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
SIGNAL_NAME = STEP_NAME
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MODEL_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

# Set by the engine for every step.
RESERVED_ENV = frozenset({"RUN_ID", "STEP", "ATTEMPT", "IDEMPOTENCY_KEY", "OUTPUT"})
