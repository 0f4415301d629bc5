"""What the frames of a Responses stream tell about the response itself.

Source: OpenAI API reference, "Responses", "Streaming events", 2026-11.
"""

from typing import Final

import orjson

from agent_server.frame_log import FRAME_END
from streaming.events import JsonObject

# Inside of a text the quotes would be escaped.
_RESPONSE: Final = b'"response":'
_FIRST: Final = (b"response.created",)
_LAST: Final = (b"response.completed", b"response.incomplete", b"response.failed")


def first_response(data: bytes) -> JsonObject | None:
    """The response as the stream's first frame shows it, if that frame is here."""
    return _find(data, _FIRST)


def last_response(data: bytes) -> JsonObject | None:
    """The response as the stream's last frame shows it, if that frame is here."""
    return _find(data, _LAST)


def _find(data: bytes, names: tuple[bytes, ...]) -> JsonObject | None:
    # Nearly every chunk fails this test, which is all that it pays.
    if _RESPONSE not in data:
        return None
    for frame in data.split(FRAME_END):
        _, _, payload = frame.partition(b"data:")
        if not any(b'"%b"' % name in payload for name in names):
            continue
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            continue
        if isinstance(event, dict) and str(event.get("type")).encode() in names:
            response = event.get("response")
            return response if isinstance(response, dict) else None
    return None
