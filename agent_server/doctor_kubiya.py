"""The check of Kubiya's API: whether it takes the key and has runners ("Check runner ...")."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson

from agent_server.doctor import Finding
from agent_server.settings import Settings, variable_of

ANSWER_SECONDS = 10.0
MAX_LISTING_BYTES = 4 * 1024 * 1024
KEY_REFUSED = frozenset({401, 403})


def check_kubiya(settings: Settings) -> Iterator[Finding]:
    """Where new runs go to Kubiya: whether they could."""
    if settings.engine != "kubiya" or settings.kubiya_api_key is None:
        return
    title = f"Kubiya at {settings.kubiya_base_url}"
    try:
        status, listing = _runners(settings, settings.kubiya_api_key.get_secret_value())
    except (OSError, http.client.HTTPException) as exc:
        mend = f"check the network, or correct {variable_of('kubiya_base_url')}"
        yield Finding(title, "broken", f"does not answer: {exc}", mend)
        return
    if status in KEY_REFUSED:
        mend = f"correct {variable_of('kubiya_api_key')}"
        yield Finding(title, "broken", f"refuses the key (HTTP {status})", mend)
    elif status != http.client.OK:
        mend = f"correct {variable_of('kubiya_base_url')}"
        yield Finding(title, "broken", f"lists no runners (HTTP {status})", mend)
    else:
        yield _finding(title, listing)


def _finding(title: str, listing: bytes) -> Finding:
    try:
        found = orjson.loads(listing)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, (dict, list)):
        mend = f"correct {variable_of('kubiya_base_url')}"
        return Finding(title, "broken", "answers, but not with runners", mend)
    if not found:
        return Finding(title, "broken", "has no runner", "add a runner there")
    return Finding(title, "ok", f"takes the key, {len(found)} runners")


def _runners(settings: Settings, key: str) -> tuple[int, bytes]:
    parts = urlsplit(settings.kubiya_base_url)
    is_secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=ANSWER_SECONDS)
    path = f"{parts.path.rstrip('/').removesuffix('/api/v1')}/api/v3/runners"
    headers = {"Accept": "application/json", "Authorization": f"UserKey {key}"}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(MAX_LISTING_BYTES)
    finally:
        connection.close()
