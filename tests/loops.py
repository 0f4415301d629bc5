"""Tests that hold on the event loop of the standard library and on the one that the server uses."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def on_every_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The asynchronous test as two that run on a loop each; its fixtures are synchronous."""

    def run(loop_name: str, **given: Any) -> None:
        async def whole() -> None:
            await test(**given)

        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(whole())

    functools.update_wrapper(run, test)
    # pytest would look through it for the parameters.
    del run.__wrapped__  # type: ignore[attr-defined]
    signature = inspect.signature(test)
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), loop_name]
    )
    marked: Callable[..., None] = pytest.mark.parametrize("loop_name", LOOPS)(run)
    # Marks that the test already had were copied with its attributes, in their order.
    return marked
