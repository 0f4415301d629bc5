"""An HTTP/1.1 client of our own: one request, one answer, over pooled connections.

`request_head` writes, `connection` parses and buffers, `dialing` resolves and connects, `pool`
keeps what can be used again, `content_coding` unpacks. Only `providers.upstream` uses it.
"""

from providers.http.connection import Connection
from providers.http.content_coding import Decoder, decoder_for
from providers.http.errors import (
    AnswerError,
    ClosedError,
    CodingError,
    DisconnectedError,
    HttpError,
    RefusedError,
    RequestError,
    ResolutionError,
    TlsError,
    TruncatedError,
    UrlError,
)
from providers.http.headers import Headers
from providers.http.pool import Pool
from providers.http.request_head import Origin, request_head

__all__ = [
    "AnswerError",
    "ClosedError",
    "CodingError",
    "Connection",
    "Decoder",
    "DisconnectedError",
    "Headers",
    "HttpError",
    "Origin",
    "Pool",
    "RefusedError",
    "RequestError",
    "ResolutionError",
    "TlsError",
    "TruncatedError",
    "UrlError",
    "decoder_for",
    "request_head",
]
