"""How much a call may use, before it is made: from the size of its body and what it asks for.

An estimate errs on the high side for text in most languages and for code: three bytes a token.
Pictures and files within a body are counted apart, since their bytes tell nothing of their tokens.
"""

BYTES_PER_TOKEN = 3
# What a picture of common size costs at the providers that say so, or a few pages of a file.
TOKENS_PER_FILE = 1600
# A body below this size holds no file worth a look.
SMALL_BODY_BYTES = 32 * 1024
SHORTEST_FILE_BYTES = 1024
# An answer whose length the request does not bound.
ASSUMED_ANSWER_TOKENS = 4096
_MARK = b"base64"
# More of them than any provider takes files: what follows counts by its bytes.
_MOST_MARKS = 2000
# Between the mark and the bytes of a file stand at most these many strings: the names and values
# of Anthropic's `{"type": "base64", "media_type": ..., "data": ...}`.
_STRINGS_TO_DATA = 10


def prompt_tokens(body: bytes) -> int:
    """At most how many tokens the prompt of a request has; at least 1."""
    size = len(body)
    if size < SMALL_BODY_BYTES:
        return size // BYTES_PER_TOKEN + 1
    files, in_files = _files(body)
    return (size - in_files) // BYTES_PER_TOKEN + files * TOKENS_PER_FILE + 1


def _files(body: bytes) -> tuple[int, int]:
    """How many files a body holds in base64, and how many bytes they take."""
    count = taken = 0
    at = body.find(_MARK)
    for _ in range(_MOST_MARKS):
        if at < 0:
            break
        at += len(_MARK)
        for _ in range(_STRINGS_TO_DATA):
            end = body.find(b'"', at)
            if end < 0:
                return count, taken
            length, at = end - at, end + 1
            # Base64 has no blanks, and long text has.
            if length >= SHORTEST_FILE_BYTES and body.find(b" ", end - length, end) < 0:
                count += 1
                taken += length
                break
        at = body.find(_MARK, at)
    return count, taken
