"""The name of the model that a body asks for, in every format the field `model`."""

from typing import Final

from agent_server.requests.fields import kind
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject

# Names are remembered, logged, stored and sent in headers; no provider has one of this length.
LONGEST_NAME: Final = 200


def model_name(body: JsonObject) -> str | None:
    """The name, None where the body has none.

    Raises:
        InvalidRequestError: it is no text, empty, longer than `LONGEST_NAME` characters, or holds a
            control character, which no header could carry.
    """
    name = body.get("model")
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        what = "empty" if name == "" else kind(name)
        raise InvalidRequestError(
            f"`model` must be the name of a model, not {what}.", param="model"
        )
    if len(name) > LONGEST_NAME:
        raise InvalidRequestError(
            f"`model` has {len(name)} characters; a name has at most {LONGEST_NAME}.",
            param="model",
        )
    if not name.isprintable():
        raise InvalidRequestError(
            f"`model` holds a character that cannot be printed: {name!r}.", param="model"
        )
    return name
