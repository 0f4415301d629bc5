"""Answers of the Responses API as events: the stream's events one by one, and the JSON object.

Source: OpenAI API reference, "Responses", "The response object" and "Streaming events", 2026-10,
and what Azure, DeepSeek, OpenRouter and xAI do otherwise. Events and items that are not known here
are skipped. Items of tools that the upstream runs itself (`web_search_call`, `mcp_call`, ...) are
no tool calls for a caller, and are skipped as well.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import orjson

from providers.json_fields import (
    MalformedError,
    index_field,
    list_field,
    object_field,
    text_field,
)
from providers.rejection import Rejection, find_rejection, rejection_to_error
from providers.responses.items import FunctionCallItem, Item, MessageItem, ReasoningItem
from streaming.errors import AgentServerError, UpstreamConnectionError, UpstreamProtocolError
from streaming.events import (
    Event,
    Finished,
    FinishReason,
    JsonObject,
    JsonValue,
    ReasoningBlock,
    ReasoningEnded,
    Started,
    Usage,
)

END_OF_STREAM: Final = b"[DONE]"


def response_to_events(body: bytes, provider: str) -> Sequence[Event]:
    """The events of a whole response, as an answer without a stream holds it.

    Raises:
        UpstreamError: the body is no finished response, or tells of an error.
        CallerError: the body tells of an error in the request.
    """
    reader = AnswerReader(provider)
    response = reader.parse(body)
    status = "failed" if find_rejection(response) else response.get("status", "completed")
    events = reader.read_event({"type": f"response.{status}", "response": response})
    reader.close()
    return events


class AnswerReader:
    """Reads one stream: give it the data of each SSE frame in their order, then `close()` it.

    `provider` names the upstream in errors.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._begun: set[int] = set()
        self._open: dict[int, Item] = {}
        self._thought: ReasoningBlock | None = None
        self._tool_count = 0
        self._is_started = False
        self._is_finished = False

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete."""
        return self._is_finished

    def read(self, data: bytes) -> Sequence[Event]:
        """The events of one frame, given its data.

        Raises:
            UpstreamError: the frame is not what the format says, or tells of an error.
            CallerError: the frame tells of an error in the request.
        """
        if data == END_OF_STREAM:
            return ()
        return self.read_event(self.parse(data))

    def read_event(self, event: JsonObject) -> Sequence[Event]:
        """The events of one parsed frame; raises what `read` raises."""
        kind = event.get("type")
        try:
            if not isinstance(kind, str):
                return self._report_untyped(event)
            handle = _HANDLERS.get(kind)
            return () if handle is None else handle(self, event)
        except MalformedError as exc:
            raise self._malformed(exc) from exc

    def parse(self, data: bytes) -> JsonObject:
        """The JSON object that `data` holds; raises `UpstreamProtocolError`."""
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise self._malformed(MalformedError("JSON text")) from exc
        if not isinstance(value, dict):
            raise self._malformed(MalformedError("JSON object"))
        return value

    def close(self) -> None:
        """Say that the stream has ended.

        Raises:
            UpstreamProtocolError: it was no stream of this format.
            UpstreamConnectionError: it ended before the answer was complete.
        """
        if not self._is_started:
            raise UpstreamProtocolError(
                f"{self._provider} answered without a response; check its base URL",
                provider=self._provider,
            )
        if not self._is_finished:
            raise UpstreamConnectionError(
                f"{self._provider} ended its answer before it was complete",
                provider=self._provider,
            )

    def _start(self, event: JsonObject) -> Sequence[Event]:
        if self._is_started:
            return ()
        response = object_field(event, "response")
        self._is_started = True
        return (Started(text_field(response, "id"), text_field(response, "model")),)

    def _begin_item(self, event: JsonObject) -> Sequence[Event]:
        if not self._is_started:
            raise MalformedError("response.created before its content")
        index = index_field(event, "output_index")
        if index in self._begun:
            raise MalformedError("output_index")
        item = self._new_item(object_field(event, "item"))
        self._begun.add(index)
        self._open[index] = item
        return (*self._end_thought(keep=type(item) is not Item), *item.begin())

    def _new_item(self, data: JsonObject) -> Item:
        match data.get("type"):
            case "message":
                return MessageItem()
            case "reasoning":
                return ReasoningItem()
            case "function_call":
                self._tool_count += 1
                return FunctionCallItem(self._tool_count - 1, data)
            case _:
                return Item()

    def _add_text(self, event: JsonObject) -> Sequence[Event]:
        return self._item(event).add_text(text_field(event, "delta"))

    def _add_refusal(self, event: JsonObject) -> Sequence[Event]:
        return self._item(event).add_refusal(text_field(event, "delta"))

    def _add_arguments(self, event: JsonObject) -> Sequence[Event]:
        return self._item(event).add_arguments(text_field(event, "delta"))

    def _add_summary(self, event: JsonObject) -> Sequence[Event]:
        part = event.get("summary_index")
        return self._item(event).add_reasoning(text_field(event, "delta"), "summary", part)

    def _add_thinking(self, event: JsonObject) -> Sequence[Event]:
        part = event.get("content_index")
        return self._item(event).add_reasoning(text_field(event, "delta"), "content", part)

    def _item(self, event: JsonObject) -> Item:
        item = self._open.get(index_field(event, "output_index"))
        if item is None:
            raise MalformedError("response.output_item.added before its content")
        return item

    def _end_item(self, event: JsonObject) -> Sequence[Event]:
        index = index_field(event, "output_index")
        # An item may come whole, in this event alone.
        events = [] if index in self._begun else [*self._begin_item(event)]
        item = self._open.pop(index, None)
        if item is None:
            raise MalformedError("output_index")
        if not isinstance(item, ReasoningItem):
            return [*events, *item.end(object_field(event, "item"))]
        events += self._end_thought(keep=True)
        events += item.end(object_field(event, "item"))
        self._thought = item.block
        return events

    def _end_thought(self, *, keep: bool) -> Sequence[Event]:
        """The end of the last thought, without its item if that shall not go back.

        The API refuses a reasoning item without the item that followed it, so one that led to a
        tool of the upstream's own cannot go back: that tool's item has no place in a conversation.
        """
        block, self._thought = self._thought, None
        if block is not None and not keep:
            block = ReasoningBlock(block.text)
        return () if block in (None, ReasoningBlock("")) else (ReasoningEnded(block),)

    def _complete(self, event: JsonObject) -> Sequence[Event]:
        response = object_field(event, "response")
        events = [*self._start(event), *self._whole_items(response)]
        if self._open:
            raise MalformedError("response.output_item.done before its end")
        return self._finish(events, "tool_calls" if self._tool_count else "stop", response)

    def _break_off(self, event: JsonObject) -> Sequence[Event]:
        response = object_field(event, "response")
        events = [*self._start(event), *self._whole_items(response)]
        for item in self._open.values():
            events += item.break_off()
            if isinstance(item, ReasoningItem):
                events += self._end_thought(keep=True)
                self._thought = item.block
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return self._finish(events, _INCOMPLETE_REASONS.get(str(reason), "length"), response)

    def _whole_items(self, response: JsonObject) -> list[Event]:
        """The events of an output of which nothing was streamed."""
        if self._begun:
            return []
        return [
            event
            for index, item in enumerate(list_field(response, "output"))
            for event in self._end_item({"output_index": index, "item": item})
        ]

    def _finish(
        self, events: list[Event], reason: FinishReason, response: JsonObject
    ) -> Sequence[Event]:
        self._is_finished = True
        usage = response.get("usage")
        return [
            *events,
            *self._end_thought(keep=True),
            Finished(reason, usage=usage_from_json(usage) if isinstance(usage, dict) else None),
        ]

    def _fail(self, event: JsonObject) -> Sequence[Event]:
        raise self._error(find_rejection(event.get("response")) or Rejection("the response failed"))

    def _report(self, event: JsonObject) -> Sequence[Event]:
        # The fields of the error stand in the event itself, or in an object of their own.
        raise self._error(find_rejection(event) or find_rejection({"error": event}) or Rejection())

    def _report_untyped(self, event: JsonObject) -> Sequence[Event]:
        rejection = find_rejection(event)
        if rejection is None:
            raise MalformedError("type")
        raise self._error(rejection)

    def _error(self, rejection: Rejection) -> AgentServerError:
        status = rejection.status or _STATUSES.get(rejection.code)
        return rejection_to_error(rejection, provider=self._provider, status=status)

    def _malformed(self, error: MalformedError) -> UpstreamProtocolError:
        return UpstreamProtocolError(
            f"{self._provider} sent an answer without a proper {error}", provider=self._provider
        )


def usage_from_json(data: JsonObject) -> Usage:
    """The tokens of a response's `usage` object; its input includes the cached ones."""
    prompt = _count(data, "input_tokens")
    completion = _count(data, "output_tokens")
    input_details = data.get("input_tokens_details")
    output_details = data.get("output_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=_count(data, "total_tokens") or prompt + completion,
        cached_tokens=_count(input_details, "cached_tokens"),
        cache_creation_tokens=_count(input_details, "cache_write_tokens"),
        reasoning_tokens=_count(output_details, "reasoning_tokens"),
    )


