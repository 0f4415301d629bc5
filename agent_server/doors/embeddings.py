"""The embeddings door: `POST /v1/embeddings`, for providers whose upstream speaks its format.

Source: OpenAI API reference, "Embeddings", "Create embeddings", 2026-10.
"""

from typing import Final

from agent_server.doors.door import Door
from agent_server.stream_formats import StreamChoice
from streaming.chat_completion import ChatCompletionBody

EMBEDDINGS: Final = Door(
    name="embeddings",
    wire="embeddings",
    id_prefix="embd-",
    choose=lambda _path, _headers, _body: StreamChoice(None),
    read=None,
    formats={},
    make_body=ChatCompletionBody,
    may_relay=lambda _choice, _body: True,
)
