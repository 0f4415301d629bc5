"""What the operator of a server forbids: rules in CEL over plans, read from a YAML file.

```yaml
rules:
  - name: our-hosts-alone
    deny_step: step.hosts.exists(host, !host.endsWith('.example.com'))
    message: Steps reach hosts of example.com alone.
  - name: deploys-are-approved
    require_approval: step.kind == 'http' && step.action.startsWith('POST ')
```

`deny` is about the whole plan, `deny_step` and `require_approval` about each step, those of
workflows inside the document included. What a script does is known as far as its text says it;
what a rule cannot see, or cannot compute, it denies.

So does a rule that reads `hosts` or `paths` where the run, or a redirect, decides one of them: no
text of the workflow's author stands in its place. A rule that names the field which says so
(`has_unknown_hosts`, `follows_redirects`, `has_unknown_paths`) decides such steps by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from workflow_backend.definition.documents import read_document
from workflow_backend.definition.expressions import ExpressionError, check, evaluate
from workflow_backend.definition.model import ACTIONS
from workflow_backend.definition.patterns import STEP_NAME
from workflow_backend.definition.plan_models import Plan, PlannedStep, Violation
from workflow_backend.definition.problems import InvalidWorkflowError, closest, listed
from workflow_backend.definition.reference_checks import FUNCTIONS, TYPE_NAMES

MAX_FILE_BYTES = 64 * 1024
MAX_RULES = 50
MAX_STEPS_NAMED = 10

Effect: TypeAlias = Literal["deny", "deny_step", "require_approval"]

EFFECTS: dict[Effect, str] = {
    "deny": "the server forbids this",
    "deny_step": "the server forbids such steps",
    "require_approval": "such steps need an approval step before them",
}
_KEYS = ("name", "message", *EFFECTS)
PLAN_FIELDS = (
    "workflow", "runner", "isolation", "network", "hosts", "has_unknown_hosts", "follows_redirects",
    "paths", "has_unknown_paths", "secrets", "tools", "kinds", "steps", "inputs", "is_scheduled",
    "group", "notify",
)  # fmt: skip
STEP_FIELDS = (
    "name", "kind", "part", "action", "depends", "condition", "timeout", "attempts", "items",
    "repeats", "network", "hosts", "has_unknown_hosts", "follows_redirects", "paths",
    "has_unknown_paths", "secrets", "tools", "tokens", "turns", "calls", "artefacts", "approvals",
    "risks", "isolation", "runner",
)  # fmt: skip
_FIELDS = {"plan": PLAN_FIELDS, "step": STEP_FIELDS, "owner": ()}
# The fields that say of others that they are not whole, and what a rule is told that has not read
# them.
_UNKNOWN = {
    "has_unknown_hosts": ("hosts", "the run decides which host `{}` asks"),
    "follows_redirects": ("hosts", "`{}` follows redirects to any host"),
    "has_unknown_paths": ("paths", "the run decides the folder of `{}`"),
}


class PolicyError(Exception):
    """The policy cannot be used; the message names the rule and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `fields` are those that its expression reads of `plan` or `step`.

    `named` are those of them that it names, not only has by reading all.
    """

    name: str
    effect: Effect
    expression: str
    message: str
    fields: tuple[str, ...]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules, in the order of the file."""

    rules: tuple[Rule, ...] = ()

    def violations(self, plan: Plan, owner: str) -> list[Violation]:
        """The rules that the plan of this owner breaks."""
        if not self.rules:
            return []
        whole = _plan_fields(plan)
        found = (_violation(rule, plan, whole, owner) for rule in self.rules)
        return [violation for violation in found if violation is not None]


NO_POLICY = Policy()


