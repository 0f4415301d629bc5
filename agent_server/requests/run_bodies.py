"""The bodies by which runs are started, repeated, decided and signalled."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from agent_server.requests.fields import (
    FieldError,
    boolean,
    json_object,
    kind,
    name,
    read_fields,
    string,
)
from agent_server.requests.json_body import read_json, read_json_object
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

MAX_REASON_CHARACTERS: Final = 2_000
MAX_STEP_CHARACTERS: Final = 200
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def read_start(body: bytes) -> JsonObject:
    """The arguments of `start_run`: `workflow`, `inputs`, `run_id`.

    Raises:
        InvalidRequestError: a field is missing or wrong.
    """
    return _read(body, ("workflow",), workflow=_workflow, inputs=json_object, run_id=_run_id)


def read_schedule(body: bytes) -> JsonObject:
    """The arguments of `create_schedule`: `workflow`, `inputs`, `name`; raises as above."""
    return _read(body, ("workflow",), workflow=_workflow, inputs=json_object, name=_short_name)


def read_rerun(body: bytes) -> JsonObject:
    """The arguments of `rerun_run` besides the run: `from_step`, `new_run_id`; raises as above."""
    given = _read(body, (), from_step=_short_name, run_id=_run_id)
    if "run_id" in given:
        given["new_run_id"] = given.pop("run_id")
    return given


def read_decision(body: bytes) -> JsonObject:
    """The arguments of `decide_approval` besides run and step; raises as above."""
    return _read(body, ("approved",), approved=boolean, values=json_object, reason=_reason)


def read_payload(body: bytes) -> JsonValue:
    """The body of a signal or webhook, which is its payload: any JSON; none is an empty object."""
    return read_json(body) if body.strip() else {}


def _read(
    body: bytes, needed: tuple[str, ...], **readers: Callable[[JsonValue], JsonValue]
) -> JsonObject:
    data = read_json_object(body) if body.strip() else {}
    if unknown := next((key for key in data if key not in readers), None):
        raise InvalidRequestError(
            f"`{unknown[:80]}` is no field of this request; it has {', '.join(readers)}.",
            param=unknown[:80],
        )
    try:
        return _fields(data, needed, readers)
    except FieldError as exc:
        raise exc.to_request_error() from None


def _fields(
    data: JsonObject,
    needed: tuple[str, ...],
    readers: Mapping[str, Callable[[JsonValue], JsonValue]],
) -> JsonObject:
    if missing := next((key for key in needed if data.get(key) is None), None):
        raise FieldError("is missing", missing)
    table = {key: (key, reader) for key, reader in readers.items()}
    return read_fields(data, table)[0]


def _workflow(value: JsonValue) -> JsonValue:
    if isinstance(value, str | dict):
        return value
    raise FieldError(f"must be a workflow as YAML or JSON text, or an object, not {kind(value)}")


def _run_id(value: JsonValue) -> str:
    if _RUN_ID.fullmatch(string(value)):
        return str(value)
    raise FieldError("must be 1 to 128 letters, digits, `_`, `.` and `-`")


def _short_name(value: JsonValue) -> str:
    return _at_most(name(value), MAX_STEP_CHARACTERS)


def _reason(value: JsonValue) -> str:
    return _at_most(string(value), MAX_REASON_CHARACTERS)


def _at_most(text: str, most: int) -> str:
    if len(text) > most:
        raise FieldError(f"must have at most {most} characters")
    return text
