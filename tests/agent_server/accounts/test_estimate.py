import base64

import pytest

from agent_server.accounts.estimate import TOKENS_PER_FILE, prompt_tokens

PICTURE = base64.b64encode(b"\x89PNG" * 100_000).decode()
WORDS = "word " * 20_000
DATA_URL = f'{{"type": "image_url", "image_url": {{"url": "data:image/png;base64,{PICTURE}"}}}}'
SOURCE = (
    f'{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{PICTURE}"}}}}'
)


@pytest.mark.parametrize(("size", "tokens"), [(0, 1), (3, 2), (3000, 1001), (90_000, 30_001)])
def test_text_is_three_bytes_a_token(size: int, tokens: int) -> None:
    assert prompt_tokens(b"x" * size) == tokens


@pytest.mark.parametrize(("part", "count"), [(DATA_URL, 1), (SOURCE, 1), (DATA_URL + SOURCE, 2)])
def test_a_picture_is_not_counted_by_its_bytes(part: str, count: int) -> None:
    body = f'{{"messages": [{{"text": "{WORDS}"}}, {part}, {{"text": "{WORDS}"}}]}}'.encode()
    text = len(WORDS) * 2 // 3
    assert text < prompt_tokens(body) - count * TOKENS_PER_FILE < text + 200


def test_text_that_speaks_of_base64_counts_as_text() -> None:
    body = f'{{"text": "what is base64?", "more": "{WORDS}"}}'.encode()
    assert prompt_tokens(body) >= 1000


def test_of_more_files_than_any_provider_takes_the_rest_is_text() -> None:
    part = f"{DATA_URL}, "
    many = prompt_tokens(f"[{part * 2500}]".encode())
    assert many - prompt_tokens(f"[{part * 2000}]".encode()) >= 500 * (len(part) // 3)
