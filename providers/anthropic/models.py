"""What each family of Anthropic's models takes, where requests must differ between them.

Source: Anthropic API documentation, "Models overview", "Effort", "Adaptive thinking" and the
migration guides of Claude 4.5 to 5, 2026-10. A name that is not in the table is passed on: if it
is one of Anthropic's, it is taken for a new model.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a family takes.

    `default_max_tokens` is sent where the caller gave none, as the API demands a number. `thinking`
    says how it is asked for: with a token budget, or with an effort. `sampling` says how many of
    `temperature` and `top_p` may be sent; `none` stands for `top_k`, too.
    """

    default_max_tokens: int
    thinking: Literal["none", "budget", "adaptive"]
    sampling: Literal["none", "one", "both"]


def model_traits(model: str) -> ModelTraits:
    """The traits of a model's family; `model` may carry a prefix such as `anthropic.`."""
    name = model[model.find("claude-") :] if "claude-" in model else ""
    return next(traits for prefix, traits in _FAMILIES if name.startswith(prefix))


_CLAUDE_3 = ModelTraits(4_096, "none", "both")
_CLAUDE_4_0 = ModelTraits(32_000, "budget", "both")
_CLAUDE_4_5 = ModelTraits(32_000, "budget", "one")
_CLAUDE_4_6 = ModelTraits(32_000, "adaptive", "one")
_NEWEST = ModelTraits(32_000, "adaptive", "none")
_FOREIGN = ModelTraits(8_192, "adaptive", "both")

# The first row that matches, so the longer prefix comes before the shorter.
_FAMILIES: tuple[tuple[str, ModelTraits], ...] = (
    ("claude-3-7", _CLAUDE_4_0),
    ("claude-3-5", ModelTraits(8_192, "none", "both")),
    ("claude-3", _CLAUDE_3),
    ("claude-opus-4-1", _CLAUDE_4_5),
    ("claude-opus-4-5", _CLAUDE_4_5),
    ("claude-sonnet-4-5", _CLAUDE_4_5),
    ("claude-haiku-4-5", _CLAUDE_4_5),
    ("claude-opus-4-6", _CLAUDE_4_6),
    ("claude-sonnet-4-6", _CLAUDE_4_6),
    ("claude-opus-4-7", _NEWEST),
    ("claude-opus-4-8", _NEWEST),
    ("claude-opus-4", _CLAUDE_4_0),
    ("claude-sonnet-4", _CLAUDE_4_0),
    ("claude-", _NEWEST),
    ("", _FOREIGN),
)
