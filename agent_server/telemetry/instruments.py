"""The metrics of the GenAI semantic conventions, with their units and buckets.

Source: OpenTelemetry, "Semantic conventions for generative AI metrics", 2026-11 (Development).
"""

from typing import Final

from opentelemetry.metrics import Histogram, Meter

_SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
_AGENT_SECONDS: Final = tuple(0.1 * 2**power for power in range(13))
_TOKENS: Final = tuple(float(4**power) for power in range(14))


class Instruments:
    """One histogram for each thing that is measured."""

    __slots__ = ("agent_duration", "duration", "first_chunk", "tokens", "tool_duration")

    def __init__(self, meter: Meter) -> None:
        self.duration = _seconds(
            meter, "gen_ai.client.operation.duration", "GenAI operation duration."
        )
        self.first_chunk = _seconds(
            meter,
            "gen_ai.client.operation.time_to_first_chunk",
            "Time to receive the first chunk of a stream.",
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self.agent_duration = _seconds(
            meter,
            "gen_ai.invoke_agent.duration",
            "The end-to-end duration of a single agent invocation.",
            _AGENT_SECONDS,
        )
        self.tool_duration = _seconds(
            meter, "gen_ai.execute_tool.duration", "The duration of a single tool execution."
        )


def _seconds(meter: Meter, name: str, text: str, bounds: tuple[float, ...] = _SECONDS) -> Histogram:
    return meter.create_histogram(
        name, "s", text, explicit_bucket_boundaries_advisory=[round(bound, 2) for bound in bounds]
    )
