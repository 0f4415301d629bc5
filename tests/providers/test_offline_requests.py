"""What the offline planner reads in a message: definitions, lists, actions, values."""

import json

import pytest

from providers.offline.actions import ACTIONS, Action, action_step
from providers.offline.drafts import draft_workflow, slug
from providers.offline.request_items import find_definition, find_list
from providers.offline.request_words import content_words, input_values

YAML = "name: x\nsteps:\n  - name: a\n    run: echo hi"
GUIDE = """
Create a workflow based on this template:
- Name: daily-backup-{timestamp}
- Runner: production-runner
- Steps:
1. Backup all PostgreSQL databases
2. Compress with timestamp
3. Clean up old backups (>30 days)
"""


@pytest.mark.parametrize(
    "message",
    [
        f"Run this:\n```yaml\n{YAML}\n```\nplease",
        f"Run this:\n~~~\n{YAML}\n~~~",
        f"````yml\n{YAML}\n````",
        f"Run this:\n\n{YAML}\n\nThanks!",
        YAML,
    ],
)
def test_a_workflow_is_taken_exactly_as_it_was_written(message: str) -> None:
    assert find_definition(message) == YAML


@pytest.mark.parametrize("indent", [None, 2])
def test_a_workflow_may_be_json(indent: int | None) -> None:
    text = json.dumps({"name": "x", "steps": [{"name": "a", "run": "echo }"}]}, indent=indent)
    assert find_definition(f"```json\n{text}\n```") == text
    assert find_definition(f"Run {text} now") == text


def test_the_last_of_several_workflows_counts() -> None:
    other = YAML.replace("x", "y")
    assert find_definition(f"```yaml\n{YAML}\n```\nor rather\n```yaml\n{other}\n```") == other


@pytest.mark.parametrize(
    "message", ["", "Hello", GUIDE, "The steps: none", "```sh\necho steps:\n```", '{"steps": ']
)
def test_what_is_no_workflow_is_not_taken_for_one(message: str) -> None:
    assert find_definition(message) is None


def test_the_guides_template_is_a_list_with_its_settings() -> None:
    found = find_list(GUIDE)
    assert found is not None
    assert (found.name, found.runner) == ("daily-backup-{timestamp}", "production-runner")
    assert [item.text for item in found.items] == [
        "Backup all PostgreSQL databases",
        "Compress with timestamp",
        "Clean up old backups (>30 days)",
    ]


@pytest.mark.parametrize("marker", ["- ", "* ", "• ", "1. ", "2) "])
def test_lists_of_every_kind_are_read(marker: str) -> None:
    found = find_list(f"Do:\n{marker}check disk usage\n{marker}say it: `echo it`\n   more of it")
    assert found is not None
    assert [(item.text, item.command) for item in found.items] == [
        ("check disk usage", None),
        ("say it: `echo it`", "echo it"),
    ]


def test_a_code_block_belongs_to_the_item_before_it() -> None:
    found = find_list(
        "1. first\n   ```sh\n   echo a\n   ```\n2. second\n   ```python\n   x\n   ```"
    )
    assert found is not None
    assert [(item.command, item.python) for item in found.items] == [("echo a", None), (None, "x")]


def test_what_is_indented_under_an_item_is_no_item() -> None:
    found = find_list("- check memory\n  - all of it\n- check uptime")
    assert found is not None
    assert [item.text for item in found.items] == ["check memory", "check uptime"]


@pytest.mark.parametrize(
    ("message", "commands"),
    [
        ("Run `uptime` and `df -h`", ["uptime", "df -h"]),
        ("Run `a`, `b` and then `c`.", ["a", "b", "c"]),
        ("Please run:\n```sh\nmake\n```", ["make"]),
        ("Rename `a` to `b`", None),
        ("Hello", None),
    ],
)
def test_commands_in_prose_count_where_the_message_says_to_run_them(
    message: str, commands: list[str] | None
) -> None:
    found = find_list(message)
    assert (found and [item.command for item in found.items]) == commands


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_the_example_of_each_action_means_it(action: Action) -> None:
    step = action_step(action.example)
    assert step is not None
    assert step["http" if action.http else "run"]
    assert step.get("run", "") == action.run
    env = step.get("env", {})
    assert isinstance(env, dict)
    assert set(env) == set(action.env)
    assert all(env.values())
    assert action_step(f"{action.example} and tell Bob about it") is None


