"""`GET` and `POST /v1/keys`, `DELETE /v1/keys/{id}`: the keys of the store, for administrators."""

from starlette.requests import Request
from starlette.responses import Response

from agent_server.accounts.stored_keys import key_object
from agent_server.answers import JsonResponse
from agent_server.requests.json_body import read_json_object
from agent_server.services import caller_of, services_of
from streaming.errors import InvalidRequestError, NotFoundError

DEFAULT_LISTED = 100
MOST_LISTED = 1000


async def list_keys(request: Request) -> Response:
    """The keys in the order of their ids, revoked ones too; `after` goes on after an id."""
    _require_admin(request)
    limit = _read_limit(request.query_params.get("limit"))
    after = request.query_params.get("after", "")
    found = await services_of(request).accounts.list_keys(limit=limit + 1, after=after)
    data = [key_object(stored) for stored in found[:limit]]
    return JsonResponse({"object": "list", "data": data, "has_more": len(found) > limit})


async def create_key(request: Request) -> Response:
    """A new key; its `key` is shown here alone and kept nowhere."""
    _require_admin(request)
    fields = read_json_object(await request.body())
    try:
        stored, raw_key = await services_of(request).accounts.create_key(fields)
    except ValueError as exc:
        raise InvalidRequestError(f"{exc}.", code="invalid_key") from exc
    return JsonResponse({**key_object(stored), "key": raw_key}, 201, {"cache-control": "no-store"})


async def revoke_key(request: Request) -> Response:
    """Ends a key, by id or name; other servers of the same store follow within half a minute."""
    _require_admin(request)
    key_id = request.path_params["key_id"]
    stored = await services_of(request).accounts.revoke_key(key_id)
    if stored is None:
        raise NotFoundError(
            f"No key '{key_id[:100]}' is in the store. GET /v1/keys lists them; keys of the "
            "configuration end where they are written.",
            param="key_id",
        )
    return JsonResponse(key_object(stored))


def _require_admin(request: Request) -> None:
    caller = caller_of(request)
    caller.require("admin")
    if caller.key is None:
        # Where no key is needed, the ones on this machine alone may make the first.
        caller.require_execution()


def _read_limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LISTED
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_LISTED:
        raise InvalidRequestError(
            f"'limit' must be a whole number from 1 to {MOST_LISTED}.", param="limit"
        )
    return int(text)
