"""The steps of a plan: what each would do, told from the definition and the inputs."""

import math
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from workflow_backend.definition.expressions import OPEN, secret_name
from workflow_backend.definition.guards import Guards
from workflow_backend.definition.known_values import KnownValues
from workflow_backend.definition.loop_checks import MAX_ITEMS
from workflow_backend.definition.model import Step
from workflow_backend.definition.places import parts_of, places_of
from workflow_backend.definition.plain_text import plain_text
from workflow_backend.definition.plan_models import Part, PlannedStep
from workflow_backend.definition.risks import risks_of

MAX_ACTION_CHARACTERS = 4_096
MAX_APPROVALS = 20
# A long text of the whole workflow would be told of each of its steps.
MAX_NAMED = 50

_PARTS: tuple[Part, ...] = get_args(Part)
_SCRIPTS = frozenset({"run", "python"})
_URL = re.compile(
    r"\bhttps?://(?:[^\s/@\"'<>]*@)?([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])", re.IGNORECASE
)
_HOST_PART = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/", re.IGNORECASE)
# Not within a word, a URL or a variable: `a/b`, `https://x/y`, `$HOME/x`, `~/x`, `*/x`.
_PATH = re.compile(r"(?<![\w.:/$}~*\\-])/(?:[\w.@%+=,~-]+/?)+")
_ROOT = re.compile(r"(?<=[\s\"'=])/(?=[\s\"';)]|$)")
_NO_PLACE = frozenset({"/dev/null"})


def planned_steps(workflows: Sequence[KnownValues]) -> Iterator[PlannedStep]:
    """Every step that may run; `workflows` are callers first."""
    guards = Guards(workflows)
    for known in workflows:
        secrets = secrets_by_step(known)
        shared = _Named.of([known.text(text) for text in known.body.env.values()], is_shell=False)
        for part, (_, steps) in zip(_PARTS, parts_of(known.body), strict=True):
            for step in steps:
                yield _planned(step, part, known, secrets[step.name], guards, shared)


def secrets_by_step(known: KnownValues) -> dict[str, list[str]]:
    """The secrets that each step gets; those of the workflow's `env` go to every command."""
    steps = list(known.body.all_steps())
    found: dict[str, set[str]] = {step.name: set() for step in steps}
    for place in places_of(known.body):
        names = {name for source in place.sources() if (name := secret_name(source))}
        if place.step is not None:
            found[place.step.name] |= names
        elif place.kind == "workflow_env":
            for step in steps:
                if step.kind in _SCRIPTS:
                    found[step.name] |= names
    return {name: sorted(names) for name, names in found.items()}


def host_of(url: str) -> str | None:
    """The host of the URL, None where data of the run decides it."""
    if OPEN in url:
        # Data that comes after the host does not change it.
        known = _HOST_PART.match(url[: url.index(OPEN)])
        url = known.group() if known else ""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def undecided(text: str) -> str:
    """What people are shown where the run decides a host or a folder by this text."""
    return f"decided at run time: {plain_text(text, 200)}"


def _planned(
    step: Step,
    part: Part,
    known: KnownValues,
    secrets: list[str],
    guards: Guards,
    shared: "_Named",
) -> PlannedStep:
    network, agent = step.network or step.http is not None, step.agent
    name = known.name_of(step.name)
    named, whole = _named(step, known, shared), _action(step)
    hosts = sorted(named.hosts) if network else []
    paths = sorted(named.paths)
    return PlannedStep(
        name=name,
        kind=step.kind,
        action=plain_text(whole, MAX_ACTION_CHARACTERS),
        depends=[known.name_of(other) for other in step.depends],
        part=part,
        condition=step.if_,
        timeout=_timeout(step) or known.body.timeout,
        attempts=1 + (step.retry.limit if step.retry else 0),
        items=_items(step, known),
        max_parallel=step.max_parallel,
        repeats=step.repeat.limit if step.repeat else 1,
        network=network,
        hosts=hosts[:MAX_NAMED],
        has_unknown_hosts=named.has_unknown_hosts,
        follows_redirects=step.http is not None and step.http.follow_redirects,
        paths=paths[:MAX_NAMED],
        has_unknown_paths=named.has_unknown_paths,
        cut=list(_cut(whole, hosts, paths)),
        secrets=secrets,
        tools=agent.tools if agent else [],
        tokens=agent.budget.tokens if agent else 0,
        turns=agent.budget.turns if agent else 0,
        calls=step.workflow.ref if step.workflow else None,
        artefacts=step.artefacts,
        approvals=guards.of(name, MAX_APPROVALS),
        risks=list(risks_of(step, has_secrets=bool(secrets))),
    )