@pytest.mark.parametrize(
    "item",
    ["Backup all databases", "Send Slack notification", "Upload to S3", "check", "", "x" * 9999],
)
def test_an_item_that_says_no_action_is_none(item: str) -> None:
    assert action_step(item) is None


def test_what_an_item_names_never_gets_into_the_command() -> None:
    step = action_step("check disk usage of /srv/$(touch${IFS}pwned)")
    assert step is not None
    assert step["run"] == 'df -h "$DIRECTORY"'
    assert step["env"] == {"DIRECTORY": "/srv/$(touch${IFS}pwned)"}


def test_a_list_becomes_a_chain_of_steps() -> None:
    found = find_list("1. check uptime\n2. greet: `echo hi`\n3. dance\n4. check uptime")
    assert found is not None
    workflow = draft_workflow(found)
    steps: list[dict[str, object]] = workflow["steps"]  # type: ignore[assignment]  # a list of steps
    assert [(step["name"], step.get("depends")) for step in steps] == [
        ("check-uptime", None),
        ("greet", ["check-uptime"]),
        ("dance", ["greet"]),
        ("check-uptime-2", ["dance"]),
    ]
    assert (steps[0]["run"], steps[1]["run"]) == ("uptime", "echo hi")
    assert steps[2]["needs_command"] == "dance"


def test_a_runner_and_a_name_are_kept_without_placeholders() -> None:
    found = find_list(GUIDE)
    assert found is not None
    workflow = draft_workflow(found)
    assert (workflow["name"], workflow["runner"]) == ("daily-backup", "production-runner")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Check the Disk!", "check-the-disk"),
        ("Überprüfen", "uberprufen"),
        ("30 days", "step-30-days"),
        ("日本語", "step"),
        ("a text that goes on and on for fifty letters", "a-text-that-goes-on-and-on-for-fifty"),
    ],
)  # fmt: skip
def test_names_are_short_and_plain(text: str, name: str) -> None:
    assert slug(text, fallback="step") == name


def test_words_of_politeness_and_order_say_nothing() -> None:
    assert content_words("Could you please create and run a workflow for me?") == set()
    assert content_words("Scan the logs of /var/log/x at https://a.b/c n=5") == {"scan", "log"}


@pytest.mark.parametrize(
    ("message", "values"),
    [
        ("check https://a.example/x.", {"url": "https://a.example/x"}),
        ("in /var/log and /srv", {"directory": "/var/log", "target_path": "/srv"}),
        ("count=5 deep=yes ratio=0.5", {"count": 5, "deep": True, "ratio": 0.5}),
        ("count=many", {"count": "many"}),
        ('name="two words"', {"name": "two words"}),
        ("name=\"it's 'so'\"", {"name": "it's 'so'"}),
        ("nothing", {}),
    ],
)
def test_values_for_inputs_are_read_from_a_message(message: str, values: dict[str, object]) -> None:
    kinds = {
        "url": "string", "directory": "string", "target_path": "string", "count": "integer",
        "deep": "boolean", "ratio": "number", "name": "string",
    }  # fmt: skip
    assert input_values(message, [{"name": n, "type": kind} for n, kind in kinds.items()]) == values


@pytest.mark.parametrize("unit", ["- a\n", "`", "{", "steps:\n", "a=", "/x ", "1. `x`\n"])
def test_a_long_message_is_read_in_linear_time(unit: str) -> None:
    message = unit * (200_000 // len(unit))
    find_definition(message)
    found = find_list(message)
    assert found is None or len(found.items) <= 200
    content_words(message)
    input_values(message, [{"name": "path", "type": "string"}])


@pytest.mark.parametrize(
    "message",
    [
        "run" + " " * 500_000 + "x",
        "run\n- " + "{" * 500_000,
        "run `" + "<" * 500_000 + "`",
        "run\n1. a\n2. `" + "${{" * 150_000 + "`",
    ],
    ids=["spaces", "braces", "code", "expressions"],
)
def test_one_endless_line_is_read_in_linear_time(message: str) -> None:
    # Quadratically it takes longer than a test may.
    found = find_list(message)
    assert found is None or len(str(draft_workflow(found)["name"])) <= 50


def test_an_item_without_words_has_a_name_all_the_same() -> None:
    workflow = draft_workflow(find_list("- `ls -la`\n- `--`") or pytest.fail("no list"))
    steps: list[dict[str, object]] = workflow["steps"]  # type: ignore[assignment]  # a list of steps
    assert [step["name"] for step in steps] == ["ls-la", "step"]
