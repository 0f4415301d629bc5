"""What `validate` and `plan` print of a workflow file, for people or as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from agent_server.terminal import plain


def print_json(value: object) -> None:
    """One indented JSON value."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def print_problems(problems: Iterable[object], warnings: Iterable[object]) -> None:
    """Each fault and each warning on a line of its own, with its fix."""
    for sign, style, lines in (("✗", "red", problems), ("!", "yellow", warnings)):
        for line in lines:
            Console().print(Text.assemble((sign, style), f" {plain(line)}"), soft_wrap=True)


def print_plan(plan: Mapping[str, Any]) -> None:
    """The order of the steps, what each would do, and what keeps the workflow from running."""
    console = Console()
    steps = {step["name"]: step for step in plan["steps"]}
    console.print(Text(plain(plan["workflow"]), "bold"), Text(plain(plan["description"]), "dim"))
    for number, level in enumerate(plan["levels"], start=1):
        console.print(f"[bold]{number}.[/bold]" + (" side by side" if len(level) > 1 else ""))
        for name in level:
            _print_step(console, steps[name])
    for title, others in _other_lists(plan["steps"]).items():
        console.print(Text(title, "bold"))
        for step in others:
            _print_step(console, step)
    _print_list(console, "Inputs", [f"{row['name']} = {row['value']!r}" for row in plan["inputs"]])
    _print_list(console, "Hosts", plan["hosts"])
    _print_list(console, "Secrets", [row["name"] for row in plan["secrets"]])
    _print_list(console, "Risks", plan["risks"])
    console.print()
    if plan["can_run"]:
        console.print("It can run.", style="green")
    else:
        print_problems(plan["blockers"], ())


def _other_lists(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The handlers, and the steps of each workflow inside the document, by their titles."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps:
        ref, slash, _ = step["name"].partition("/")
        if slash:
            found.setdefault(f"Workflow {ref}", []).append(step)
        elif step["part"] != "steps":
            found.setdefault(_TITLES[step["part"]], []).append(step)
    return found


def _print_step(console: Console, step: Mapping[str, Any]) -> None:
    notes = [f"after {', '.join(step['depends'])}"] if step["depends"] else []
    notes += [f"if {step['condition']}"] if step["condition"] else []
    notes += [f"up to {step['attempts']} attempts"] if step["attempts"] > 1 else []
    notes += [f"for up to {step['items']} items"] if step["items"] != 1 else []
    notes += [f"up to {step['repeats']} times"] if step["repeats"] > 1 else []
    notes += [f"if {', '.join(step['approvals'])} is approved"] if step["approvals"] else []
    notes += [f"tools {', '.join(step['tools'])}"] if step["tools"] else []
    notes += ["network"] if step["network"] else []
    console.print(
        Text.assemble(f"   {plain(step['name'])} ", (plain(f"[{step['kind']}] "), "cyan")),
        Text(plain("; ".join(notes)), "dim"),
    )
    for line in plain(step["action"]).strip().splitlines():
        console.print(Text(f"      {line}", "dim"), soft_wrap=True)


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"[bold]{title}[/bold]")
        for line in lines:
            console.print(Text(f"   {plain(line)}"), soft_wrap=True)


_TITLES = {"on_failure": "If it fails", "finally": "Last, whatever it came to"}
