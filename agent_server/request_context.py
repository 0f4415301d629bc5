"""The outermost layer: an id on every request, one log line for each, and no error left unanswered.

What this module promises: every answer carries `X-Request-Id`; an `AgentServerError` becomes its
error answer; any other exception becomes a plain 500 and a logged traceback, never a shown one.
"""

import asyncio
import random
import re
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_server.error_responses import INTERNAL_ERROR, error_response, log_error, stopping
from agent_server.guard import shown_path
from agent_server.log_config import bind_request, get_logger, log_request
from agent_server.request_headers import headers_of
from streaming.errors import AgentServerError

REQUEST_ID_HEADER = "x-request-id"
_RAW_ID_HEADER = REQUEST_ID_HEADER.encode()
_USABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

log = get_logger()


class RequestContext:
    """Pure ASGI middleware: id, log line, and the answer to whatever was raised inside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and answer whatever it raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(headers_of(scope))
        scope.setdefault("state", {})["request_id"] = request_id
        bind_request(request_id)
        id_header = (_RAW_ID_HEADER, request_id.encode())
        began = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], id_header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The grace time of a server that stops is over; nothing here waits any longer.
            _uncancel()
            cut = stopping()
            log_error(cut)
            if not status:
                await error_response(cut, scope)(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("Client gone before it had its whole answer")
        except Exception as exc:
            error = _as_ours(exc)
            if status:
                log.exception("Answer broken off", error_type=type(exc).__name__)
                raise
            if error is exc:
                log_error(error)
            else:
                log.exception("Request failed", error_type=type(exc).__name__)
            await error_response(error, scope)(scope, receive, send_with_id)
        finally:
            elapsed = (time.perf_counter() - began) * 1000
            fields: dict[str, object] = {
                "method": scope["method"],
                "path": shown_path(scope["path"]),
                "status": status,
                "duration_ms": round(elapsed, 1),
                **scope["state"].get("log_fields", {}),
            }
            log_request("Request answered" if status else "Request dropped", fields)


def _uncancel() -> None:
    if (task := asyncio.current_task()) is not None:
        task.uncancel()


def _request_id(headers: Mapping[str, str]) -> str:
    given = headers.get(REQUEST_ID_HEADER)
    if given is not None and _USABLE_ID.fullmatch(given):
        return given
    return f"req_{random.getrandbits(128):032x}"


def _as_ours(exc: Exception) -> AgentServerError:
    if isinstance(exc, AgentServerError):
        return exc
    return AgentServerError(INTERNAL_ERROR, code="internal_error")