def read_policy(path: Path) -> Policy:
    """The policy in a file.

    Raises:
        PolicyError: The file cannot be read, or a rule of it cannot be used.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: {error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise PolicyError(f"{path}: the file is over {MAX_FILE_BYTES // 1024} KiB")
    try:
        return parse_policy(text)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def parse_policy(text: str) -> Policy:
    """The policy of a YAML text.

    Raises:
        PolicyError: With the rule and the reason.
    """
    try:
        document = read_document(text)
    except InvalidWorkflowError as error:
        raise PolicyError(str(error)) from None
    if set(document) != {"rules"} or not isinstance(document["rules"], list):
        raise PolicyError("the file is a mapping with the one key `rules`, a list")
    rules = [_rule(entry, number) for number, entry in enumerate(document["rules"], start=1)]
    if len(rules) > MAX_RULES:
        raise PolicyError(f"there are {len(rules)} rules, the limit is {MAX_RULES}")
    names = [rule.name for rule in rules]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PolicyError(f"rule `{twice}`: there is another of this name")
    return Policy(tuple(rules))


def _rule(entry: object, number: int) -> Rule:
    if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
        raise PolicyError(f"rule {number}: a rule is a mapping of texts: {listed(_KEYS)}")
    name = entry.get("name", "")
    if not STEP_NAME.fullmatch(name):
        raise PolicyError(f"rule {number}: `name` is a letter, then letters, digits, `-` and `_`")
    for key in entry:
        if key not in _KEYS:
            meant = closest(key, _KEYS)
            fix = f"did you mean `{meant}`?" if meant else f"the keys are {listed(_KEYS)}"
            raise PolicyError(f"rule `{name}`: there is no key `{key[:64]}`; {fix}")
    given: list[Effect] = [effect for effect in EFFECTS if effect in entry]
    if len(given) != 1:
        raise PolicyError(f"rule `{name}`: it has exactly one of {listed(EFFECTS)}")
    expression = entry[given[0]]
    root = "plan" if given[0] == "deny" else "step"
    named, reads_all = _fields_of(expression, root, name)
    message = entry.get("message") or EFFECTS[given[0]]
    fields = _FIELDS[root] if reads_all else named
    return Rule(name, given[0], expression, message, fields, frozenset(named))


def _fields_of(expression: str, root: str, name: str) -> tuple[tuple[str, ...], bool]:
    """The fields that a sound rule names of its root, and whether it reads the root as a whole."""
    roots = frozenset({root, "owner"})
    try:
        shape = check(expression, roots=roots)
    except ExpressionError as error:
        raise PolicyError(f"rule `{name}`: {error}") from None
    for function in shape.functions:
        if function not in FUNCTIONS:
            raise PolicyError(f"rule `{name}`: there is no function `{function[:64]}()`")
    for other in shape.names:
        if other not in TYPE_NAMES:
            known = listed(f"`{each}`" for each in sorted(roots))
            raise PolicyError(f"rule `{name}`: `{other[:64]}` is not known here; {known} are")
    fields: list[str] = []
    reads_all = False
    for reference in shape.references:
        if reference.path[0] == "owner":
            continue
        if len(reference.path) == 1:
            reads_all = True
        elif (field := reference.path[1]) in _FIELDS[root]:
            fields.append(field)
        else:
            meant = closest(field, _FIELDS[root])
            fix = (
                f"did you mean `{root}.{meant}`?"
                if meant
                else f"it has {listed(_FIELDS[root], 30)}"
            )
            raise PolicyError(f"rule `{name}`: `{root}` has no `{field[:64]}`; {fix}")
    return tuple(dict.fromkeys(fields)), reads_all


def _violation(rule: Rule, plan: Plan, whole: Mapping[str, object], owner: str) -> Violation | None:
    """What of the plan breaks the rule, None if nothing does."""
    if rule.effect == "deny":
        is_broken, reason = _holds(rule, "plan", whole, owner)
        if not is_broken:
            reason = next(_hidden_of(rule, plan), None)
        return _told(rule, reason) if is_broken or reason else None
    broken: list[str] = []
    reason = None
    # Most steps of a large workflow look the same to a rule.
    known: dict[str, tuple[bool, str | None]] = {}
    for step in plan.steps:
        if rule.effect == "require_approval" and step.approvals:
            continue
        facts = _step_fields(rule, step, plan)
        key = repr((facts, _hidden(rule, step)))
        if key not in known:
            known[key] = _breaks(rule, step, facts, owner)
        is_broken, why = known[key]
        if is_broken:
            broken.append(step.name)
            reason = reason or why
        if len(broken) == MAX_STEPS_NAMED:
            break
    return _told(rule, reason, broken) if broken else None


def _breaks(
    rule: Rule, step: PlannedStep, facts: Mapping[str, object], owner: str
) -> tuple[bool, str | None]:
    """Whether the step is one that the rule is about, and why that is not known."""
    if hidden := _hidden(rule, step):
        return True, hidden
    return _holds(rule, "step", facts, owner)


def _step_fields(rule: Rule, step: PlannedStep, plan: Plan) -> dict[str, object]:
    """What the rule reads of the step; what is not there is the empty text."""
    others = {
        "hosts": _known_hosts(step),
        "paths": _known_paths(step),
        "isolation": plan.isolation,
        "runner": plan.runner,
    }
    values = {name: others[name] if name in others else getattr(step, name) for name in rule.fields}
    return {name: "" if value is None else value for name, value in values.items()}


def _hidden(rule: Rule, step: PlannedStep) -> str | None:
    """Why the rule does not see all of the step, None if it does."""
    if cut := set(rule.fields) & set(step.cut):
        return f"`{min(cut)}` of `{step.name}` is longer than what is looked at"
    for flag in _UNKNOWN:
        if getattr(step, flag) and (reason := _unknown(rule, flag, step.name)):
            return reason
    return None


def _unknown(rule: Rule, flag: str, name: str) -> str | None:
    """Why the rule cannot judge by a field that is not whole; None if it names what says so."""
    field, reason = _UNKNOWN[flag]
    return None if field not in rule.fields or flag in rule.named else reason.format(name)


def _hidden_of(rule: Rule, plan: Plan) -> Iterator[str]:
    """Why a rule about the whole plan does not see all of it."""
    yield from filter(None, (_hidden(rule, step) for step in plan.steps))
    if any(message.host is None for message in plan.notify) and (
        reason := _unknown(rule, "has_unknown_hosts", "notify")
    ):
        yield reason


def _holds(
    rule: Rule, root: str, fields: Mapping[str, object], owner: str
) -> tuple[bool, str | None]:
    """Whether the rule's expression is true; also if it cannot be computed, and then why."""
    context = {root: {name: fields[name] for name in rule.fields}, "owner": owner}
    try:
        value = evaluate(rule.expression, context, roots=frozenset({root, "owner"}))
    except ExpressionError as error:
        return True, f"the rule cannot be computed: {error}"
    if not isinstance(value, bool):
        return True, "the rule cannot be computed: its value is neither true nor false"
    return value, None