def _count(data: JsonValue, name: str) -> int:
    value = data.get(name) if isinstance(data, dict) else None
    return int(value) if isinstance(value, int | float) else 0


_HANDLERS: Mapping[str, Callable[[AnswerReader, JsonObject], Sequence[Event]]] = MappingProxyType(
    {
        "response.created": AnswerReader._start,
        "response.queued": AnswerReader._start,
        "response.in_progress": AnswerReader._start,
        "response.output_item.added": AnswerReader._begin_item,
        "response.output_item.done": AnswerReader._end_item,
        "response.output_text.delta": AnswerReader._add_text,
        "response.refusal.delta": AnswerReader._add_refusal,
        "response.function_call_arguments.delta": AnswerReader._add_arguments,
        "response.reasoning_summary_text.delta": AnswerReader._add_summary,
        "response.reasoning_text.delta": AnswerReader._add_thinking,
        "response.completed": AnswerReader._complete,
        "response.incomplete": AnswerReader._break_off,
        "response.failed": AnswerReader._fail,
        "response.cancelled": AnswerReader._fail,
        "error": AnswerReader._report,
    }
)
_INCOMPLETE_REASONS: Mapping[str, FinishReason] = MappingProxyType(
    {
        "max_output_tokens": "length",
        "max_messages": "length",
        "content_filter": "content_filter",
        "steered": "stop",
    }
)
# What the codes of a failed response stand for, where our common table does not know them.
_STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "vector_store_timeout": 504,
        **dict.fromkeys(
            (
                "invalid_prompt",
                "data_residency_mismatch",
                "bio_policy",
                "misalignment_policy_violation",
                "invalid_image",
                "invalid_image_format",
                "invalid_base64_image",
                "invalid_image_url",
                "image_too_large",
                "image_too_small",
                "image_parse_error",
                "image_content_policy_violation",
                "invalid_image_mode",
                "image_file_too_large",
                "unsupported_image_media_type",
                "empty_image_file",
                "failed_to_download_image",
                "image_file_not_found",
            ),
            400,
        ),
    }
)
