"""Definitions made at random: checking, planning and running agree on what is valid.

The documents are made of the published schema. Whatever is checked, nothing crashes; what the
schema refuses is refused; what is valid is planned, written out and read back, and run to its end.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from tests.workflow_backend.faulty_features import FEATURES, changed
from tests.workflow_backend.schema_documents import (
    JSON,
    WORDS,
    Generator,
    joined,
    mended,
    mutated,
)
from tests.workflow_backend.scripted_runtime import BAD, OK, Scripted
from workflow_backend.definition import Workflow, check_definition, parse_workflow
from workflow_backend.definition.normal_form import to_yaml
from workflow_backend.definition.plan import plan
from workflow_backend.definition.schema import workflow_schema
from workflow_backend.definition.secret_rules import NO_LIMITS
from workflow_backend.definition.values import resolve_inputs
from workflow_backend.engines.base import AttemptResult, AttemptSpec, ChildResult, ChildSpec
from workflow_backend.interpreter import interpret
from workflow_backend.rendering import concurrency_group

SCHEMA: Any = workflow_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PARTS = Generator(SCHEMA)
DOCUMENTS = PARTS.documents()
# Where a part of the schema stands in the good definition.
PLACES = {
    "AgentBudget": "steps.4.agent.budget", "AgentTask": "steps.4.agent",
    "Approval": "steps.0.approval", "Concurrency": "concurrency", "Container": "steps.8",
    "HttpRequest": "steps.8", "InputSpec": "inputs.more", "Notification": "notify.0",
    "Repeat": "steps.5.repeat", "RetryPolicy": "steps.5.retry", "Schedule": "schedule",
    "Step": "steps.8", "SubWorkflow": "workflows.more", "Wait": "steps.1.wait",
    "WorkflowCall": "steps.3.workflow",
}  # fmt: skip
ACTIONS = {"Container": "container", "HttpRequest": "http"}
ROOTS = {name: place.partition(".")[0] for name, place in PLACES.items()}
FEATURES_TEXT = to_yaml(parse_workflow(FEATURES))

fuzzed = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Instant(Scripted):
    """A runtime that answers everything at once, by chance."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    @override
    async def attempt(self, spec: AttemptSpec) -> AttemptResult:
        results = [OK, OK, BAD, AttemptResult("timed_out", error="late")]
        self.answers[spec.key] = self.chance.choice(results)
        return await super().attempt(spec)

    @override
    async def wait_signal(
        self, signal: str, key: str, seconds: float | None
    ) -> Mapping[str, object] | None:
        if seconds is not None and self.chance.random() < 0.3:
            return None
        return {"approved": self.chance.random() < 0.7, "values": {}, "payload": [1, {"a": "b"}]}

    @override
    async def child(self, key: str, spec: ChildSpec) -> ChildResult:
        inner = Instant(self.chance)
        inner.cancel = self.cancel
        outcome = await run_to_its_end(spec.workflow, spec.inputs, inner, spec.run_id)
        return ChildResult(outcome.status, outcome.error, outcome.outputs, outcome.states)


async def run_to_its_end(
    workflow: Workflow, inputs: Mapping[str, object], runtime: Instant, run_id: str = "run"
) -> Any:
    """Interpret the workflow, and hold its events to their order."""
    async with asyncio.timeout(20):
        outcome = await interpret(workflow, inputs, runtime, run_id=run_id)
    types = [event["type"] for event in runtime.events]
    assert types[0] == "workflow_started"
    assert types[-1] == "workflow_complete"
    assert types.count("workflow_complete") == 1
    assert set(outcome.steps) == {step.name for step in workflow.all_steps()}
    assert outcome.status in {"success", "failed", "cancelled", "timed_out"}
    return outcome


@fuzzed
@given(DOCUMENTS)
def test_what_fits_the_schema_is_checked_without_a_crash(document: Any) -> None:
    VALIDATOR.validate(document)
    checked = check_definition(document)
    assert (checked.workflow is None) == bool(checked.problems)
    assert all(problem.reason and problem.fix for problem in checked.problems)


