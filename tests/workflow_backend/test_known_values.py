"""What is known of texts before a run is what the run will make of them, or nothing."""

from typing import Any

import pytest

from workflow_backend.definition import parse_workflow
from workflow_backend.definition.known_values import KnownValues
from workflow_backend.definition.plan import plan
from workflow_backend.definition.secret_rules import SecretRule
from workflow_backend.rendering import Renderer

INPUTS = {"other": "other.test"}


def asking(env: dict[str, str], headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A workflow whose one request goes to the host in `env.H`, from the folder in `env.D`."""
    request = {"url": "https://${{ env.H }}/", "headers": headers or {}}
    return {
        "name": "x",
        "inputs": {"other": {"default": "other.test"}},
        "env": {"H": "api.example.com", "D": "/srv"},
        "steps": [
            {"name": "a", "env": env, "http": request},
            {"name": "b", "env": env, "run": "ls", "working_dir": "/x/${{ env.H }}"},
        ],
    }


OF_THE_STEP = {
    "nothing": ({}, "api.example.com"),
    "a text": ({"H": "evil.test"}, "evil.test"),
    "an input": ({"H": "${{ inputs.other }}"}, "other.test"),
    "one of the workflow's": ({"H": "${{ env.D }}"}, "/srv"),
    "another name": ({"G": "evil.test"}, "api.example.com"),
}


@pytest.mark.parametrize(("env", "host"), OF_THE_STEP.values(), ids=OF_THE_STEP.keys())
def test_the_environment_of_a_step_is_known_as_the_run_will_see_it(
    env: dict[str, str], host: str
) -> None:
    workflow = parse_workflow(asking(env))
    asks, lists = (Renderer(workflow, INPUTS, "r").resolve(step, {}) for step in workflow.steps)
    assert asks.step.http is not None
    assert (asks.step.http.url, lists.step.working_dir) == (f"https://{host}/", f"/x/{host}")
    known = KnownValues(workflow, INPUTS)
    assert known.text("https://${{ env.H }}/", workflow.steps[0]) == asks.step.http.url
    assert known.text("/x/${{ env.H }}", workflow.steps[1]) == lists.step.working_dir


def test_what_the_run_decides_of_a_step_hides_what_the_workflow_says() -> None:
    workflow = parse_workflow(asking({"H": "${{ run.id }}"}))
    known = KnownValues(workflow, INPUTS)
    assert known.text("https://${{ env.H }}/", workflow.steps[0]) == "https://${{ env.H }}/"
    assert known.text("${{ env.H }}") == "api.example.com"


def test_a_secret_is_held_to_the_host_that_the_environment_of_the_step_names() -> None:
    rules = {"KEY": SecretRule(hosts=("api.example.com",))}
    headers = {"A": "${{ secrets.KEY }}"}
    assert plan(parse_workflow(asking({}, headers)), {}, secrets=rules).can_run
    found = plan(parse_workflow(asking({"H": "evil.test"}, headers)), {}, secrets=rules)
    assert found.hosts == ["evil.test"]
    assert found.blockers == [
        "step `a` would not be given the secret `KEY`: it may go to api.example.com alone, not to"
        " evil.test"
    ]
