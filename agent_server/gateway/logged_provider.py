"""A provider whose every call is one log line: how long it took, its tokens, how it ended."""

import contextlib
import time
from collections.abc import AsyncGenerator

from agent_server.log_config import get_logger
from providers.base import ModelInfo, Provider
from providers.chat_request import ChatRequest
from streaming.errors import AgentServerError
from streaming.events import Event, Finished, Usage

log = get_logger()


class LoggedProvider:
    """The provider that it is given, and a line for each of its calls."""

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self._provider = provider

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The provider's events as they are."""
        began, usage, outcome = time.perf_counter(), Usage(), "abandoned"
        try:
            async with contextlib.aclosing(self._provider.chat(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        outcome, usage = event.reason, event.usage or usage
                    yield event
        except AgentServerError as exc:
            outcome = type(exc).__name__
            raise
        finally:
            log.info(
                "Provider called",
                provider=self.name,
                model=request.model,
                outcome=outcome,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                duration_ms=round((time.perf_counter() - began) * 1000, 1),
            )

    async def models(self) -> list[ModelInfo]:
        """The provider's models."""
        return await self._provider.models()

    async def aclose(self) -> None:
        """Release what the provider holds."""
        await self._provider.aclose()
