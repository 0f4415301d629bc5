"""About how many tokens a model read and said, where nobody has counted them yet, or ever will."""

from typing import Final

from agent_server.token_estimate import estimate_text
from providers.chat_request import ChatRequest, Message
from streaming.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from streaming.json_bytes import dump

_TOKENS_OF_A_MESSAGE: Final = 4


def prompt_tokens(request: ChatRequest) -> float:
    """About how many tokens the prompt of a request has."""
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    shape = [*tools, *filter(None, [request.response_format])]
    shown = dump(shape).decode() if shape else ""
    return estimate_text(shown) + sum(map(_message_tokens, request.messages))


def said_tokens(event: Event) -> float:
    """About how many tokens the model needed to say this."""
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text) | RefusalDelta(text=text):
            return estimate_text(text)
        case ToolCallDelta(arguments=text) | ToolCallStarted(name=text):
            return estimate_text(text)
        case _:
            return 0.0


def _message_tokens(message: Message) -> float:
    texts = [message.text, message.refusal or ""]
    texts += [text for call in message.tool_calls for text in (call.name, call.arguments)]
    texts += [block.text for block in message.reasoning]
    return _TOKENS_OF_A_MESSAGE + estimate_text(" ".join(texts))
