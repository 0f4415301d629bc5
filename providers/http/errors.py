"""What can go wrong between a request and the end of its answer. No text holds a URL or a key.

HttpError
├── UrlError            what is asked for is no http(s) URL
├── RequestError        a method, URL or header that no HTTP request can hold
├── ResolutionError     the host name has no address
├── RefusedError        no connection to any address of the host
├── TlsError            no trusted TLS connection
├── DisconnectedError   the connection ended before the head of an answer
├── TruncatedError      the connection ended in the middle of an answer
├── AnswerError         bytes that are not HTTP/1, or a head over its size cap
├── CodingError         a body in a coding that cannot be read
└── ClosedError         the client itself was closed
"""


class HttpError(Exception):
    """Base of what this package raises, timeouts aside."""


class UrlError(HttpError):
    """What is asked for is no http(s) URL."""


class RequestError(HttpError):
    """A method, URL or header that no HTTP request can hold."""


class ResolutionError(HttpError):
    """The host name has no address."""


class RefusedError(HttpError):
    """No connection to any address of the host."""


class TlsError(HttpError):
    """No trusted TLS connection: the certificate, its name, or what speaks is not TLS."""


class DisconnectedError(HttpError):
    """The connection ended before the head of an answer."""


class TruncatedError(HttpError):
    """The connection ended in the middle of an answer."""


class AnswerError(HttpError):
    """Bytes that are not HTTP/1, or a head over its size cap."""


class CodingError(HttpError):
    """A body in a transfer or content coding that cannot be read."""


class ClosedError(HttpError):
    """The client itself was closed."""
