"""Measured figures beside their targets."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure with its target, and whether more or less is better."""

    name: str
    value: float | None
    target: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure was measured and reaches its target."""
        if self.value is None:
            return False
        return self.value <= self.target if self.at_most else self.value >= self.target

    def line(self) -> str:
        """The figure as a row of the table."""
        value = "not measured" if self.value is None else f"{self.value:,.2f}"
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.is_met else "MISSED"
        return f"| {self.name} | {value} | {sign} {self.target:,.2f} | {verdict} |"


def print_figures(figures: Sequence[Figure]) -> None:
    """Print the table, and end the program: with 1 if a target is missed."""
    click.echo("\n| figure | measured | target | |\n|---|---|---|---|")
    click.echo("\n".join(figure.line() for figure in figures))
    sys.exit(0 if all(figure.is_met for figure in figures) else 1)
