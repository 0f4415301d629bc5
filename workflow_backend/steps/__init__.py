"""Steps: everything with an effect happens here, and ends with its attempt."""

from workflow_backend.steps.executor import DEFAULT_BASE_ENV, StepExecutor, StepSettings
from workflow_backend.steps.isolation import IsolationError
from workflow_backend.steps.limits import StepLimits

__all__ = ["DEFAULT_BASE_ENV", "IsolationError", "StepExecutor", "StepLimits", "StepSettings"]
