"""The responses door: `POST /v1/responses`. Each request has one of its own.

What an answer repeats of its request, and under which id it is kept, belongs to the one call: so
the door is made for it, where the other doors are made once.

Source: OpenAI API reference, "Responses", "Create a model response", 2026-11.
"""

from dataclasses import dataclass, replace
from typing import Final

from agent_server.doors.door import Door, ReadRequest
from agent_server.stored_responses.port import ResponseCall
from agent_server.stream_formats import choose_own_format
from streaming.encoder import StreamHead
from streaming.responses_body import ResponseBody
from streaming.responses_sse import ResponsesEncoder

RESPONSES_FORMAT: Final = "responses"


@dataclass(frozen=True, slots=True)
class _Encoders:
    """Makes the encoder of one call's answer."""

    call: ResponseCall
    content_type = ResponsesEncoder.content_type
    headers = ResponsesEncoder.headers
    keep_alive = ResponsesEncoder.keep_alive

    def __call__(self, head: StreamHead) -> ResponsesEncoder:
        return ResponsesEncoder(_named(head, self.call), self.call.request.options.settings)


def responses_door(call: ResponseCall, *, may_relay: bool = True) -> Door:
    """The door of one call; `may_relay` False has every provider's answer translated."""
    return Door(
        name="responses",
        wire="responses",
        id_prefix="resp_",
        choose=lambda _path, headers, body: choose_own_format(RESPONSES_FORMAT, headers, body),
        read=lambda _body, _headers: ReadRequest(call.request.chat, call.dropped),
        formats={RESPONSES_FORMAT: _Encoders(call)},
        make_body=lambda head: ResponseBody(_named(head, call), call.request.options.settings),
        may_relay=lambda _choice, _body: may_relay,
    )


def _named(head: StreamHead, call: ResponseCall) -> StreamHead:
    """The head with the id that was told for the response."""
    return replace(head, response_id=call.head.response_id, created=call.head.created)
