"""Who calls with a run token: the owner of a run, held to what the token says.

What this module promises: a token that this server did not sign, whose time is over, or whose owner
has no living key any more, is nobody's; its bearer may chat, and no more than the token names; what
it uses is charged to a key of the owner, and no limit of any of the owner's keys is escaped: the
key with the least budget pays, and every one of them must allow the model.
"""

import math
import time
from collections.abc import Callable

from agent_server.access import LOCAL_OWNER, Caller
from agent_server.accounts.key_book import KeyBook
from agent_server.accounts.keys import ApiKey, Scope
from agent_server.gateway.call import ModelCall
from agent_server.toolbox import EXECUTE_TOOL
from streaming.errors import AuthenticationError, InvalidRequestError, PermissionDeniedError
from streaming.run_tokens import (
    MAX_DEPTH,
    ExpiredRunTokenError,
    RunClaims,
    RunTokenError,
    read_claims,
)

# What a key must have for its owner's runs to have agents: it began the run, and the agent chats.
NEEDED_SCOPES: frozenset[Scope] = frozenset({"chat", "run"})
# What it must have for its owner's schedules to begin runs.
START_SCOPES: frozenset[Scope] = frozenset({"run"})
_DAYS_OF_A_MONTH = 31


class RunCallers:
    """The bearers of run tokens of one server."""

    def __init__(
        self, key: bytes, book: KeyBook, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._book = book
        self._clock = clock

    async def find(self, token: str, refusal: str | None) -> Caller:
        """The caller with this token; `refusal` is why a local caller may execute nothing.

        Raises:
            AuthenticationError: the token is none, or its time is over, or its owner has no key.
            PermissionDeniedError: too many agents stand above one another.
            OverloadedError: the store of keys does not answer.
        """
        claims = self._claims(token)
        if not 1 <= claims.depth <= MAX_DEPTH:
            raise PermissionDeniedError(
                f"This call would stand below {claims.depth} agents, of which each was started by "
                f"the one above, and {MAX_DEPTH} are the most. Let an agent's workflow have no "
                "agent steps.",
                code="agent_depth",
            )
        keys = await self._keys(claims.owner)
        payer = min(keys, key=_tightness, default=None)
        executes = EXECUTE_TOOL in claims.tools
        scopes: frozenset[Scope] = frozenset({"chat", "run"} if executes else {"chat"})
        return Caller(
            claims.owner,
            payer.name if payer else claims.owner,
            scopes,
            refusal,
            payer,
            claims=claims,
            siblings=tuple(key for key in keys if key is not payer),
        )

    async def check_owner(self, token: str) -> None:
        """Raise unless the owner that a token names may still begin runs.

        Raises:
            AuthenticationError: the token is none, or its time is over, or its owner has no key.
            OverloadedError: the store of keys does not answer.
        """
        await self._keys(self._claims(token).owner, START_SCOPES)

    def _claims(self, token: str) -> RunClaims:
        try:
            return read_claims(token, self._key, self._clock())
        except ExpiredRunTokenError as exc:
            raise AuthenticationError(
                "The run token has expired: it was good for one call of one attempt at an agent "
                "step, and for a quarter of an hour at most.",
                code="expired_run_token",
            ) from exc
        except RunTokenError as exc:
            raise AuthenticationError(
                f"The run token is not valid: {exc}.", code="invalid_run_token"
            ) from exc

    async def _keys(self, owner: str, scopes: frozenset[Scope] = NEEDED_SCOPES) -> list[ApiKey]:
        """The keys that an owner's runs are held to; none where callers need none.

        Raises:
            AuthenticationError: callers need one, and the owner has none any more.
        """
        if not self._book.is_keyed and owner == LOCAL_OWNER:
            return []
        now = self._clock()
        keys = [
            key
            for key in await self._book.of_owner(owner)
            if key.scopes >= scopes and not key.is_expired(now)
        ]
        if not keys:
            named = "scopes chat and run" if scopes == NEEDED_SCOPES else "scope run"
            raise AuthenticationError(
                f"The run belongs to '{owner[:100]}', who has no API key with the {named} any "
                "more: it was revoked, or has expired, or was taken out of the settings.",
                code="run_owner_gone",
            )
        return keys


def hold_to_token(call: ModelCall) -> None:
    """Hold a call with a run token to what it may be, and name the run in the log.

    Raises:
        InvalidRequestError: its answer would outlive its step.
    """
    claims = call.caller.claims
    if claims is None:
        return
    if call.choice.detached:
        raise InvalidRequestError(
            "The answer to an agent step ends with the step: leave out X-Workflow-Detached.",
            code="invalid_value",
            param="X-Workflow-Detached",
        )
    call.log_fields.update(run_id=claims.run_id, step=claims.step)


def _tightness(key: ApiKey) -> tuple[float, ...]:
    """The less a key may, the smaller: its budget first, then its other limits."""
    by_day = math.inf if key.budget_per_day is None else key.budget_per_day * _DAYS_OF_A_MONTH
    limits = (key.tokens_per_minute, key.requests_per_minute, key.parallel)
    return (
        min(by_day, math.inf if key.budget_per_month is None else key.budget_per_month),
        *(math.inf if limit is None else limit for limit in limits),
    )
