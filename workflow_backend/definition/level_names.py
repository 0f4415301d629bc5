"""The words for the mappings of a workflow: their places, and what others call their keys."""

from pydantic import BaseModel

from workflow_backend.definition.actions import (
    AgentBudget,
    AgentTask,
    Approval,
    Container,
    HttpRequest,
    Wait,
    WorkflowCall,
)
from workflow_backend.definition.control import (
    Concurrency,
    Notification,
    Repeat,
    RetryPolicy,
    Schedule,
)
from workflow_backend.definition.input_spec import InputSpec
from workflow_backend.definition.model import Step, SubWorkflow, Workflow

LEVELS: dict[str, type[BaseModel]] = {
    "workflow": Workflow,
    "sub-workflow": SubWorkflow,
    "input": InputSpec,
    "step": Step,
    "retry": RetryPolicy,
    "http": HttpRequest,
    "approval": Approval,
    "wait": Wait,
    "agent": AgentTask,
    "budget": AgentBudget,
    "call": WorkflowCall,
    "container": Container,
    "repeat": Repeat,
    "schedule": Schedule,
    "concurrency": Concurrency,
    "notify": Notification,
}
PLACES = {
    "workflow": "the top level",
    "sub-workflow": "a workflow inside `workflows`",
    "input": "an input",
    "step": "a step",
    "retry": "`retry` of a step",
    "http": "`http` of a step",
    "approval": "`approval` of a step",
    "wait": "`wait` of a step",
    "agent": "`agent` of a step",
    "budget": "`budget` of an agent",
    "call": "`workflow` of a step",
    "container": "`container` of a step",
    "repeat": "`repeat` of a step",
    "schedule": "`schedule`",
    "concurrency": "`concurrency`",
    "notify": "an entry of `notify`",
}
# From the level where a key was found to the level it belongs to: how it is written there.
MOVES = {
    ("step", "retry"): "retry: {{{key}: {value}}}",
    ("step", "http"): "http: {{{key}: {value}}}",
    ("step", "approval"): "approval: {{{key}: {value}}}",
    ("step", "wait"): "wait: {{{key}: {value}}}",
    ("step", "agent"): "agent: {{{key}: {value}}}",
    ("step", "budget"): "agent: {{budget: {{{key}: {value}}}}}",
    ("step", "call"): "workflow: {{{key}: {value}}}",
    ("step", "container"): "container: {{{key}: {value}}}",
    ("step", "repeat"): "repeat: {{{key}: {value}}}",
    ("step", "workflow"): "{key}: {value}` at the top level, outside `steps",
    ("agent", "budget"): "budget: {{{key}: {value}}}",
    ("workflow", "schedule"): "schedule: {{{key}: {value}}}",
    ("workflow", "concurrency"): "concurrency: {{{key}: {value}}}",
    ("workflow", "step"): "steps: [{{name: first, {key}: {value}}}]",
    ("workflow", "retry"): "retry: {{{key}: {value}}}` in the step that it is for, not `{key}",
    ("sub-workflow", "step"): "steps: [{{name: first, {key}: {value}}}]",
    ("sub-workflow", "workflow"): "{key}: {value}` at the top level, outside `workflows",
    ("retry", "step"): "{key}: {value}` beside `retry",
    ("retry", "repeat"): "repeat: {{{key}: {value}}}` beside `retry",
    ("repeat", "retry"): "retry: {{{key}: {value}}}` beside `repeat",
    ("repeat", "step"): "{key}: {value}` beside `repeat",
    ("http", "step"): "{key}: {value}` beside `http",
    ("http", "retry"): "retry: {{{key}: {value}}}` beside `http",
    ("approval", "step"): "{key}: {value}` beside `approval",
    ("wait", "step"): "{key}: {value}` beside `wait",
    ("agent", "step"): "{key}: {value}` beside `agent",
    ("call", "step"): "{key}: {value}` beside `workflow",
    ("container", "step"): "{key}: {value}` beside `container",
    ("schedule", "concurrency"): "concurrency: {{{key}: {value}}}` beside `schedule",
}
# Keys that stand elsewhere, but have no use here.
USELESS = {
    ("sub-workflow", "name"): "its key in `workflows` is its name",
    ("sub-workflow", "version"): "the document has one",
    ("sub-workflow", "runner"): "it runs where the whole document does",
    ("sub-workflow", "workflows"): "all stand side by side at the top level",
}
_OF_WORKFLOWS = {
    "params": "inputs", "parameters": "inputs", "jobs": "steps", "tasks": "steps",
    "environment": "env", "variables": "env", "title": "name", "cwd": "working_dir",
    "parallelism": "max_parallel", "maxactivesteps": "max_parallel", "onerror": "on_failure",
    "failure": "on_failure", "exit": "finally", "onexit": "finally", "always": "finally",
    "cleanup": "finally", "teardown": "finally", "ensure": "finally",
}  # fmt: skip
# What other workflow formats call the same thing.
OTHER_NAMES = {
    "workflow": {
        **_OF_WORKFLOWS,
        "subworkflows": "workflows", "notifications": "notify", "trigger": "schedule",
        "triggers": "schedule",
    },
    "sub-workflow": {name: key for name, key in _OF_WORKFLOWS.items() if key != "name"},
    "step": {
        "id": "name", "title": "name", "needs": "depends", "dependson": "depends",
        "dependencies": "depends", "after": "depends", "command": "run", "cmd": "run",
        "script": "run", "bash": "run", "sh": "run", "commands": "run", "when": "if",
        "condition": "if", "preconditions": "if", "environment": "env", "cwd": "working_dir",
        "workdir": "working_dir", "dir": "working_dir", "workingdirectory": "working_dir",
        "timeoutseconds": "timeout", "timeoutminutes": "timeout", "timeoutsec": "timeout",
        "retries": "retry", "retrypolicy": "retry", "continueon": "continue_on_error",
        "continueonfailure": "continue_on_error", "ignoreerrors": "continue_on_error",
        "allowfailure": "continue_on_error", "request": "http",
        "human": "approval", "manual": "approval", "confirm": "approval", "approve": "approval",
        "humantask": "approval", "sleep": "wait", "pause": "wait", "delay": "wait",
        "llm": "agent", "ai": "agent", "call": "workflow", "subworkflow": "workflow",
        "loop": "foreach", "items": "foreach", "withitems": "foreach", "each": "foreach",
        "strategy": "matrix", "maxconcurrency": "max_parallel", "artifacts": "artefacts",
        "repeatpolicy": "repeat", "docker": "container",
    },
    "retry": {
        "attempts": "limit", "maxattempts": "limit", "count": "limit", "max": "limit",
        "retries": "limit", "times": "limit", "maxretries": "limit", "delay": "interval",
        "intervalsec": "interval", "wait": "interval", "multiplier": "backoff",
        "factor": "backoff", "maxdelay": "max_interval", "exitcodes": "on_exit_codes",
        "exitcode": "on_exit_codes",
    },
    "http": {
        "uri": "url", "endpoint": "url", "verb": "method", "data": "body", "payload": "json",
        "status": "expect_status", "expectedstatus": "expect_status",
        "redirects": "follow_redirects",
    },
    "input": {
        "value": "default", "options": "enum", "choices": "enum", "values": "enum",
        "min": "minimum", "max": "maximum", "regex": "pattern",
    },
    "approval": {
        "question": "message", "prompt": "message", "text": "message", "title": "message",
        "fields": "form", "inputs": "form", "input": "form", "expires": "timeout",
    },
    "wait": {
        "duration": "for", "sleep": "for", "timer": "for", "time": "for", "delay": "for",
        "event": "signal", "hook": "webhook", "callback": "webhook",
    },
    "agent": {
        "task": "prompt", "message": "prompt", "question": "prompt", "input": "prompt",
        "instructions": "system", "systemprompt": "system", "llm": "model",
        "functions": "tools", "schema": "output_schema", "jsonschema": "output_schema",
        "responseformat": "output_schema", "limits": "budget",
    },
    "budget": {
        "maxtokens": "tokens", "tokenlimit": "tokens", "maxturns": "turns",
        "iterations": "turns", "maxsteps": "turns",
    },
    "call": {
        "name": "ref", "id": "ref", "uses": "ref", "workflow": "ref", "with": "inputs",
        "params": "inputs", "parameters": "inputs", "args": "inputs", "arguments": "inputs",
    },
    "container": {"args": "command", "cmd": "command", "entrypoint": "command"},
    "repeat": {
        "condition": "until", "times": "limit", "count": "limit", "max": "limit",
        "attempts": "limit", "maxattempts": "limit", "delay": "interval", "every": "interval",
        "wait": "interval",
    },
    "schedule": {
        "expression": "cron", "crontab": "cron", "at": "cron", "tz": "timezone",
        "zone": "timezone", "concurrencypolicy": "overlap", "overlappolicy": "overlap",
    },
    "concurrency": {"name": "group", "key": "group", "id": "group", "strategy": "policy"},
    "notify": {
        "uri": "url", "webhook": "url", "endpoint": "url", "events": "on", "when": "on",
        "key": "secret", "signingsecret": "secret",
    },
}  # fmt: skip
