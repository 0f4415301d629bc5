"""Workflows of ours in Kubiya's format: each field, and what is refused by name."""

import json

import pytest

from workflow_backend.definition.importers import import_definition
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.parse import parse_workflow
from workflow_backend.engines.kubiya.vendor_workflow import (
    UnsupportedWorkflowError,
    lacks_of,
    translate,
)

WHOLE = """
name: whole
description: All that the format has
inputs:
  env: {type: string, default: dev}
  count: {type: integer, required: true}
env: {LEVEL: info, PLACE: "eu-${{ inputs.env }}", PRICE: "$5"}
working_dir: /srv/${{ inputs.env }}
timeout: 1h30m
max_parallel: 3
steps:
  - name: build
    description: Build it
    run: |
      echo "$LEVEL" ${#X} $(date)
    shell: bash
    timeout: 1500ms
    retry: {limit: 2, interval: 5s, backoff: 1.5, max_interval: 1m, on_exit_codes: [75]}
    continue_on_error: true
  - name: look-at
    depends: [build]
    python: print(1)
    env: {OUT: "${{ steps.build.outputs.stdout }}", LEVEL: "${{ env.LEVEL }}"}
    working_dir: /srv/other
    if: inputs.env == 'prod'
  - name: post
    depends: [build]
    http:
      url: https://example.com/${{ inputs.env }}
      method: POST
      headers: {X-Env: "${{ env.PLACE }}"}
      json: {text: "${{ steps.build.outputs.stdout }}", n: 1}
  - name: think
    agent: {prompt: "Look at ${{ steps.build.outputs.stdout }}", system: Be short, model: openai/x}
    depends: [build]
on_failure:
  - {name: tell, run: ./tell.sh}
finally:
  - {name: good, run: ./good.sh, if: run.status == 'success'}
  - {name: clean, run: ./clean.sh}
schedule: {cron: "0 6 * * *"}
outputs: {built: "${{ steps.build.outputs.stdout }}"}
"""
BODY = {
    "name": "whole",
    "description": "All that the format has",
    "type": "graph",
    "timeout": 5400,
    "maxActiveSteps": 3,
    "params": {"env": "dev"},
    "env": {"LEVEL": "info", "PLACE": "eu-${env}", "PRICE": "\\$5"},
    "steps": [
        {
            "name": "build",
            "description": "Build it",
            "command": "bash",
            "script": 'echo "$LEVEL" ${#X} $(date)\n',
            "dir": "/srv/${env}",
            "timeout": 2,
            "retryPolicy": {
                "limit": 2,
                "intervalSec": 5,
                "exponentialBase": 1.5,
                "maxIntervalSec": 60,
                "exitCodes": [75],
            },
            "continueOn": {"failure": True, "markSuccess": True},
            "output": "BUILD_OUTPUT",
        },
        {
            "name": "look-at",
            "command": "python",
            "script": "print(1)",
            "depends": ["build"],
            "env": {"OUT": "${BUILD_OUTPUT}", "LEVEL": "${LEVEL}"},
            "dir": "/srv/other",
            "preconditions": [{"condition": "${env}", "expected": "prod"}],
        },
        {
            "name": "post",
            "executor": {
                "type": "http",
                "config": {
                    "url": "https://example.com/${env}",
                    "method": "POST",
                    "headers": {"X-Env": "${PLACE}"},
                    "body": {"text": "${BUILD_OUTPUT}", "n": 1},
                },
            },
            "depends": ["build"],
            "dir": "/srv/${env}",
        },
        {
            "name": "think",
            "executor": {
                "type": "inline_agent",
                "config": {
                    "message": "Look at ${BUILD_OUTPUT}",
                    "agent": {
                        "name": "think",
                        "ai_instructions": "Be short",
                        "llm_model": "openai/x",
                    },
                },
            },
            "depends": ["build"],
            "dir": "/srv/${env}",
        },
    ],
    "handlerOn": {
        "failure": {
            "name": "tell", "command": "sh", "script": "./tell.sh", "dir": "/srv/${env}"
        },
        "success": {
            "name": "good", "command": "sh", "script": "./good.sh", "dir": "/srv/${env}"
        },
        "exit": {
            "name": "clean", "command": "sh", "script": "./clean.sh", "dir": "/srv/${env}"
        },
    },
    "parameters": {"env": "prod", "count": 3},
}  # fmt: skip


def workflow(steps: str, rest: str = "") -> Workflow:
    text = "name: w\ninputs: {a: {type: string}}\n" + rest + f"steps:\n{steps}"
    return parse_workflow(text)


def test_every_field_of_the_format_is_written() -> None:
    found = translate(parse_workflow(WHOLE)).body({"env": "prod", "count": 3, "none": None})
    assert found == BODY


