"""Names of fields: ours, and what Dagu and Kubiya call the same. Both ways read this table.

The first name is the one that Kubiya's API takes; the importer takes all of them, in camel case or
snake case. Source: `kubiya-workflow-sdk`, `dsl/step.py` and `dsl/workflow.py`; Dagu, "YAML
Specification" (2026-11), its field names alone.
"""

from types import MappingProxyType

Names = MappingProxyType[str, tuple[str, ...]]

WORKFLOW: Names = MappingProxyType(
    {
        "name": ("name",),
        "description": ("description",),
        "type": ("type",),
        "runner": ("runner",),
        "inputs": ("params", "inputs", "parameters"),
        "env": ("env",),
        "secrets": ("secrets",),
        "consts": ("consts",),
        "defaults": ("defaults",),
        "working_dir": ("dir", "working_dir"),
        "shell": ("shell",),
        "timeout": ("timeout", "timeout_sec"),
        "max_parallel": ("maxActiveSteps",),
        "max_runs": ("maxActiveRuns",),
        "queue": ("queue",),
        "delay": ("delaySec",),
        "preconditions": ("preconditions", "precondition"),
        "schedule": ("schedule",),
        "catch_up": ("catchup_window",),
        "overlap": ("overlap_policy",),
        "handlers": ("handlerOn",),
        "container": ("container",),
        "steps": ("steps",),
    }
)
STEP: Names = MappingProxyType(
    {
        "name": ("name",),
        "id": ("id",),
        "description": ("description",),
        "command": ("command",),
        "script": ("script",),
        "run": ("run",),
        "call": ("call",),
        "params": ("params",),
        "executor": ("executor",),
        "depends": ("depends", "depends_on"),
        "env": ("env",),
        "working_dir": ("dir", "working_dir"),
        "shell": ("shell",),
        "timeout": ("timeout", "timeout_sec"),
        "retry": ("retryPolicy", "retry"),
        "repeat": ("repeatPolicy",),
        "continue_on": ("continueOn",),
        "preconditions": ("preconditions", "precondition", "when"),
        "output": ("output",),
        "parallel": ("parallel",),
        "approval": ("approval", "approval_required"),
        "container": ("container",),
        "image": ("image",),
        "secret": ("secret_name",),
    }
)
RETRY: Names = MappingProxyType(
    {
        "limit": ("limit", "max_attempts"),
        "interval": ("intervalSec", "interval"),
        "backoff": ("exponentialBase", "backoff"),
        "max_interval": ("maxIntervalSec",),
        "on_exit_codes": ("exitCodes", "exit_code"),
    }
)
REPEAT: Names = MappingProxyType(
    {
        "mode": ("repeat",),
        "limit": ("limit",),
        "interval": ("intervalSec", "interval"),
        "condition": ("condition",),
        "expected": ("expected",),
        "exit_codes": ("exitCode",),
    }
)
CONTINUE: Names = MappingProxyType(
    {
        "failure": ("failure", "failed"),
        "exit_codes": ("exitCode",),
    }
)
EXECUTOR: Names = MappingProxyType({"type": ("type",), "config": ("config", "with")})
HTTP: Names = MappingProxyType(
    {
        "url": ("url",),
        "method": ("method",),
        "headers": ("headers",),
        "body": ("body",),
        "query": ("query",),
        "timeout": ("timeout", "timeout_sec"),
    }
)
HANDLERS: Names = MappingProxyType(
    {
        "success": ("success",),
        "failure": ("failure",),
        "cancel": ("cancel", "abort"),
        "exit": ("exit",),
        "init": ("init",),
    }
)


def vendor_name(table: Names, ours: str) -> str:
    """What Kubiya's API calls the field."""
    return table[ours][0]
