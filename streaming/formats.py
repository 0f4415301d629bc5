"""The stream formats by their exact names."""

from collections.abc import Mapping
from types import MappingProxyType

from streaming.encoder import EncoderClass
from streaming.openai_sse import OpenAISSEEncoder, SSEInlineEncoder
from streaming.ui_v1 import UIV1Encoder
from streaming.vercel_data import DataV1Encoder, VercelEncoder

FORMATS: Mapping[str, EncoderClass] = MappingProxyType(
    {
        "openai-sse": OpenAISSEEncoder,
        "sse-inline": SSEInlineEncoder,
        "vercel": VercelEncoder,
        "data-v1": DataV1Encoder,
        "ui-v1": UIV1Encoder,
    }
)