def _cut(action: str, hosts: Sequence[str], paths: Sequence[str]) -> Iterator[str]:
    if len(plain_text(action)) > MAX_ACTION_CHARACTERS:
        yield "action"
    if len(hosts) > MAX_NAMED:
        yield "hosts"
    if len(paths) > MAX_NAMED:
        yield "paths"


def _action(step: Step) -> str:
    if step.http is not None:
        return f"{step.http.method} {step.http.url}"
    if step.approval is not None:
        return step.approval.message
    if step.wait is not None:
        if step.wait.for_ is not None:
            return f"wait for {step.wait.for_}"
        return f"wait for the signal {step.wait.signal}" if step.wait.signal else "wait for a POST"
    if step.agent is not None:
        return step.agent.prompt
    if step.workflow is not None:
        return f"run the workflow {step.workflow.ref}"
    if step.container is not None:
        return " ".join([step.container.image, *step.container.command])
    return step.run or step.python or step.needs_command or ""


def _timeout(step: Step) -> str | None:
    if step.approval is not None:
        return step.approval.timeout
    return step.wait.timeout if step.wait is not None else step.timeout


def _items(step: Step, known: KnownValues) -> int:
    """How many items there are, as many as may be where data decides."""
    if not step.is_fanned_out:
        return 1
    lists = step.matrix.values() if step.matrix is not None else [step.foreach]
    found = [known.items(given) for given in lists]
    if any(items is None for items in found):
        return MAX_ITEMS
    return min(math.prod(len(items or ()) for items in found), MAX_ITEMS)


@dataclass(frozen=True, slots=True)
class _Named:
    """The hosts and absolute paths that texts name; where the run decides one, the text."""

    hosts: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    has_unknown_hosts: bool = False
    has_unknown_paths: bool = False

    @classmethod
    def of(cls, texts: Sequence[str], *, is_shell: bool) -> "_Named":
        """Those of the texts; in a shell script a lone `/` is a path too."""
        paths = {_normal(found) for text in texts for found in _PATH.findall(text)}
        if any(text == "/" or (is_shell and _ROOT.search(f" {text} ")) for text in texts):
            paths.add("/")
        hosts = {host.lower() for text in texts for host in _URL.findall(text)}
        return cls(frozenset(hosts), frozenset(paths - _NO_PLACE))


def _named(step: Step, known: KnownValues, shared: _Named) -> _Named:
    """What the step names."""
    if step.http is not None:
        url = known.text(step.http.url, step)
        host = host_of(url)
        return _Named(frozenset({host or undecided(url)}), has_unknown_hosts=not host)
    if step.kind not in _SCRIPTS:
        return _Named()
    script = _Named.of([step.run or step.python or ""], is_shell=step.run is not None)
    given = _Named.of([known.text(text) for text in step.env.values()], is_shell=False)
    folder = step.working_dir if step.working_dir is not None else known.body.working_dir
    folder = known.text(folder or "", step)
    return _Named(
        shared.hosts | script.hosts | given.hosts,
        shared.paths | script.paths | given.paths | _folder(folder),
        has_unknown_paths=OPEN in folder,
    )


def _folder(folder: str) -> frozenset[str]:
    if OPEN in folder:
        return frozenset({undecided(folder)})
    return frozenset({_normal(folder)} if folder.startswith("/") else ())


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")
