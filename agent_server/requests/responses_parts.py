"""The content of Responses items as the parts that providers take.

Source: OpenAI API reference, "Responses", "Create a model response", `input`, 2026-11.
"""

from collections.abc import Callable, Mapping
from typing import Final

from agent_server.requests.attachments import file_part
from agent_server.requests.chat_messages import MAX_PARTS, read_image_url
from agent_server.requests.fields import (
    FieldError,
    json_object,
    kind,
    name,
    read_items,
    read_member,
    string,
)
from providers.chat_request import ImagePart, OpaquePart, Part, TextPart
from streaming.events import JsonObject, JsonValue


def read_input_content(value: JsonValue) -> tuple[Part, ...]:
    """What a user, or a tool, says: a string, or a list of texts, images, files and audio."""
    return _read_content(value, _INPUT_PARTS)


def read_instructions_content(value: JsonValue) -> tuple[Part, ...]:
    """What a system or developer message says: text alone."""
    return _read_content(value, _TEXT_PARTS)


def read_output_content(value: JsonValue) -> tuple[tuple[Part, ...], str | None]:
    """What the model said, and with which words it refused."""
    refusals: list[str] = []

    def read_refusal(part: JsonObject) -> Part:
        refusals.append(read_member(part, "refusal", string))
        return TextPart("")

    parts = _read_content(value, {**_TEXT_PARTS, "refusal": read_refusal})
    refusal = "".join(refusals) or None
    return tuple(part for part in parts if not isinstance(part, TextPart) or part.text), refusal


def _read_content(
    value: JsonValue, readers: Mapping[str, Callable[[JsonObject], Part]]
) -> tuple[Part, ...]:
    def read_part(item: JsonValue) -> Part:
        part = json_object(item)
        given = read_member(part, "type", name)
        reader = readers.get(given)
        if reader is None:
            raise FieldError(f"must be {' or '.join(sorted(readers))}, not {given[:80]!r}", "type")
        return reader(part)

    if isinstance(value, str):
        return (TextPart(value),) if value else ()
    if not isinstance(value, list):
        raise FieldError(f"must be a string or a list of parts, not {kind(value)}")
    return tuple(read_items(value, read_part, MAX_PARTS))


def _text(part: JsonObject) -> Part:
    return TextPart(read_member(part, "text", string))


def _image(part: JsonObject) -> Part:
    if part.get("file_id") is not None:
        raise FieldError(
            "names a file that another server keeps; send the image itself as `image_url`",
            "file_id",
        )
    url = read_member(part, "image_url", read_image_url)
    detail = part.get("detail")
    return ImagePart(url, None if detail is None else read_member(part, "detail", string))


def _file(part: JsonObject) -> Part:
    if part.get("file_id") is not None:
        return OpaquePart({"type": "file", "file": {"file_id": read_member(part, "file_id", name)}})
    if part.get("file_url") is not None:
        raise FieldError(
            "cannot be fetched here; send the content itself as `file_data`", "file_url"
        )
    given = part.get("filename")
    file_name = None if given is None else read_member(part, "filename", string)
    return read_member(part, "file_data", lambda value: _file_data(value, file_name))


def _file_data(value: JsonValue, file_name: str | None) -> Part:
    data = name(value)
    if data[:5].lower() == "data:":
        return file_part(data, None, file_name)
    return OpaquePart(
        {"type": "file", "file": {"filename": file_name or "attachment", "file_data": data}}
    )


def _audio(part: JsonObject) -> Part:
    audio = read_member(part, "input_audio", json_object)
    return OpaquePart({"type": "input_audio", "input_audio": audio})


_TEXT_PARTS: Final[Mapping[str, Callable[[JsonObject], Part]]] = {
    # Clients send what they got as output also as input, and the other way round.
    "input_text": _text,
    "output_text": _text,
    "text": _text,
}
_INPUT_PARTS: Final[Mapping[str, Callable[[JsonObject], Part]]] = {
    **_TEXT_PARTS,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}
