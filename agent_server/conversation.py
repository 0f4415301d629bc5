"""A conversation with a server through the official `openai` client: its text and its steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from openai import APIError, OpenAI
from openai.types.chat import ChatCompletionMessageParam

AGENT_MODEL = "kubiya-workflow-agent"
# A workflow may be silent for long, but the server's keep-alives are not seen by this client.
ANSWER_SECONDS = 3600.0


class ConversationError(Exception):
    """The server failed to answer, or the answer broke off."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer; `finish_reason` is None if the server never gave one."""

    text: str
    finish_reason: str | None


class Conversation:
    """Keeps the messages of both sides; events of workflows go to `on_event` while they happen."""

    def __init__(self, url: str, key: str | None, model: str = AGENT_MODEL) -> None:
        self._client = OpenAI(
            base_url=f"{url.rstrip('/')}/v1",
            api_key=key or "not-needed",
            max_retries=0,
            timeout=ANSWER_SECONDS,
            # The steps are shown from their events, so their text need not be in the answer.
            default_headers={"X-Workflow-Progress": "none"},
        )
        self._model = model
        self._messages: list[ChatCompletionMessageParam] = []

    def ask(
        self,
        text: str,
        on_event: Callable[[Mapping[str, object]], None],
        on_text: Callable[[str], None] = lambda _: None,
    ) -> Reply:
        """Send a message and take the answer as it comes.

        Raises:
            ConversationError: an error status, an error within the stream, or no connection.
        """
        messages: list[ChatCompletionMessageParam] = [
            *self._messages,
            {"role": "user", "content": text},
        ]
        parts: list[str] = []
        finish_reason = None
        try:
            stream = self._client.chat.completions.create(
                model=self._model, messages=messages, stream=True
            )
            with stream:
                for chunk in stream:
                    event = (chunk.model_extra or {}).get("workflow_event")
                    if isinstance(event, dict):
                        on_event(event)
                    for choice in chunk.choices:
                        if choice.delta.content:
                            parts.append(choice.delta.content)
                            on_text(choice.delta.content)
                        finish_reason = choice.finish_reason or finish_reason
        except APIError as exc:
            raise ConversationError(_reason(exc)) from exc
        answer = "".join(parts)
        self._messages = [*messages, {"role": "assistant", "content": answer}]
        return Reply(answer, finish_reason)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _reason(error: APIError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return str(message) if message else f"{error.message}{cause}"