@fuzzed
@given(mutated(DOCUMENTS))
def test_what_the_schema_refuses_is_refused(document: Any) -> None:
    checked = check_definition(document)
    assert (checked.workflow is None) == bool(checked.problems)
    if not VALIDATOR.is_valid(document):
        assert checked.workflow is None, list(VALIDATOR.iter_errors(document))


@pytest.mark.parametrize("name", sorted(SCHEMA["$defs"]))
def test_what_the_schema_refuses_of_a_part_is_refused_in_a_good_definition(name: str) -> None:
    validator = VALIDATOR.evolve(schema={**SCHEMA["$defs"][name], "$defs": SCHEMA["$defs"]})
    seen = {True: 0, False: 0}

    @settings(parent=fuzzed, max_examples=30)
    @given(PARTS.part(name), st.data())
    def hold(value: Any, data: st.DataObject) -> None:
        validator.validate(value)
        value = data.draw(mutated(st.just(value), least=0))
        whole = {"name": "more", ACTIONS[name]: value} if name in ACTIONS else value
        document = changed(PLACES[name], whole)
        is_valid = validator.is_valid(value)
        assert is_valid == VALIDATOR.is_valid(document)
        checked = check_definition(document)
        seen[is_valid] += 1
        if not is_valid:
            assert checked.workflow is None, value
            assert any(problem.path.startswith(ROOTS[name]) for problem in checked.problems)

    hold()
    assert all(seen.values()), seen


@fuzzed
@given(joined(DOCUMENTS), st.randoms(use_true_random=False), st.booleans())
def test_what_is_valid_is_planned_written_read_and_run(
    document: Any, chance: random.Random, is_cancelled: bool
) -> None:
    valid = mended(document)
    assume(valid is not None)
    checked = check_definition(valid or {})
    assert checked.workflow is not None
    VALIDATOR.validate(valid)
    workflow = checked.workflow
    again = parse_workflow(to_yaml(workflow))
    assert again == workflow
    assert to_yaml(again) == to_yaml(workflow)
    given_inputs = {name: chance.choice(["a", 1, [1], None]) for name in workflow.inputs}
    secrets = {"K": NO_LIMITS}
    planned = plan(workflow, given_inputs, secrets=secrets)
    values, problems = resolve_inputs(workflow, given_inputs)
    assert planned.can_run <= (not problems)
    assert plan(again, given_inputs, secrets=secrets) == planned
    if not planned.can_run:
        return
    assert not any(step.kind in {"container", "needs_command"} for step in planned.steps)
    group = concurrency_group(workflow, values, "run")
    assert (group is None) == (planned.concurrency is None)

    async def run() -> None:
        runtime = Instant(chance)
        if is_cancelled:
            runtime.cancel.set_result("enough")
        outcome = await run_to_its_end(workflow, values, runtime)
        if is_cancelled:
            assert outcome.status == "cancelled"

    asyncio.run(run())


@fuzzed
@given(
    st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.decode("utf-8", "replace"))
)
def test_no_text_breaks_the_check(text: str) -> None:
    checked = check_definition(text)
    assert (checked.workflow is None) == bool(checked.problems)


@fuzzed
@given(
    st.integers(0, len(FEATURES_TEXT)),
    st.integers(0, 60),
    st.sampled_from([*WORDS, "\t", ": ", "- ", "{", "}", "[", "&a", "*a", "!!x", "|", "\0", "#"])
    | st.text(max_size=4),
)
def test_no_damage_to_the_text_of_a_whole_definition_breaks_the_check(
    at: int, length: int, instead: str
) -> None:
    text = FEATURES_TEXT[:at] + instead + FEATURES_TEXT[at + length :]
    checked = check_definition(text)
    assert (checked.workflow is None) == bool(checked.problems)
    if checked.workflow is not None:
        assert parse_workflow(to_yaml(checked.workflow)) == checked.workflow
        plan(checked.workflow, {})


@fuzzed
@given(JSON)
def test_no_value_breaks_the_check(value: Any) -> None:
    assert check_definition({"name": "x", "steps": value}).problems or isinstance(value, list)
    checked = check_definition(value if isinstance(value, dict) else {"steps": [value]})
    assert checked.workflow is None
