"""How an upstream's dialect of OpenAI's chat format differs, as data: one value for each row."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Quirks:
    """What an upstream does not take as OpenAI's format has it.

    `refused` fields change the answer, so a request that needs one is an error; each names its
    harmless values, which are left out. `dropped` fields are left out always, `renamed` ones have
    another name there. `reasoning_field` takes the model's thinking back with the next turn.
    `part_extra` says whether content parts may carry keys of others, such as `cache_control`. A
    model whose id has one of the `responses_words` between its dashes answers on the Responses API
    alone.

    For what is relayed: frames of a stream that hold one of `relay_marks` are decoded and mended;
    `completion_tokens` says whether `max_completion_tokens` is known besides `max_tokens`, and
    `developer_role` whether messages may have that role, which is `system` elsewhere.
    """

    refused: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped_in_messages: frozenset[str] = frozenset()
    lowest_temperature: float = 0.0
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    part_extra: bool = False
    relay_marks: tuple[bytes, ...] = ()
    completion_tokens: bool = True
    developer_role: bool = True
    responses_words: frozenset[str] = frozenset()

    def wire_of(self, model: str) -> Literal["chat", "responses"]:
        """The format in which a chat with this model is held."""
        is_elsewhere = not self.responses_words.isdisjoint(model.split("-"))
        return "responses" if is_elsewhere else "chat"


# Upstreams number the tool calls of a stream in many ways.
MENDED_TOOL_CALLS = (b'"tool_calls"',)
NO_LOGPROBS = {"logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},)}

# Words in the ids of OpenAI's models that answer on the Responses API alone: `o3-pro`,
# `gpt-5.1-codex-max`, `o4-mini-deep-research`. A model that answers on both is asked there as well.
# Source: the OpenAI SDK's `ResponsesModel` (openai 3.54), which a test holds beside this.
RESPONSES_WORDS: Final = frozenset(
    {"pro", "codex", "research", "computer", "cyber", "daybreak", "rosalind", "law"}
)

OPENAI = Quirks(responses_words=RESPONSES_WORDS)
# Whatever speaks the format. DeepSeek demands its thinking back with the results of tools.
COMPATIBLE = Quirks(
    reasoning_field="reasoning_content",
    part_extra=True,
    relay_marks=MENDED_TOOL_CALLS,
    completion_tokens=False,
    developer_role=False,
)
# Source: Groq documentation, "OpenAI Compatibility", section "Currently Unsupported OpenAI
# Features", 2026-10; a temperature of 0 is turned into 1e-8 there.
GROQ = Quirks(
    refused=NO_LOGPROBS | {"n": (1,)},
    dropped_in_messages=frozenset({"name"}),
    lowest_temperature=1e-8,
    reasoning_field="reasoning",
    relay_marks=MENDED_TOOL_CALLS,
    developer_role=False,
)
TOGETHER = Quirks(
    reasoning_field="reasoning",
    relay_marks=MENDED_TOOL_CALLS,
    completion_tokens=False,
    developer_role=False,
)
# Source: Ollama documentation, "OpenAI compatibility", the list of supported request fields,
# 2026-10: what is not in it is ignored there, and so would not be what the caller asked for.
OLLAMA = Quirks(
    refused={"n": (1,), "logit_bias": ({},), "tool_choice": ("auto",)},
    dropped=frozenset({"user", "parallel_tool_calls"}),
    reasoning_field="reasoning",
    relay_marks=MENDED_TOOL_CALLS,
    completion_tokens=False,
    developer_role=False,
)
# Deployments have names of their own, so what a model takes cannot be told from its name.
AZURE = OPENAI
# A gateway knows the dialects behind it, and speaks OpenAI's itself.
GATEWAY = Quirks(
    reasoning_field="reasoning_content", part_extra=True, relay_marks=MENDED_TOOL_CALLS
)
OPENROUTER = replace(GATEWAY, reasoning_field="reasoning")
XAI = replace(GATEWAY, part_extra=False, developer_role=False)
# Cerebras answers these with a 400; of the last two none changes what is said.
# Source: req_llm documentation, "Cerebras", section "Unsupported OpenAI Features", 1.10.
CEREBRAS = replace(
    COMPATIBLE,
    refused={"logit_bias": ({},), "frequency_penalty": (0,), "presence_penalty": (0,)},
    dropped=frozenset({"parallel_tool_calls", "service_tier"}),
    completion_tokens=True,
    reasoning_field="reasoning",
    part_extra=False,
)
# Mistral answers a field that it does not know with a 422, in a message as well
# (mistralai/platform-docs-public#7, charmbracelet/crush#1590, Gage-Technologies/mistral-go#2). Its
# recorded streams tell their usage unasked, and its seed is `random_seed`.
MISTRAL = replace(
    COMPATIBLE,
    refused=NO_LOGPROBS,
    renamed={"seed": "random_seed"},
    dropped=frozenset({"stream_options", "user", "service_tier", "store", "metadata"}),
    dropped_in_messages=frozenset({"name", "reasoning_content", "reasoning"}),
    reasoning_field=None,
    part_extra=False,
)
PERPLEXITY = replace(COMPATIBLE, reasoning_field=None, part_extra=False)
