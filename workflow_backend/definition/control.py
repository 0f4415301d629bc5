"""What decides when and how often something runs: retries, loops, schedules, groups, messages."""

from typing import Literal

from pydantic import Field

from workflow_backend.definition.input_spec import Strict

NotifyOn = Literal["success", "failed", "cancelled", "timed_out", "approval"]


class RetryPolicy(Strict):
    """When and how often a failed attempt is repeated.

    `limit` counts repeats, so `limit: 2` is at most three attempts. Delays are
    `interval * backoff ** (n - 1)`, at most `max_interval`.
    """

    limit: int = Field(ge=0, le=100, description="Most repeats: 2 means up to 3 attempts.")
    interval: str = Field(default="1s", description="Delay before the first repeat.")
    backoff: float = Field(
        default=2.0, ge=1.0, le=10.0, description="Factor by which each delay grows."
    )
    max_interval: str = Field(default="5m", description="Longest delay.")
    on_exit_codes: list[int] | None = Field(
        default=None,
        description="Repeat only after these exit codes; without it after any failure.",
        examples=[[75, 111]],
    )
    on_worker_lost: bool = Field(
        default=True,
        description="Whether an attempt that a crash interrupted runs again.",
    )


class Repeat(Strict):
    """A step that is done again until a condition holds."""

    until: str = Field(
        description="CEL condition, computed after each time; it sees the step itself as"
        " `steps.NAME`.",
        examples=["steps.poll.outputs.json.state == 'done'"],
    )
    limit: int = Field(ge=1, le=1_000, description="Most times; the step has failed after them.")
    interval: str = Field(default="10s", description="Delay between two times.")


class Schedule(Strict):
    """When runs begin by themselves, once the schedule is registered."""

    cron: str = Field(
        description="Five fields: minute, hour, day of month, month, day of week.",
        examples=["0 6 * * mon-fri"],
    )
    timezone: str = Field(
        default="UTC", description="Time zone by its IANA name.", examples=["Europe/Berlin"]
    )
    overlap: Literal["skip", "queue", "cancel_running", "allow"] = Field(
        default="skip",
        description="When the run before has not ended: leave this one out, run it after, cancel"
        " the other, or run both.",
    )
    catch_up: str | None = Field(
        default=None,
        description="How far back times are made up for that passed while no server ran; without"
        " it they are left out.",
        examples=["1h"],
    )


class Concurrency(Strict):
    """Runs that must not be under way at the same time."""

    group: str = Field(
        description="Name of the group; may hold `${{ inputs }}`. One run of a group at a time.",
        examples=["deploy-${{ inputs.env }}"],
    )
    policy: Literal["queue", "cancel_running", "refuse"] = Field(
        default="queue",
        description="When another is under way: wait for it, cancel it, or refuse the new run.",
    )


class Notification(Strict):
    """A message by webhook when the run comes to something."""

    url: str = Field(
        description="Absolute http or https URL; may hold `${{ inputs }}`.",
        examples=["https://hooks.example.com/runs"],
    )
    on: list[NotifyOn] = Field(
        default=["failed", "timed_out"],
        min_length=1,
        description="Ends of the run, or `approval` when one is requested.",
    )
    secret: str | None = Field(
        default=None,
        description="Name of the secret that signs the message (Standard Webhooks, HMAC-SHA256).",
        examples=["HOOK_KEY"],
    )
