"""A chat request as the arguments of `litellm.acompletion`.

litellm takes where to send a request, and with which key, by the same way as what to send, and
reads URLs and files that a message names. So a caller's fields pass by a list of those that are
OpenAI's, and nothing that names an address passes at all.

Source: litellm documentation, "Input Params", 2026-10.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from providers.chat_request import ChatRequest, ImagePart, Message, OpaquePart, Part
from providers.openai.quirks import COMPATIBLE
from providers.openai.request import request_to_body
from streaming.errors import InvalidRequestError, UnsupportedFieldError
from streaming.events import JsonObject, JsonValue

PASSED_ON = frozenset(
    {
        "audio",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "modalities",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "thinking",
        "top_k",
        "top_logprobs",
        "verbosity",
    }
)
PASSED_ON_IN_MESSAGES = frozenset({"cache_control"})


def chat_to_arguments(request: ChatRequest, provider: str) -> tuple[JsonObject, tuple[str, ...]]:
    """The arguments, and the names of the fields that were left out.

    Raises:
        InvalidRequestError: the model is an address.
        UnsupportedFieldError: a part of a message would have to be fetched from an address.
    """
    if re.search(r"https?:", request.model, re.IGNORECASE):
        # Some of litellm's adapters would send the request, and a key, to that address.
        raise InvalidRequestError("a model is a name, not an address", param="model")
    for index, message in enumerate(request.messages):
        _check_parts(message.parts, f"messages[{index}].content")
    safe = replace(
        request,
        messages=tuple(_safe_message(message) for message in request.messages),
        extra={name: value for name, value in request.extra.items() if name in PASSED_ON},
    )
    dropped = (
        name for name, value in request.extra.items() if name not in PASSED_ON and value is not None
    )
    return request_to_body(safe, COMPATIBLE, provider), tuple(dropped)


def _check_parts(parts: Iterable[Part], param: str) -> None:
    for part in parts:
        match part:
            case ImagePart() if not part.url.startswith("data:"):
                raise UnsupportedFieldError(
                    "litellm would fetch the image itself; give it as a data: URL", param=param
                )
            case OpaquePart() if not _is_whole(part.data):
                raise UnsupportedFieldError(
                    "through litellm, content parts must hold their data themselves: text, "
                    "input_audio, or a file with file_data as a data: URL",
                    param=param,
                )


def _is_whole(data: JsonObject) -> bool:
    """Whether a part needs nothing but itself."""
    if data.get("type") == "input_audio":
        audio = data.get("input_audio")
        return isinstance(audio, dict) and audio.keys() <= {"data", "format"}
    if data.get("type") != "file":
        return False
    file = data.get("file")
    if not isinstance(file, dict) or not file.keys() <= {"file_data", "filename"}:
        return False
    content: JsonValue = file.get("file_data")
    return isinstance(content, str) and content.startswith("data:")


def _safe_message(message: Message) -> Message:
    kept = {name: message.extra[name] for name in PASSED_ON_IN_MESSAGES & message.extra.keys()}
    return replace(message, extra=kept)
