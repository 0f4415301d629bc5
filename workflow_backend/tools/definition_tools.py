"""Tools that read definitions: compile, plan, schema, templates. None of them has an effect."""

from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from workflow_backend.backend import Backend
from workflow_backend.definition.mermaid import to_mermaid
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.normal_form import to_yaml
from workflow_backend.definition.parse import check_definition, check_step
from workflow_backend.definition.plan import Plan
from workflow_backend.definition.problems import closest, listed
from workflow_backend.definition.reference import EXAMPLE, reference_markdown
from workflow_backend.definition.schema import workflow_schema
from workflow_backend.templates.catalogue import Template, TemplateCatalogue
from workflow_backend.tools.calls import (
    DEFAULT_OWNER,
    Inputs,
    StepText,
    ToolContext,
    WorkflowText,
    owner_of,
)
from workflow_backend.tools.refusals import with_problems
from workflow_backend.tools.results import (
    CompileResult,
    ProblemItem,
    SchemaResult,
    StepCheckResult,
    TemplateResult,
    TemplatesResult,
    TemplateSummary,
)

_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


def register_definition_tools(server: MCPServer, backend: Backend) -> None:
    """Add the tools to the server."""
    _register_compile(server, backend)
    _register_schema(server)
    _register_templates(server)


def valid_workflow(text: str, backend: Backend) -> Workflow:
    """The workflow of the text.

    Raises:
        RefusalError: It is not valid; the message lists every problem with its fix.
    """
    checked = check_definition(text, backend.runners)
    if checked.workflow is None:
        what = "The workflow is not valid. Repair each problem:"
        raise with_problems("invalid_workflow", what, checked.problems)
    return checked.workflow


def _register_compile(server: MCPServer, backend: Backend) -> None:
    @server.tool(title="Check a workflow", annotations=_READS)
    async def compile_workflow(workflow: WorkflowText) -> CompileResult:
        """Check a workflow and give its normal form, or every problem with path, reason and fix.

        Use it after writing a workflow and before showing or running it.
        """
        checked = check_definition(workflow, backend.runners)
        warnings = [ProblemItem.of(warning) for warning in checked.warnings]
        valid = checked.workflow
        if valid is None:
            problems = [ProblemItem.of(problem) for problem in checked.problems]
            return CompileResult(valid=False, problems=problems, warnings=warnings)
        return CompileResult(
            valid=True,
            problems=[],
            warnings=warnings,
            name=valid.name,
            workflow=to_yaml(valid),
            steps=[step.name for step in valid.steps],
            inputs=backend.plan(valid, {}, DEFAULT_OWNER).inputs,
            mermaid=to_mermaid(valid),
        )

    @server.tool(title="Check one step", annotations=_READS)
    async def validate_step(
        step: StepText,
        inputs: Annotated[
            list[str] | None, Field(description="Names of the workflow's inputs.", max_length=200)
        ] = None,
    ) -> StepCheckResult:
        """Check one step without the rest of its workflow; paths begin at the step.

        The steps in its `depends` count as there. Use it to repair a step of a long workflow.
        """
        checked = check_step(step, inputs or ())
        return StepCheckResult(
            valid=checked.workflow is not None,
            problems=[ProblemItem.of(problem) for problem in checked.problems],
            warnings=[ProblemItem.of(warning) for warning in checked.warnings],
        )

    @server.tool(title="Plan a workflow", annotations=_READS)
    async def plan_workflow(
        workflow: WorkflowText, ctx: ToolContext, inputs: Inputs = None
    ) -> Plan:
        """Show what a run would do, without running: order, commands, hosts, secrets, risks.

        `can_run` is false if something is missing; `blockers` says what.
        """
        checked = valid_workflow(workflow, backend)
        await backend.know_runner(checked.runner)
        return backend.plan(checked, inputs or {}, owner_of(ctx))


def _register_schema(server: MCPServer) -> None:
    @server.tool(title="How workflows are written", annotations=_READS)
    async def get_workflow_schema() -> SchemaResult:
        """Give the JSON Schema of workflows, an example, and a reference with the expressions."""
        return SchemaResult(
            json_schema=workflow_schema(), example=EXAMPLE, reference=reference_markdown()
        )


def _register_templates(server: MCPServer) -> None:
    catalogue = TemplateCatalogue()

    @server.tool(title="List ready workflows", annotations=_READS)
    async def list_templates(
        query: Annotated[
            str, Field(description="What is wanted, in words; sorts by fit.", max_length=10_000)
        ] = "",
    ) -> TemplatesResult:
        """List the templates: ready workflows for common tasks, with their inputs."""
        templates = catalogue.ranked(query) if query else catalogue.all()
        return TemplatesResult(
            templates=[_summary(template) for template in templates],
            best=catalogue.match(query) if query else None,
        )

    @server.tool(title="Get a ready workflow", annotations=_READS)
    async def get_template(
        name: Annotated[str, Field(description="Name of the template.", max_length=100)],
    ) -> TemplateResult:
        """Give one template with its workflow as YAML, ready to change, plan or run."""
        template = catalogue.get(name)
        if template is None:
            names = [known.name for known in catalogue.all()]
            meant = closest(name, names)
            hint = f"Did you mean {meant!r}?" if meant else f"The templates are {listed(names)}."
            raise ToolError(f"There is no template {name!r}. {hint}")
        return TemplateResult(**_summary(template).model_dump(), workflow=template.text)


def _summary(template: Template) -> TemplateSummary:
    return TemplateSummary(
        name=template.name,
        title=template.title,
        description=template.description,
        keywords=list(template.keywords),
        inputs=list(template.inputs),
        network=template.network,
    )