@pytest.mark.parametrize(
    ("steps", "rest", "place"),
    [
        ("  - {name: s, approval: {message: ok?}}", "", "steps[0].approval"),
        ("  - {name: s, wait: {for: 1m}}", "", "steps[0].wait"),
        ("  - {name: s, workflow: {ref: x}}", "workflows: {x: {steps: [{name: t, run: ls}]}}\n",
         "steps[0].workflow"),
        ("  - {name: s, run: ls, foreach: [a]}", "", "steps[0].foreach"),
        ("  - {name: s, run: ls, matrix: {b: [a]}}", "", "steps[0].matrix"),
        ("  - {name: s, run: ls, repeat: {until: 'true', limit: 2}}", "", "steps[0].repeat"),
        ("  - {name: s, run: ls, artefacts: [x]}", "", "steps[0].artefacts"),
        ("  - {name: s, run: ls, if: size(inputs.a) > 3}", "", "steps[0].if"),
        ("  - {name: s, run: ls, env: {T: '${{ secrets.TOKEN }}'}}", "", "steps[0].env.T"),
        ("  - {name: s, run: ls, env: {T: '${{ inputs.a + inputs.a }}'}}", "", "steps[0].env.T"),
        ("  - {name: s, run: ls, env: {T: '${{ run.id }}'}}", "", "steps[0].env.T"),
        ("  - {name: s, run: 'echo {{a}}'}", "", "steps[0].run"),
        ("  - {name: s, http: {url: 'https://x.example.com', expect_status: [204]}}", "",
         "steps[0].http.expect_status"),
        ("  - {name: s, agent: {prompt: hi, tools: [list_runs]}}", "", "steps[0].agent.tools"),
        ("  - {name: s, agent: {prompt: hi, budget: {turns: 2}}}", "", "steps[0].agent.budget"),
        ("  - {name: s, run: ls, retry: {limit: 1, on_worker_lost: false}}", "",
         "steps[0].retry.on_worker_lost"),
        ("  - {name: s, run: ls}", "concurrency: {group: g}\n", "concurrency"),
        ("  - {name: s, run: ls}", "notify: [{url: 'https://x.example.com'}]\n", "notify"),
        ("  - {name: s, run: ls}", "finally: [{name: a, run: ls}, {name: b, run: ls}]\n",
         "finally[1]"),
        ("  - {name: s, run: ls}", "on_failure: [{name: a, wait: {for: 1s}}]\n", "on_failure[0]"),
        ("  - {name: s, needs_command: do it}", "", "steps[0].needs_command"),
    ],
)  # fmt: skip
def test_what_the_format_lacks_is_refused_by_name(steps: str, rest: str, place: str) -> None:
    given = workflow(steps, rest)
    assert [lack.split(": ")[0] for lack in lacks_of(given)] == [place]
    with pytest.raises(UnsupportedWorkflowError, match="Kubiya cannot run this workflow"):
        translate(given)


def test_everything_that_is_lacking_is_named_at_once() -> None:
    given = workflow("  - {name: s, approval: {message: ok?}}\n  - {name: t, wait: {for: 1m}}")
    assert len(lacks_of(given)) == 2


def test_a_name_of_an_output_is_never_one_that_is_taken() -> None:
    given = workflow(
        "  - {name: s, run: ls}\n"
        "  - {name: t, run: ls, depends: [s], env: {X: '${{ steps.s.outputs.stdout }}'}}",
        "env: {S_OUTPUT: mine}\n",
    )
    steps = translate(given).fields["steps"]
    assert isinstance(steps, list)
    assert steps[0]["output"] == "S_OUTPUT_"
    assert steps[1]["env"] == {"X": "${S_OUTPUT_}"}


def test_what_was_imported_from_kubiya_goes_back_as_it_was() -> None:
    source = {
        "name": "round",
        "type": "graph",
        "runner": "kubiya-hosted",
        "params": {"env": "dev"},
        "steps": [
            {"name": "a", "command": "bash", "script": "echo hi", "output": "A", "timeout": 5},
            {
                "name": "b",
                "executor": {
                    "type": "http",
                    "config": {"url": "https://example.com/${env}", "method": "POST",
                               "body": "${A}"},
                },
                "depends": ["a"],
                "retryPolicy": {"limit": 1, "intervalSec": 3, "exponentialBase": 1.5,
                                "maxIntervalSec": 9},
                "preconditions": [{"condition": "${env}", "expected": "prod"}],
            },
        ],
    }  # fmt: skip
    fields = translate(import_definition(json.dumps(source)).workflow).fields
    steps = fields["steps"]
    assert isinstance(steps, list)
    assert {**steps[0], "output": "A"} == source["steps"][0]  # type: ignore[index]
    config = {**steps[1]["executor"]["config"], "body": "${A}"}
    assert {**steps[1], "executor": {"type": "http", "config": config}} == source["steps"][1]  # type: ignore[index]
    assert fields["params"] == source["params"]