def _told(rule: Rule, reason: str | None, steps: Sequence[str] = ()) -> Violation:
    message = f"{rule.message} ({reason})" if reason else rule.message
    return Violation(rule=rule.name, message=message, steps=list(steps))


def _plan_fields(plan: Plan) -> dict[str, object]:
    """The plan as rules see it: its steps as sums, so that a rule costs little."""
    messaged = {message.host for message in plan.notify}
    return {
        "workflow": plan.workflow,
        "runner": plan.runner,
        "isolation": plan.isolation,
        "network": plan.network,
        "hosts": sorted(_all(map(_known_hosts, plan.steps)) | {host for host in messaged if host}),
        "has_unknown_hosts": None in messaged or any(step.has_unknown_hosts for step in plan.steps),
        "follows_redirects": any(step.follows_redirects for step in plan.steps),
        "paths": sorted(_all(map(_known_paths, plan.steps))),
        "has_unknown_paths": any(step.has_unknown_paths for step in plan.steps),
        "secrets": [secret.name for secret in plan.secrets],
        "tools": sorted(_all(step.tools for step in plan.steps)),
        "kinds": {kind: sum(step.kind == kind for step in plan.steps) for kind in ACTIONS},
        "steps": len(plan.steps),
        "inputs": {entry.name: entry.value for entry in plan.inputs},
        "is_scheduled": plan.schedule is not None,
        "group": plan.concurrency.group if plan.concurrency else "",
        "notify": [message.url for message in plan.notify],
    }


def _known_hosts(step: PlannedStep) -> Sequence[str]:
    """The hosts of the step, without a text that decides one."""
    return [] if step.has_unknown_hosts else step.hosts


def _known_paths(step: PlannedStep) -> Sequence[str]:
    """The paths of the step, without a text that decides one."""
    return [path for path in step.paths if path.startswith("/")]


def _all(lists: Iterable[Sequence[str]]) -> set[str]:
    return {text for texts in lists for text in texts}
