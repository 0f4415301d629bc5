"""Values as Temporal carries them: JSON by orjson, which keeps the order of keys."""

from typing import Any

import orjson
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    EncodingPayloadConverter,
)
from typing_extensions import override


class OrjsonConverter(EncodingPayloadConverter):
    """Plain JSON values to and from `json/plain`, as the Web UI shows them."""

    @property
    @override
    def encoding(self) -> str:
        return "json/plain"

    @override
    def to_payload(self, value: Any) -> Payload:
        return Payload(metadata={"encoding": b"json/plain"}, data=orjson.dumps(value))

    @override
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return orjson.loads(payload.data)


class JsonConverter(CompositePayloadConverter):
    """None and JSON: all that our workflows and activities take and give."""

    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), OrjsonConverter())
