"""The door that counts: `POST /v1/messages/count_tokens`, for upstreams that count themselves.

Source: Anthropic API documentation, "Count tokens in a Message", 2026-10.
"""

from typing import Final

from agent_server.doors.door import Door
from agent_server.stream_formats import StreamChoice
from streaming.messages_body import MessageBody

COUNT_TOKENS: Final = Door(
    name="count_tokens",
    wire="count_tokens",
    id_prefix="",
    choose=lambda _path, _headers, _body: StreamChoice(None),
    read=None,
    formats={},
    make_body=MessageBody,
    may_relay=lambda _choice, _body: True,
)
