"""The workflow definition: schema, strict parse, lint, plan, graph. Pure."""

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.definition.parse import Checked, check_definition, parse_workflow
from workflow_backend.definition.problems import InvalidWorkflowError, Problem
from workflow_backend.definition.values import validate_inputs

__all__ = [
    "Checked",
    "InvalidWorkflowError",
    "Problem",
    "Step",
    "Workflow",
    "check_definition",
    "parse_workflow",
    "validate_inputs",
]
