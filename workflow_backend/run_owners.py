"""Whether the owner of a schedule may still begin runs: asked of the server that has the keys.

A schedule outlives the key that registered it. Guarantee: while that server says that the owner has
no key any more, or does not answer, no scheduled run begins; the token by which it is asked is good
for this question of this owner, and for half a minute.
"""

import asyncio
import http.client
import time
from typing import Final
from urllib.parse import urlsplit

import orjson

from streaming.run_tokens import RunClaims, expiry, sign_claims
from workflow_backend.schedules.base import FiringRefusedError
from workflow_backend.steps.server_link import ServerLink

PATH: Final = "/v1/workflows/run-owner"
ANSWER_SECONDS: Final = 10.0
TOKEN_SECONDS: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 * 1024
# The server's word for an owner whose keys are gone.
GONE: Final = "run_owner_gone"


class RunOwners:
    """The owners of runs. Without a link there are no keys, and everybody is at home."""

    def __init__(self, link: ServerLink | None) -> None:
        self._link = link

    async def check(self, owner: str, run_id: str) -> None:
        """Let the run of a schedule begin.

        Raises:
            FiringRefusedError: Its owner may begin none any more, or that cannot be known now.
        """
        if self._link is None:
            return
        claims = RunClaims(owner, run_id, "", 1, 0, 0, (), expiry(time.time(), TOKEN_SECONDS))
        token = sign_claims(claims, self._link.key)
        try:
            status, body = await asyncio.to_thread(_ask, self._link.url, token)
        except (OSError, http.client.HTTPException) as error:
            message = f"the server that knows the keys does not answer: {error}"
            raise FiringRefusedError(message, is_temporary=True) from error
        if status == http.client.OK:
            return
        code, message = _told(body)
        if code == GONE:
            raise FiringRefusedError(
                f"its owner {owner!r} has no API key with the scope run any more; register it anew"
                " with a key that has it, or delete it"
            )
        raise FiringRefusedError(
            f"the server does not tell whether {owner!r} may begin runs: HTTP {status} {message}",
            is_temporary=True,
        )


def _ask(url: str, token: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        connection.request("GET", f"{parts.path.rstrip('/')}{PATH}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()


def _told(body: bytes) -> tuple[object, str]:
    """Code and message of an error, as far as the answer has them."""
    try:
        error = orjson.loads(body)["error"]
        return error["code"], str(error["message"])[:500]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None, ""
