"""What a schedule of Temporal carries besides its times: the workflow, its owner, its inputs.

It is in the memo of the schedule's action, in parts each of which stays within the schedule: what
is larger would become a file, and go while the schedule is still there.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, ScheduleActionStartWorkflow, ScheduleDescription

from workflow_backend.definition.model import Workflow
from workflow_backend.schedules.times import Times

PART_CHARACTERS = 48_000
# Temporal takes 2 MiB in one call.
MOST_PARTS = 32

_PART = "part{:03d}"


class ScheduleTooLargeError(ValueError):
    """The workflow and its inputs are more than a schedule of Temporal can hold."""


@dataclass(frozen=True, slots=True)
class ScheduleDocument:
    """A schedule without its times."""

    owner: str
    name: str
    mark: str
    workflow: Workflow
    inputs: Mapping[str, object]

    def plans(self, at: int) -> bool:
        """Whether this is one of the schedule's own times, in Unix seconds."""
        schedule = self.workflow.schedule
        return schedule is not None and Times(schedule).next(at - 1) == at

    def to_memo(self) -> dict[str, str]:
        """The parts.

        Raises:
            ScheduleTooLargeError: They are too many.
        """
        document = {
            "owner": self.owner,
            "name": self.name,
            "mark": self.mark,
            "workflow": self.workflow.model_dump(mode="json", by_alias=True),
            "inputs": dict(self.inputs),
        }
        text = base64.b64encode(zlib.compress(orjson.dumps(document))).decode("ascii")
        starts = range(0, len(text), PART_CHARACTERS)
        if len(starts) > MOST_PARTS:
            raise ScheduleTooLargeError("the workflow is too large for a schedule on Temporal")
        return {
            _PART.format(number): text[start : start + PART_CHARACTERS]
            for number, start in enumerate(starts)
        }

    @classmethod
    async def of(cls, client: Client, described: ScheduleDescription) -> "ScheduleDocument":
        """What a schedule carries.

        Raises:
            ValueError: It is none of ours.
        """
        action = described.schedule.action
        memo = action.memo if isinstance(action, ScheduleActionStartWorkflow) else None
        payloads = [
            value for _, value in sorted((memo or {}).items()) if isinstance(value, Payload)
        ]
        if not payloads:
            raise ValueError(f"the schedule {described.id} was not made by this program")
        parts = await client.data_converter.decode(payloads, [str] * len(payloads))
        document = orjson.loads(zlib.decompress(base64.b64decode("".join(parts))))
        document["workflow"] = Workflow.model_validate(document["workflow"])
        return cls(**document)
