"""The stream formats by their exact names."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from streaming.encoder import Encoder, StreamHead
from streaming.openai_sse import OpenAISSEEncoder, SSEInlineEncoder
from streaming.ui_v1 import UIV1Encoder
from streaming.vercel_data import DataV1Encoder, VercelEncoder

FORMATS: Mapping[str, Callable[[StreamHead], Encoder]] = MappingProxyType(
    {
        "openai-sse": OpenAISSEEncoder,
        "sse-inline": SSEInlineEncoder,
        "vercel": VercelEncoder,
        "data-v1": DataV1Encoder,
        "ui-v1": UIV1Encoder,
    }
)
