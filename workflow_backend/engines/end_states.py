"""What the steps of a run came to, as the journal keeps it: without what its records hold already.

The outputs of an attempt stand in its record, those of an inner run's steps in that run, and what a
rerun took over in its own row; the states refer to them, so that nothing large is written twice.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from workflow_backend.step_state import StepState, states_from_json, states_to_json

# The outputs behind a reference, and the states of an inner run.
LoadOutputs = Callable[[str], Mapping[str, object]]
LoadStates = Callable[[str], Awaitable[Mapping[str, StepState]]]


class EndStates:
    """Notes, while a run is interpreted, where its outputs and inner states are recorded."""

    def __init__(self) -> None:
        self._places: dict[int, str] = {}
        # An id says who an object is only as long as that is there.
        self._noted: list[object] = []

    def note(self, value: object, place: str) -> None:
        """The object, an outputs or a states mapping, is recorded at this place."""
        self._places[id(value)] = place
        self._noted.append(value)

    def encode(self, states: Mapping[str, StepState]) -> bytes:
        """The states as JSON, with references to what is recorded elsewhere."""
        return orjson.dumps({name: self._of(name, states) for name in states})

    def _of(self, name: str, states: Mapping[str, StepState]) -> dict[str, object]:
        state = states[name]
        place, inner = self._places.get(id(state.outputs)), self._places.get(id(state.inner))
        items = _items_of(name, states)
        bare = StepState(
            state.status,
            {} if place is not None or items else state.outputs,
            state.error,
            state.exit_code,
            state.attempts,
            state.has_failed_before,
            state.reason,
            {} if inner is not None else state.inner,
        )
        document: dict[str, Any] = {**states_to_json({name: bare})[name]}  # type: ignore[dict-item]
        references = {"outputs_at": place, "inner_of": inner, "items": items or None}
        return document | {key: value for key, value in references.items() if value is not None}


async def decode_states(
    body: bytes, outputs_at: LoadOutputs, states_of: LoadStates
) -> dict[str, StepState]:
    """The states that `EndStates.encode` wrote, whole."""
    documents = orjson.loads(body)
    references = {
        name: {key: document.pop(key, None) for key in ("outputs_at", "inner_of", "items")}
        for name, document in documents.items()
    }
    states = states_from_json(documents)
    for name, state in states.items():
        if references[name]["outputs_at"] is not None:
            state.outputs = outputs_at(references[name]["outputs_at"])
        if references[name]["inner_of"] is not None:
            state.inner = await states_of(references[name]["inner_of"])
    for name, state in states.items():
        if count := references[name]["items"]:
            items = [states[f"{name}[{index}]"] for index in range(count)]
            state.outputs = {
                "stdout": "",
                "items": [item.outputs for item in items],
                "statuses": [item.status for item in items],
            }
    return states


def _items_of(name: str, states: Mapping[str, StepState]) -> int:
    """How many items the outputs of a fanned-out step are made of; 0 for any other."""
    items = states[name].outputs.get("items")
    if not isinstance(items, list) or f"{name}[0]" not in states:
        return 0
    found = (states.get(f"{name}[{index}]") for index in range(len(items)))
    are_same = (
        state is not None and state.outputs is outputs
        for state, outputs in zip(found, items, strict=True)
    )
    return len(items) if all(are_same) else 0
