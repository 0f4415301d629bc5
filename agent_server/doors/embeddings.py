"""The embeddings door: `POST /v1/embeddings`, for providers whose upstream speaks its format.

Source: OpenAI API reference, "Embeddings", "Create embeddings", 2026-10.
"""

from collections.abc import Mapping
from typing import Final

from agent_server.doors.door import Door
from agent_server.requests.embeddings import check_embeddings
from agent_server.stream_formats import StreamChoice
from streaming.chat_completion import ChatCompletionBody
from streaming.events import JsonObject


def _choose(_path: str, _headers: Mapping[str, str], body: JsonObject) -> StreamChoice:
    check_embeddings(body)
    return StreamChoice(None)


EMBEDDINGS: Final = Door(
    name="embeddings",
    wire="embeddings",
    id_prefix="embd-",
    choose=_choose,
    read=None,
    formats={},
    make_body=ChatCompletionBody,
    may_relay=lambda _choice, _body: True,
)
