"""`POST /v1/messages/count_tokens`: the upstream's own count, or an estimate where it has none.

An estimate says so in the header `X-Token-Count: estimated`; it asks no upstream and costs nothing.
"""

from typing import Final

import orjson
from starlette.types import Message, Receive, Scope, Send

from agent_server.answers import send_body
from agent_server.doors.count_tokens import COUNT_TOKENS
from agent_server.gateway.names import Target
from agent_server.model_calls import ModelCalls
from agent_server.requests.model_name import model_name
from agent_server.routes.model_call import ModelEndpoint, read_json_body
from agent_server.token_estimate import estimate_tokens

_ESTIMATED: Final = (
    (b"content-type", b"application/json"),
    (b"x-token-count", b"estimated"),
)


class CountTokensEndpoint:
    """The endpoint, which relays where every route of the model counts."""

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls
        self._relayed = ModelEndpoint(COUNT_TOKENS, calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises what the names and the upstream raise."""
        scope["state"]["caller"].require("chat")
        raw, body = await read_json_body(receive)
        if self._is_counted(self._calls.gateway.names.resolve(model_name(body))):
            await self._relayed(scope, _again(raw, receive), send)
            return
        estimate = {"input_tokens": estimate_tokens(body)}
        await send_body(send, orjson.dumps(estimate), _ESTIMATED)

    def _is_counted(self, target: Target) -> bool:
        if target.is_agent:
            return False
        pool = self._calls.gateway.providers
        for route in target.plan.routes:
            provider = pool.get(route.provider, route.budgets)
            relays_for = getattr(provider, "relays_for", None)
            if relays_for is None or COUNT_TOKENS.wire not in relays_for(route.model):
                return False
        return True


def _again(raw: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more, then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
