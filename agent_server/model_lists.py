"""The models that a client may name, as OpenAI's and as Anthropic's API list them.

Source: OpenAI API reference, "Models"; Anthropic API documentation, "List Models" and the types of
its Python SDK 2.12; both 2026-10.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from agent_server.gateway.names import AGENT_MODEL
from providers.base import ModelInfo
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject, JsonValue

# What has no date of its own gets a fixed one, so that the list is the same at every start.
OUR_CREATED: Final = 1_735_689_600
OUR_NAME: Final = "agent-server"
DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 1000
# Of the year 9999.
LAST_SECOND: Final = 253_402_300_799


def listed_models(
    listings: Mapping[str, Iterable[ModelInfo]], *, configured: Iterable[str], agent: bool
) -> list[ModelInfo]:
    """Each model once, by the name to call it: the agent, configured names, then the providers'.

    `listings` are what each provider lists, by its name; a model of it is `provider/model`.
    """
    ours = [AGENT_MODEL, *configured] if agent else [*configured]
    found = [ModelInfo(name, OUR_NAME, OUR_CREATED) for name in ours]
    found += [
        ModelInfo(f"{provider}/{model.model_id}", model.owned_by, model.created)
        for provider, models in listings.items()
        for model in models
    ]
    by_name: dict[str, ModelInfo] = {}
    for model in found:
        by_name.setdefault(model.model_id, model)
    return [*by_name.values()]


def openai_model(model: ModelInfo) -> JsonObject:
    """One entry of OpenAI's list."""
    return {
        "id": model.model_id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }


def openai_list(models: Iterable[ModelInfo]) -> JsonObject:
    """OpenAI's list, which has no pages."""
    return {"object": "list", "data": [openai_model(model) for model in models]}


def anthropic_model(model: ModelInfo) -> JsonObject:
    """One entry of Anthropic's list; an unknown date is the epoch, as it documents."""
    # An upstream may count in milliseconds, which is no date of ours.
    seconds = model.created if 0 <= model.created <= LAST_SECOND else 0
    return {
        "type": "model",
        "id": model.model_id,
        "display_name": model.model_id,
        "created_at": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }


def anthropic_page(models: Sequence[ModelInfo], query: Mapping[str, str]) -> JsonObject:
    """One page of Anthropic's list, as `limit`, `after_id` and `before_id` of the query ask.

    Raises:
        InvalidRequestError: the limit is no number of its range, or an id is not in the list.
    """
    limit = _limit(query.get("limit", str(DEFAULT_PAGE)))
    first, last = 0, len(models)
    if "after_id" in query:
        first = _position(models, query, "after_id") + 1
    if "before_id" in query:
        last = _position(models, query, "before_id")
        page = models[max(first, last - limit) : last]
        has_more = last - limit > first
    else:
        page = models[first : first + limit]
        has_more = first + limit < last
    data: list[JsonValue] = [anthropic_model(model) for model in page]
    return {
        "data": data,
        "has_more": has_more,
        "first_id": page[0].model_id if page else None,
        "last_id": page[-1].model_id if page else None,
    }


def _limit(given: str) -> int:
    limit = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequestError(
            f"limit: must be a number from 1 to {MAX_PAGE}, not {given[:40]!r}", param="limit"
        )
    return limit


def _position(models: Sequence[ModelInfo], query: Mapping[str, str], field: str) -> int:
    wanted = query[field]
    for position, model in enumerate(models):
        if model.model_id == wanted:
            return position
    raise InvalidRequestError(
        f"{field}: no model {wanted[:200]!r} is listed; begin again without it", param=field
    )
