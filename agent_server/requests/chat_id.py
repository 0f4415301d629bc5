"""Which chat a request is about, by which its stream is found again.

Source: Vercel AI SDK, `useChat` of 4.3 and `DefaultChatTransport` of 5, 6 and 7, 2026-11: both post
the chat's `id`, and resume it by `?chatId=` and by `/{id}/stream`.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote

from agent_server.requests.use_chat import MAX_CHAT_ID_CHARACTERS
from streaming.errors import InvalidRequestError
from streaming.events import JsonObject

CHAT_ID_HEADER = "X-Chat-Id"
# What JavaScript's encodeURIComponent leaves alone beside letters, digits and `_.-~`.
_UNESCAPED = "!*'()"


def chat_id_of(body: JsonObject, headers: Mapping[str, str]) -> str | None:
    """The id that the body, or else the header, gives to the chat; None where neither does.

    Raises:
        InvalidRequestError: it is too long; `param` says whose it is.
    """
    given = body.get("id")
    if isinstance(given, str) and given:
        return _checked(given, "id")
    header = unquote(headers.get(CHAT_ID_HEADER.lower(), "").strip())
    return _checked(header, CHAT_ID_HEADER) if header else None


def chat_id_header(chat_id: str) -> tuple[bytes, bytes]:
    """The header that tells a chat's id, as it stands in a path."""
    return CHAT_ID_HEADER.lower().encode(), quote(chat_id, safe=_UNESCAPED).encode()


def _checked(chat_id: str, param: str) -> str:
    if len(chat_id) > MAX_CHAT_ID_CHARACTERS:
        raise InvalidRequestError(
            f"'{param}' must have at most {MAX_CHAT_ID_CHARACTERS} characters.", param=param
        )
    return chat_id
