"""What begins runs by themselves, keeps them apart, and tells of them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from workflow_backend.definition.control import Notification, Schedule
from workflow_backend.definition.model import Workflow
from workflow_backend.definition.patterns import VARIABLE_NAME
from workflow_backend.definition.problems import Problem, closest
from workflow_backend.definition.step_checks import check_url
from workflow_backend.definition.value_checks import check_duration

MAX_CRON_CHARACTERS = 200
MAX_GROUP_CHARACTERS = 200
MAX_URL_CHARACTERS = 2_000

_CRON_FIX = 'Write minute, hour, day of month, month, day of week: `cron: "0 6 * * mon-fri"`.'
# A fixed time to compute from: what is valid does not depend on today.
_BASE = datetime(2025, 1, 1, tzinfo=UTC)


def check_triggers(workflow: Workflow) -> Iterator[Problem]:
    """The faults of `schedule`, `concurrency` and `notify`."""
    if workflow.schedule is not None:
        yield from _check_schedule(workflow.schedule)
    if workflow.concurrency is not None:
        group = workflow.concurrency.group
        if not group.strip() or len(group) > MAX_GROUP_CHARACTERS:
            yield Problem(
                "concurrency.group",
                f"a group's name has 1 to {MAX_GROUP_CHARACTERS} characters.",
                "Name it, such as `deploy-${{ inputs.env }}`.",
            )
    for index, notification in enumerate(workflow.notify):
        yield from _check_notification(f"notify[{index}]", notification)


def _check_schedule(schedule: Schedule) -> Iterator[Problem]:
    if fault := _cron_fault(schedule.cron):
        yield Problem("schedule.cron", fault, _CRON_FIX)
    if not _is_timezone(schedule.timezone):
        meant = closest(schedule.timezone, available_timezones())
        yield Problem(
            "schedule.timezone",
            f"there is no time zone {schedule.timezone[:64]!r}.",
            f"Did you mean `{meant}`?" if meant else "Use an IANA name, such as `Europe/Berlin`.",
        )
    yield from check_duration("schedule.catch_up", schedule.catch_up)


def _cron_fault(cron: str) -> str | None:
    if len(cron) > MAX_CRON_CHARACTERS:
        return f"the expression is over {MAX_CRON_CHARACTERS} characters."
    if (count := len(cron.split())) != 5:
        return f"the expression has {count} fields, not five."
    try:
        next(CronSim(cron, _BASE))
    except CronSimError as error:
        return f"this is no cron expression: {error}."
    except StopIteration:
        return "no day fits the expression."
    return None


def _is_timezone(name: str) -> bool:
    if name == "UTC":
        return True
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


def _check_notification(path: str, notification: Notification) -> Iterator[Problem]:
    if len(notification.url) > MAX_URL_CHARACTERS:
        yield Problem(
            f"{path}.url", f"the URL is over {MAX_URL_CHARACTERS} characters.", "Shorten it."
        )
    yield from check_url(f"{path}.url", notification.url)
    secret = notification.secret
    if secret is not None and not VARIABLE_NAME.fullmatch(secret):
        yield Problem(
            f"{path}.secret",
            "this is no name of a secret.",
            "Write the name alone, such as `secret: HOOK_KEY`.",
        )
