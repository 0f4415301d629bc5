"""What passes between engine, workflow and activity, as plain JSON values. Pure.

The dataclasses of `engines.base` to and from dictionaries; the names of workflows, activities,
signals, updates and memo fields are here as well, because open runs know them: they never change.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from workflow_backend.definition.model import Step, Workflow
from workflow_backend.engines.base import Artefact, AttemptResult, AttemptSpec

Json = dict[str, Any]

RUN = "run"
ATTEMPT = "attempt"
HIDDEN_ATTEMPT = "hidden_attempt"
# What the name of a queue for agent steps ends in.
AGENTS = ".agents"
CANCEL = "cancel"
ADMIT = "admit"
DELIVER = "deliver"
RESULT = "result"
EVENT = "event"
STOPPED = "stopped"
ABOUT = "about"
NOW = "now"
GROUP = "group"
JOIN = "join"
LEAVE = "leave"
PROBE = "probe"
FIRING = "firing"
BEGIN = "begin"
FIRED = "fired"
# Where outputs are that a run took over from another one.
KEPT = "kept:"
# An attempt that a worker gave up because it ends itself; another one makes it again.
WORKER_STOPPED = "WorkerStopped"
CANNOT_CONTINUE = "CannotContinue"

_LOST = "worker_lost: the worker that ran this attempt died or cannot be reached"


@dataclass(frozen=True, slots=True)
class RunArguments:
    """All that a run is started with.

    `group` is the workflow id of its concurrency group, `told` that of whom it tells of its end
    besides.
    """

    run_id: str
    owner: str
    workflow: Json
    sha256: str
    inputs: Json
    interpreter: int
    heartbeat_timeout_seconds: float
    depth: int = 0
    trace: Json = field(default_factory=dict)
    kept: Json = field(default_factory=dict)
    parent_run_id: str | None = None
    rerun_of: str | None = None
    scheduled_by: str | None = None
    group: str | None = None
    is_admitted: bool = True
    told: str | None = None

    def to_json(self) -> Json:
        """The arguments as a payload."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> "RunArguments":
        """The arguments that `to_json` gave; what a later version added is left out."""
        return cls(**{key: document[key] for key in cls.__slots__ if key in document})


def workflow_to_json(workflow: Workflow) -> tuple[Json, str]:
    """The definition, and the sha256 of its canonical form."""
    document = workflow.model_dump(mode="json", by_alias=True)
    canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    brief = workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return brief, hashlib.sha256(canonical).hexdigest()


def workflow_from_json(document: Mapping[str, object]) -> Workflow:
    """The definition that `workflow_to_json` gave."""
    return Workflow.model_validate(document)


def spec_to_json(spec: AttemptSpec) -> Json:
    """An attempt as the argument of its activity."""
    document: Json = {
        name: getattr(spec, name)
        for name in AttemptSpec.__slots__
        if name not in {"step", "env", "secrets"}
    }
    document["step"] = spec.step.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document["env"] = dict(spec.env)
    document["secrets"] = list(spec.secrets)
    document["trace"] = dict(spec.trace)
    return document


def spec_from_json(document: Json) -> AttemptSpec:
    """The attempt that `spec_to_json` gave."""
    fields = {key: document[key] for key in AttemptSpec.__slots__ if key in document}
    fields["step"] = Step.model_validate(document["step"])
    fields["secrets"] = tuple(document["secrets"])
    return AttemptSpec(**fields)


def result_to_json(result: AttemptResult) -> Json:
    """What an attempt came to, as the result of its activity."""
    document = {name: getattr(result, name) for name in AttemptResult.__slots__}
    document["outputs"] = dict(result.outputs)
    document["artefacts"] = [asdict(artefact) for artefact in result.artefacts]
    return document


def result_from_json(document: Json) -> AttemptResult:
    """The result that `result_to_json` gave."""
    fields = {key: document[key] for key in AttemptResult.__slots__ if key in document}
    fields["artefacts"] = tuple(Artefact(**artefact) for artefact in document["artefacts"])
    return AttemptResult(**fields)


def lost_result(reason: str = "") -> AttemptResult:
    """The result of an attempt whose worker did not live to tell it."""
    return AttemptResult("worker_lost", {"stdout": ""}, error=reason or _LOST)


def failed_result(reason: str) -> AttemptResult:
    """The result of an attempt that could not be made or told."""
    return AttemptResult("failed", {"stdout": ""}, error=reason)


def cancelled_result(reason: str) -> AttemptResult:
    """The result of an attempt that was cancelled before any worker took it."""
    return AttemptResult("cancelled", {"stdout": ""}, error=cancelled_text(reason))


def cancelled_text(reason: str) -> str:
    """What the result of a cancelled attempt says."""
    return f"cancelled: {reason}" if reason else "cancelled"
