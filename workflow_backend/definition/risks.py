"""What a step does that a person should know of before it runs."""

import re
from collections.abc import Iterator

from workflow_backend.definition.expressions import OPEN
from workflow_backend.definition.model import Step
from workflow_backend.definition.problems import listed

_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), note)
    for pattern, note in (
        (r"\brm\s+(-\w+\s+)*-\w*[rf]", "deletes files without asking"),
        (r"\bfind\b.{0,300}\s-delete\b", "deletes files without asking"),
        (
            r"\b(mkfs\w*|wipefs|fdisk|parted)\b|\bdd\b.{0,300}\bof=",
            "writes to a disk or device directly",
        ),
        (r"\b(sudo|su|doas)\b", "asks for the rights of another user"),
        (r"\b(curl|wget)\b[^\n|]{0,300}\|\s*(sudo\s+)?(ba|z)?sh\b", "runs what it downloads"),
        (r"\bchmod\b.{0,300}\b[0-7]?777\b|\bchown\s+-R\b", "changes the rights of files widely"),
        (r"\b(shutdown|reboot|poweroff|halt)\b", "stops the machine"),
        (r"\b(kill|pkill|killall)\b", "ends processes"),
        (r"\bsystemctl\s+(stop|disable|restart|mask)\b", "stops or restarts services"),
        (r"\bgit\s+push\b.{0,300}(--force|-f)\b", "overwrites history of a repository"),
        (r"\b(drop|truncate)\s+(table|database|schema)\b", "deletes data of a database"),
        (r"\bkubectl\s+(delete|drain|scale)\b|\bhelm\s+uninstall\b", "changes a cluster"),
        (r"\bterraform\s+(apply|destroy)\b", "changes infrastructure"),
        (
            r"\bdocker\s+(run\b.{0,300}--privileged|system\s+prune)",
            "changes the host through docker",
        ),
    )
)


def risks_of(step: Step, *, has_secrets: bool) -> Iterator[str]:
    """The risks of one step, each in a few words."""
    script = f"{step.run or ''}\n{step.python or ''}"
    for pattern, note in _PATTERNS:
        if pattern.search(script):
            yield note
    if step.http is not None and step.http.method not in {"GET", "HEAD"}:
        yield f"changes something at the host ({step.http.method})"
    if step.network and has_secrets:
        yield "has secrets and the network together"
    if step.approval is not None and step.approval.on_timeout == "approve":
        yield f"is approved by itself after {step.approval.timeout}"
    if step.agent is not None and step.agent.tools:
        yield f"lets a model call {listed(step.agent.tools)}"
        if OPEN in step.agent.prompt:
            yield "gives a model with tools data that may instruct it"
