"""References of other formats in scripts: they reach the script by `env`, never as its text."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_backend.definition.documents import read_document
from workflow_backend.definition.expressions import render
from workflow_backend.definition.importers import Imported, import_definition
from workflow_backend.definition.importers.other_scripts import rewrite_python
from workflow_backend.definition.importers.shell_scripts import rewrite_shell
from workflow_backend.definition.parse import check_definition
from workflow_backend.definition.problems import InvalidWorkflowError

EVIL = ["$(touch x)", "`id`", "'; exit 9; '", '"; exit 9; "', "a b  c", "*", "\\", "é\n2", "${x}"]


def imported(script: str, language: str = "kubiya", /, **step: object) -> Imported:
    source = {"params": {"x": "1", "y": ""}, "steps": [{"name": "s", "command": script, **step}]}
    return import_definition(json.dumps(source), language)  # type: ignore[arg-type]


def environment(found: Imported, inputs: Mapping[str, str]) -> dict[str, str]:
    """The variables that a run gives the step."""
    document: dict[str, Any] = read_document(found.yaml)
    env = {**document.get("env", {}), **document["steps"][0].get("env", {})}
    return {name: str(render(text, {"inputs": inputs})) for name, text in env.items()}


def run_shell(found: Imported, value: str) -> str:
    """What the imported script prints when `x` has this value."""
    script = found.workflow.steps[0].run or ""
    env = environment(found, {"x": value, "y": "why"})
    done = subprocess.run(
        [found.workflow.steps[0].shell, "-c", script],
        env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    return done.stdout.decode()


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize(
    "script",
    [
        "printf %s {{x}}",
        'printf %s "{{x}}"',
        "printf %s '{{x}}'",
        "printf %s 'a'{{x}} | tail -c +2",
        'printf %s "${{ params.x }}"',
        'printf %s "$(printf %s "{{x}}")"',
        "cat <<EOF | head -c -1\n{{x}}\nEOF\n",
        "cat <<-EOF | head -c -1\n{{x}}\nEOF\n",
        "# don't {{x}}\nprintf %s {{x}}",
        'printf %s "${x}"',
        'if true; then printf %s "$x"; fi',
        "case a in a) printf %s '{{x}}';; esac",
        "n=$((1<<2)); printf %s '{{x}}'",
    ],
)
def test_whatever_a_value_holds_a_shell_script_prints_it_as_it_is(script: str, value: str) -> None:
    assert run_shell(imported(script), value) == value


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20))
def test_no_value_is_ever_read_as_code(value: str) -> None:
    found = imported("printf %s \"{{x}}\" '{{x}}' {{x}}")
    assert run_shell(found, value) == value * 3


@pytest.mark.parametrize("value", EVIL)
def test_a_python_script_reads_the_variable_where_a_text_is_one_reference(value: str) -> None:
    found = imported("python", script="import sys\nsys.stdout.write('{{x}}')")
    script = found.workflow.steps[0].python or ""
    env = environment(found, {"x": value, "y": ""})
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, check=True, timeout=20
    )
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ('print(f"{{x}}")', 'print(f"{{x}}")'),
        ('print("""{{x}}""")', 'print("""{{x}}""")'),
        ('print("a {{x}}")', 'print("a {{x}}")'),
        ('print("a ${{ x }}")', 'print("a {{ x }}")'),
    ],
)
def test_a_reference_inside_a_longer_text_of_python_stays_and_is_noted(
    script: str, text: str
) -> None:
    found = imported("python", script=script)
    assert found.workflow.steps[0].python == text
    assert "cannot be given a value safely" in str(found.notes)


def test_what_a_shell_reads_itself_stays_as_it_is() -> None:
    script = (
        "for f in *.txt; do echo \"${f%.txt}\" $1 $? $$ ${#x} ${x:-d} \\$x; done | awk '{print $1}'"
    )
    assert imported(script).workflow.steps[0].run == script


def test_templates_of_other_programs_are_no_references() -> None:
    script = "docker ps --format '{{.Names}}' && kubectl get -o go-template='{{range .items}}'"
    found = imported(script, "dagu")
    assert found.workflow.steps[0].run == script
    assert "{{" not in str(found.notes)


def test_braces_mean_nothing_in_dagus_files() -> None:
    assert imported("echo {{x}}", "dagu").workflow.steps[0].run == "echo {{x}}"


def test_a_quoted_here_document_keeps_its_text_and_is_noted() -> None:
    found = imported("cat <<'EOF'\n${{ x }} {{x}}\nEOF\necho {{x}}")
    assert found.workflow.steps[0].run == "cat <<'EOF'\n{{ x }} {{x}}\nEOF\necho \"${x}\""
    assert "cannot be given a value safely" in str(found.notes)


def test_a_name_that_the_server_sets_itself_is_changed_everywhere() -> None:
    source = {"params": {"OUTPUT": "1"}, "steps": ["echo $OUTPUT ${OUTPUT} ${OUTPUT:-x}"]}
    step = import_definition(json.dumps(source)).workflow.steps[0]
    assert step.run == "echo ${OUTPUT_VALUE} ${OUTPUT_VALUE} ${OUTPUT_VALUE:-x}"


def test_an_unknown_reference_becomes_an_input_or_a_secret() -> None:
    found = imported("curl -H 'Bearer {{API_TOKEN}}' https://x.example.com/{{place}}")
    assert "place" in found.workflow.inputs
    env = found.workflow.steps[0].env
    assert env["API_TOKEN"] == "${{ secrets.API_TOKEN }}"
    assert found.workflow.steps[0].network is True


PIECES = st.sampled_from(
    ["{{x}}", "${{ x }}", "$x", "${x}", "${a.b}", "'", '"', "\\", "\n", "#", " ", "<<EOF", "<<'E'",
     "EOF", "E", "$(", ")", "(", "`", "echo", "$", "{", "}", "${", "{{", "$$", "é"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_script_makes_the_rewriting_fail_or_leaves_an_expression(text: str) -> None:
    for rewrite in (rewrite_shell, rewrite_python):
        assert "${{" not in rewrite(text, lambda reference: "NAME").text
        assert "${{" not in rewrite(text, lambda reference: None).text


@given(st.lists(PIECES, max_size=20).map("".join), st.sampled_from(["kubiya", "dagu"]))
def test_every_script_comes_to_a_valid_step(script: str, language: str) -> None:
    found = imported(script or "ls", language)
    assert check_definition(found.yaml).workflow == found.workflow


NAMES = st.sampled_from(
    ["name", "command", "script", "run", "executor", "type", "config", "url", "depends", "env",
     "output", "params", "parallel", "items", "preconditions", "condition", "expected", "repeat",
     "repeatPolicy", "retryPolicy", "limit", "continueOn", "handlerOn", "failure", "schedule",
     "start", "approval", "input", "container", "image", "secrets", "consts", "defaults", "agent",
     "messages", "tool_def", "args", "shell", "timeoutSec", "x", "depends_on", "call"]
)  # fmt: skip
LEAVES = (
    PIECES | st.sampled_from(["a", "python", "http", "docker", "jq", "agent", "re:(", "graph"])
    | st.integers(-3, 300) | st.booleans() | st.none() | st.floats(allow_nan=False)
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
STEPS = st.lists(st.dictionaries(NAMES, VALUES, max_size=5) | LEAVES, max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(NAMES, VALUES, max_size=5), STEPS, st.sampled_from(["auto", "dagu"]))
def test_no_document_crashes_and_what_comes_out_is_valid(
    rest: dict[str, object], steps: list[object], language: str
) -> None:
    text = json.dumps({**rest, "steps": steps})
    try:
        found = import_definition(text, language)  # type: ignore[arg-type]
    except InvalidWorkflowError:
        return
    assert check_definition(found.yaml).workflow == found.workflow


@given(st.text(max_size=80))
def test_no_text_crashes(text: str) -> None:
    with contextlib.suppress(InvalidWorkflowError):
        import_definition(text)
