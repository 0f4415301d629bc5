"""Budgets of time: what one call of a route may take, phase by phase."""

from dataclasses import dataclass, fields, replace

from providers.upstream import Timeouts


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bounds of an answer, in seconds.

    `connect_seconds`, `first_byte_seconds` and `first_token_seconds` bound each attempt, the last
    until there is content (of a JSON answer: all of it); `idle_seconds` bounds each silence after
    it; `total_seconds` everything, repeats, fallbacks and waits included.
    """

    connect_seconds: float = 10.0
    first_byte_seconds: float = 120.0
    first_token_seconds: float = 300.0
    idle_seconds: float = 120.0
    total_seconds: float = 900.0

    def timeouts(self, remaining_seconds: float | None = None) -> Timeouts:
        """The bounds as the upstream client takes them; what remains of the total replaces it."""
        return Timeouts(
            connect_seconds=self.connect_seconds,
            first_byte_seconds=self.first_byte_seconds,
            idle_seconds=self.idle_seconds,
            total_seconds=self.total_seconds if remaining_seconds is None else remaining_seconds,
        )

    def but(self, **seconds: float) -> "Budgets":
        """These budgets with some of them changed, by `BUDGET_FIELDS` without `_seconds`."""
        return replace(self, **{f"{name}_seconds": value for name, value in seconds.items()})


BUDGET_FIELDS = tuple(field.name.removesuffix("_seconds") for field in fields(Budgets))
