"""What runs wait for, read from their events: decisions, signals, webhooks; whether they rest.

A run rests while nothing of it goes on before somebody decides or sends something. A timer is no
rest: it goes off by itself.
"""

import re
from dataclasses import dataclass, field

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.base import Engine, RunEvent, RunNotFoundError

_WAITING_KINDS = frozenset({"approval", "wait", "workflow"})
_ITERATION = re.compile(r"@[0-9]+\Z")


@dataclass(slots=True)
class Question:
    """An approval that was requested. `decision` is the event that tells how it was decided.

    `is_over` means that its step has ended, decided or not.
    """

    run_id: str
    asked: RunEvent
    decision: RunEvent | None = None
    is_over: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody may still decide it."""
        return self.decision is None and not self.is_over


@dataclass(slots=True)
class RunWaits:
    """What one run waits for; `take` its events in order.

    `questions` are its approvals by step, `waits` the open waits for signals and webhooks by step,
    `active` the steps that are at work, `children` the runs inside it by the step that made them.
    """

    run_id: str
    questions: dict[str, Question] = field(default_factory=dict)
    waits: dict[str, RunEvent] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    children: dict[str, str] = field(default_factory=dict)

    def take(self, event: RunEvent) -> None:
        """Note what an event changes."""
        kind, step = event["type"], str(event.get("step"))
        if kind == "approval_requested":
            self.questions[step] = Question(self.run_id, event)
        elif kind == "approval_decided" and step in self.questions:
            self.questions[step].decision = event
            self.active.add(instance_of(step))
        elif kind == "wait_started":
            self._wait(step, event)
        elif kind == "step_running":
            self._begin(step, event)
        elif kind == "step_queued":
            self.active.add(step)
        elif kind == "workflow_complete":
            self._end_all()
        elif kind in _ENDS and not event.get("will_retry"):
            self._end(step)

    @property
    def open_questions(self) -> list[Question]:
        """The approvals that somebody may decide, in the order in which they were requested."""
        return [question for question in self.questions.values() if question.is_open]

    def _wait(self, step: str, event: RunEvent) -> None:
        if event.get("kind") == "timer":
            self.active.add(step)
        else:
            self.active.discard(step)
            self.waits[step] = event

    def _begin(self, step: str, event: RunEvent) -> None:
        child = event.get("child_run_id")
        if isinstance(child, str):
            self.children[step] = child
        elif "items" not in event:
            # The items of a fanned-out step tell of themselves.
            self.active.add(step)

    def _end(self, step: str) -> None:
        self.active.discard(step)
        self.waits.pop(step, None)
        self.children.pop(step, None)
        for name, question in self.questions.items():
            if instance_of(name) == step:
                question.is_over = True

    def _end_all(self) -> None:
        for ended in (self.active, self.waits, self.children):
            ended.clear()
        for question in self.questions.values():
            question.is_over = True


@dataclass(frozen=True, slots=True)
class OpenWaits:
    """What a run and the runs inside it wait for.

    `is_at_rest` if nothing else of them goes on; `has_inner` if there are such runs, whose events
    are not among the run's own.
    """

    questions: tuple[Question, ...] = ()
    waits: tuple[RunEvent, ...] = ()
    is_at_rest: bool = False
    has_inner: bool = False


def instance_of(place: str) -> str:
    """The step, with its item, of a place: without the number of the time."""
    return _ITERATION.sub("", place)


def may_wait(workflow: Workflow) -> bool:
    """Whether a run of the workflow can wait for anybody."""
    return any(step.kind in _WAITING_KINDS for step in workflow.all_steps())


async def read_waits(engine: Engine, run_id: str, owner: str) -> RunWaits:
    """What the run has asked and waits for now.

    Raises:
        RunNotFoundError: The owner has no such run.
    """
    last_seq = (await engine.get(run_id, owner)).last_seq
    waits = RunWaits(run_id)
    if not last_seq:
        return waits
    events = engine.events(run_id, owner)
    try:
        async for event in events:
            waits.take(event)
            if int(str(event["seq"])) >= last_seq:
                break
    finally:
        await events.aclose()
    return waits


async def open_waits(engine: Engine, run_id: str, owner: str) -> OpenWaits:
    """What the run and the runs inside it wait for now; nothing for a run that cannot wait.

    Workflows call one another in no circle and to a bounded depth, and so does this.

    Raises:
        RunNotFoundError: The owner has no such run.
    """
    if not may_wait(await engine.workflow(run_id, owner)):
        return OpenWaits()
    own = await read_waits(engine, run_id, owner)
    questions, waits = own.open_questions, list(own.waits.values())
    is_quiet = not own.active
    for child in own.children.values():
        inner = await _child_waits(engine, child, owner)
        questions += inner.questions
        waits += inner.waits
        is_quiet = is_quiet and inner.is_at_rest
    is_at_rest = is_quiet and bool(questions or waits)
    return OpenWaits(tuple(questions), tuple(waits), is_at_rest, bool(own.children))


async def _child_waits(engine: Engine, run_id: str, owner: str) -> OpenWaits:
    try:
        return await open_waits(engine, run_id, owner)
    except RunNotFoundError:
        # It is just about to begin.
        return OpenWaits()


_ENDS = frozenset({"step_complete", "step_failed", "step_skipped"})
