"""The routes of keys behind a real server's caller, and a key from its making to its end."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from agent_server.access import Access
from agent_server.accounts.accounts import Accounts
from agent_server.accounts.keys import digest_of, parse_api_keys
from agent_server.accounts.ledger import Ledger
from agent_server.accounts.store import Store
from agent_server.answers import JsonResponse
from agent_server.error_responses import error_response
from agent_server.request_headers import headers_of
from agent_server.routes import keys
from streaming.errors import AgentServerError
from tests.databases import make_schema

ROOT_KEY, CHAT_KEY = "as-" + "r" * 40, "as-" + "c" * 40
CONFIGURED = [
    f"root=sha256:{digest_of(ROOT_KEY)};scopes=admin",
    f"chatter=sha256:{digest_of(CHAT_KEY)};scopes=chat+run+approve",
]


class Callers:
    """What the guard does: puts the caller into the request's state, or answers the error."""

    def __init__(self, app: Any, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                caller = await self._access.find(headers_of(scope), scope["client"][0])
            except AgentServerError as exc:
                await error_response(exc)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


async def our_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, AgentServerError)
    return error_response(exc)


async def who(request: Request) -> Response:
    return JsonResponse({"name": request.state.caller.name})


def client_of(
    url: str | None, configured: list[str], peer: str = "127.0.0.1"
) -> contextlib.AbstractContextManager[TestClient]:
    """A client of the routes over a store, or over none."""
    if url:
        make_schema(url)
    ledger = Ledger(Store(url)) if url else None
    accounts = Accounts(keys=parse_api_keys(configured), ledger=ledger)
    access = Access(book=accounts.book, is_loopback=True, allowed_hosts=(), cors_origins=())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await accounts.start()
        yield
        await accounts.aclose()

    app = Starlette(
        routes=[
            Route("/v1/keys", keys.list_keys, methods=["GET"]),
            Route("/v1/keys", keys.create_key, methods=["POST"]),
            Route("/v1/keys/{key_id}", keys.revoke_key, methods=["DELETE"]),
            Route("/who", who),
        ],
        middleware=[Middleware(Callers, access=access)],
        exception_handlers={AgentServerError: our_error},
        lifespan=lifespan,
    )
    app.state.services = SimpleNamespace(accounts=accounts)
    return TestClient(app, base_url="http://localhost", client=(peer, 5))


def with_key(raw_key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {raw_key}"}


def test_a_key_works_from_its_making_to_its_end(database_url: str) -> None:
    with client_of(database_url, CONFIGURED) as client:
        root = with_key(ROOT_KEY)
        fields = {"name": "alice", "scopes": ["chat"], "requests_per_minute": 5}
        made = client.post("/v1/keys", json=fields, headers=root)
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        key = made.json()
        assert client.get("/who", headers=with_key(key["key"])).json() == {"name": "alice"}
        listed = client.get("/v1/keys", headers=root).json()
        assert [one["id"] for one in listed["data"]] == [key["id"]]
        assert listed["has_more"] is False
        assert key["key"] not in str(listed)
        assert digest_of(key["key"]) not in str(listed)
        ended = client.delete(f"/v1/keys/{key['id']}", headers=root)
        assert ended.json()["status"] == "revoked"
        assert client.get("/who", headers=with_key(key["key"])).status_code == 401
        assert client.delete("/v1/keys/none", headers=root).status_code == 404


@pytest.mark.parametrize("raw_key", [CHAT_KEY, "as-wrong", None], ids=["scope", "bad", "none"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/key_1")])
def test_only_an_administrator_may(method: str, path: str, raw_key: str | None) -> None:
    with client_of(None, CONFIGURED) as client:
        headers = with_key(raw_key) if raw_key else {}
        answer = client.request(method, f"/v1/keys{path}", headers=headers)
        assert answer.status_code == (403 if raw_key == CHAT_KEY else 401)
        assert "as-wrong" not in answer.text


def test_the_first_key_is_made_on_the_machine_itself_and_closes_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    with client_of(url, [], peer="10.0.0.7") as client:
        assert client.post("/v1/keys", json={"name": "eve"}).status_code == 403
        assert client.get("/v1/keys").status_code == 403
    with client_of(url, []) as client:
        made = client.post("/v1/keys", json={"name": "root", "scopes": "admin"})
        assert made.status_code == 201
        assert client.get("/v1/keys").status_code == 401
        assert client.get("/v1/keys", headers=with_key(made.json()["key"])).status_code == 200


WRONG = [
    ({"name": "a b"}, "the name of a key is"),
    ({"name": "a", "sha256": "a" * 64}, "sha256 is no field of a new key"),
    ({"name": "a", "budget_per_day": "lots"}, "budget_per_day takes an amount"),
    ({"name": "a", "id": "key_1"}, "'id' is no field"),
]


def test_a_wrong_field_is_a_400_that_names_it(tmp_path: Path) -> None:
    root = with_key(ROOT_KEY)
    with client_of(f"sqlite:///{tmp_path}/server.db", CONFIGURED) as client:
        for body, reason in WRONG:
            answer = client.post("/v1/keys", json=body, headers=root)
            assert answer.status_code == 400
            assert reason in answer.json()["error"]["message"]
        assert client.get("/v1/keys?limit=0", headers=root).status_code == 400


def test_a_name_is_taken_once_and_a_long_list_goes_on(tmp_path: Path) -> None:
    root = with_key(ROOT_KEY)
    with client_of(f"sqlite:///{tmp_path}/server.db", CONFIGURED) as client:
        posts = [client.post("/v1/keys", json={"name": n}, headers=root) for n in "aabc"]
        assert [one.status_code for one in posts] == [201, 409, 201, 201]
        first = client.get("/v1/keys?limit=2", headers=root).json()
        assert (len(first["data"]), first["has_more"]) == (2, True)
        after = first["data"][-1]["id"]
        rest = client.get(f"/v1/keys?limit=2&after={after}", headers=root).json()
        assert (len(rest["data"]), rest["has_more"]) == (1, False)


def test_a_server_without_a_store_says_how_to_have_one() -> None:
    with client_of(None, CONFIGURED) as client:
        answer = client.get("/v1/keys", headers=with_key(ROOT_KEY))
        assert answer.status_code == 409
        assert "AGENT_SERVER_DATABASE_URL" in answer.json()["error"]["message"]
