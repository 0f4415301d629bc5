"""Schedules: workflows that begin by themselves at the times that they name."""
