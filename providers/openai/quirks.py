"""How an upstream's dialect of OpenAI's chat format differs, as data: one value for each row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quirks:
    """What an upstream does not take as OpenAI's format has it.

    `refused` fields change the answer, so a request that needs one is an error; each names its
    harmless values, which are left out. `dropped` fields are left out always. `reasoning_field`
    takes the model's thinking back with the next turn. `part_extra` says whether content parts
    may carry keys of others, such as `cache_control`.
    """

    refused: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    dropped_in_messages: frozenset[str] = frozenset()
    lowest_temperature: float = 0.0
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    part_extra: bool = False


NO_LOGPROBS = {"logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},)}

OPENAI = Quirks()
# Whatever speaks the format. DeepSeek demands its thinking back with the results of tools.
COMPATIBLE = Quirks(reasoning_field="reasoning_content", part_extra=True)
# Source: Groq documentation, "OpenAI Compatibility", section "Currently Unsupported OpenAI
# Features", 2026-10; a temperature of 0 is turned into 1e-8 there.
GROQ = Quirks(
    refused=NO_LOGPROBS | {"n": (1,)},
    dropped_in_messages=frozenset({"name"}),
    lowest_temperature=1e-8,
    reasoning_field="reasoning",
)
TOGETHER = Quirks(reasoning_field="reasoning")
# Source: Ollama documentation, "OpenAI compatibility", the list of supported request fields,
# 2026-10: what is not in it is ignored there, and so would not be what the caller asked for.
OLLAMA = Quirks(
    refused={"n": (1,), "logit_bias": ({},), "tool_choice": ("auto",)},
    dropped=frozenset({"user", "parallel_tool_calls"}),
    reasoning_field="reasoning",
)
