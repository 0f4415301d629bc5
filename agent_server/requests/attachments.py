"""Files that a chat client attaches, as the content parts that providers take.

Source: RFC 2397 "The data URL scheme"; OpenAI API reference, "Chat", content parts `image_url`,
`input_audio` and `file`, 2026-10.
"""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from agent_server.requests.chat_messages import read_image_url
from agent_server.requests.fields import FieldError
from providers.chat_request import ImagePart, OpaquePart, Part, TextPart

_AUDIO_FORMATS: Mapping[str, str] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}


def file_part(url: str, media_type: str | None, file_name: str | None) -> Part:
    """The part that gives a model this file; the media type may be that of the data URL.

    An image may have any http(s) address; of other files the content itself must be sent, because
    the server fetches nothing that a caller names.
    """
    head, _, content = url.partition(",")
    is_data = head[:5].lower() == "data:"
    kind = (media_type or (head[5:].partition(";")[0] if is_data else "")).lower()
    if kind.startswith("image/"):
        return ImagePart(read_image_url(url))
    if not is_data:
        raise FieldError(
            "must be a data URL with the file's content; only images may be given by their address"
        )
    is_base64 = head.lower().endswith(";base64")
    if kind.startswith("text/"):
        return TextPart(_decode(content, is_base64), is_typed=False)
    if not is_base64:
        raise FieldError("must be a data URL with base64 content")
    if kind in _AUDIO_FORMATS:
        audio_format = _AUDIO_FORMATS[kind]
        return OpaquePart(
            {"type": "input_audio", "input_audio": {"data": content, "format": audio_format}}
        )
    return OpaquePart(
        {"type": "file", "file": {"filename": file_name or "attachment", "file_data": url}}
    )


def _decode(content: str, is_base64: bool) -> str:
    try:
        data = base64.b64decode(content, validate=True) if is_base64 else unquote_to_bytes(content)
        return data.decode()
    except (binascii.Error, ValueError) as exc:
        raise FieldError("must hold text in UTF-8, as base64 or percent-encoded") from exc
