"""The tool that takes over workflows of other formats. It has no effect."""

from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from workflow_backend.backend import Backend
from workflow_backend.definition.importers import FormatChoice, import_definition
from workflow_backend.definition.parse import check_definition
from workflow_backend.definition.problems import InvalidWorkflowError
from workflow_backend.tools.calls import WorkflowText
from workflow_backend.tools.refusals import with_problems
from workflow_backend.tools.results import ProblemItem

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class ImportNote(BaseModel):
    """One field that has no counterpart: where it stood, why, and what was done instead."""

    model_config = ConfigDict(frozen=True)

    path: str
    reason: str
    instead: str


class ImportResult(BaseModel):
    """The workflow as one of ours."""

    model_config = ConfigDict(frozen=True)

    format: Literal["kubiya", "dagu"] = Field(description="The format that it was read as.")
    workflow: str = Field(description="The workflow as YAML; it is valid.")
    notes: list[ImportNote] = Field(description="What was not taken over as it was; read each.")
    warnings: list[ProblemItem]
    needs_command: list[str] = Field(
        description="Steps that are in words, and need a command before it can run."
    )


def register_import_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tool to the server."""

    @server.tool(title="Take a workflow over", annotations=_READS)
    async def import_workflow(
        workflow: WorkflowText,
        format: Annotated[
            FormatChoice, Field(description="The format it is in; `auto` finds out.")
        ] = "auto",
    ) -> ImportResult:
        """Turn a workflow of Kubiya (JSON or YAML) or Dagu (YAML) into one of this server.

        Nothing runs. The notes name every field that has no counterpart, and what was done.
        """
        try:
            found = import_definition(workflow, format)
        except InvalidWorkflowError as error:
            what = "It cannot be imported. Repair each problem:"
            raise with_problems("invalid_workflow", what, error.problems) from error
        warnings = check_definition(found.yaml, backend.runners).warnings
        return ImportResult(
            format=found.format,
            workflow=found.yaml,
            notes=[
                ImportNote(path=note.path, reason=note.reason, instead=note.instead)
                for note in found.notes
            ],
            warnings=[ProblemItem.of(warning) for warning in warnings],
            needs_command=[
                step.name for step in found.workflow.all_steps() if step.kind == "needs_command"
            ],
        )
