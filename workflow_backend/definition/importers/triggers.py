"""What begins runs and keeps them apart: schedules, queues, bounds of runs at a time."""

import re
from collections.abc import Mapping

from workflow_backend.definition.importers.fields import WORKFLOW
from workflow_backend.definition.importers.notes import Fields
from workflow_backend.definition.importers.policies import duration_of, whole_number
from workflow_backend.definition.importers.scope import escaped

_MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip
_TIMEZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
_OVERLAPS = {"skip": "skip", "all": "queue", "latest": "queue"}


def read_schedule(fields: Fields) -> dict[str, object] | None:
    """The first start of a schedule; further ones, stops and restarts are noted."""
    given = fields.take(*WORKFLOW["schedule"])
    path = fields.at(*WORKFLOW["schedule"])
    if isinstance(given, Mapping):
        inner = Fields(given, path, fields.notes)
        given, path = inner.take("start"), inner.at("start")
        inner.finish(
            {
                "stop": ("runs are not stopped by a schedule.", "Give the workflow a `timeout`."),
                "restart": ("runs are not begun again by a schedule.", "It was left out."),
            }
        )
    items = given if isinstance(given, list) else [given] if given else []
    crons = [item for item in items if isinstance(item, str) and item.strip()]
    if len(crons) < len(items):
        fields.notes.add(path, "a start at one time only has no counterpart.")
    catch_up = fields.take(*WORKFLOW["catch_up"])
    overlap = fields.text(*WORKFLOW["overlap"])
    if not crons:
        return None
    if len(crons) > 1:
        fields.notes.add(
            path,
            f"a workflow has one schedule, this has {len(crons)}.",
            f"It is {crons[0]!r}; register the others for copies of the workflow.",
        )
    schedule = _schedule(crons[0], path, fields)
    if longest := duration_of(catch_up, fields.at(*WORKFLOW["catch_up"]), fields.notes):
        schedule["catch_up"] = longest
    if overlap:
        schedule["overlap"] = _OVERLAPS.get(overlap, "skip")
    return schedule


def read_concurrency(fields: Fields, name: str) -> dict[str, object] | None:
    """One run at a time, where a queue or a bound of one says so."""
    queue = fields.text(*WORKFLOW["queue"])
    given = fields.take(*WORKFLOW["max_runs"])
    bound = whole_number(given)
    if bound is not None and bound > 1:
        fields.note(
            WORKFLOW["max_runs"],
            f"at most {bound} runs at a time have no counterpart.",
            "Runs are not kept apart; `concurrency` allows one at a time.",
        )
        return None
    if queue:
        fields.note(
            WORKFLOW["queue"],
            "how many runs a queue takes at a time is not in the file.",
            f"Runs of the group {queue[:60]!r} run one at a time.",
        )
    if not queue and bound != 1:
        return None
    return {"group": escaped(queue or name)}


def _schedule(cron: str, path: str, fields: Fields) -> dict[str, object]:
    zone = _TIMEZONE.fullmatch(cron.strip())
    if zone:
        cron = zone.group(2)
    else:
        fields.notes.add(
            path,
            "the time zone was that of the machine.",
            "It is UTC; set `schedule.timezone`.",
        )
    cron = _MACROS.get(cron.strip().lower(), cron.strip())
    return {"cron": cron, "timezone": zone.group(1)} if zone else {"cron": cron}
