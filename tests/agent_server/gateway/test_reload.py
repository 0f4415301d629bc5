import asyncio
import gc
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent_server.gateway.breakers import RouteBook
from agent_server.gateway.config_file import GatewayFile, Surroundings, load_gateway_file
from agent_server.gateway.reload import Watcher
from agent_server.gateway.routes import RoutePlan

AROUND = Surroundings(environment={}, usable=("openai",), rows=("openai", "custom"))
TEXT = "models:\n  {name}:\n    routes: [{{provider: openai, model: {model}}}]\n"


class Server:
    """What is in force, as a server that reloads has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("first")
        self.changed = asyncio.Event()
        self.book = RouteBook()
        file = load_gateway_file(path, AROUND)
        self.file = file
        self.apply(file)
        self.watcher = Watcher(file, load=self.load, apply=self.apply, poll_seconds=0.005)

    def write(self, name: str, model: str = "m") -> None:
        new = self.path.with_suffix(".new")
        new.write_text(TEXT.format(name=name, model=model))
        new.replace(self.path)

    def load(self) -> GatewayFile:
        return load_gateway_file(self.path, AROUND)

    def apply(self, file: GatewayFile) -> None:
        self.file = file
        routes = [route for plan in file.plans.values() for route in plan.all_routes()]
        self.book.configure(routes, file.breaker)
        self.changed.set()

    @property
    def names(self) -> list[str]:
        return list(self.file.plans)

    async def look(self) -> None:
        """Two looks: one that sees a change, and one that finds it at rest."""
        await self.watcher.look()
        await self.watcher.look()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "gateway.yaml")


async def test_a_changed_file_is_in_force_by_itself(server: Server) -> None:
    server.changed.clear()
    async with server.watcher.watching():
        server.write("second")
        await asyncio.wait_for(server.changed.wait(), 2)
    assert server.names == ["second"]
    assert server.watcher.status() == {"status": "current", "reloads": 1}


async def test_a_file_that_is_being_written_is_left_alone_until_it_rests(server: Server) -> None:
    server.path.write_text(TEXT.format(name="half", model="m"))
    await server.watcher.look()
    server.path.write_text(TEXT.format(name="whole", model="mm"))
    await server.watcher.look()
    assert server.names == ["first"]
    await server.watcher.look()
    assert server.names == ["whole"]


async def test_an_unchanged_file_is_not_read_again(server: Server) -> None:
    for _ in range(5):
        await server.watcher.look()
    assert server.watcher.reloads == 0


async def test_a_bad_file_leaves_the_old_one_and_is_told_once(server: Server) -> None:
    with capture_logs() as logs:
        for text in ("models: {x: 1}\n", "models: {x: 1}\n\n"):
            server.path.write_text(text)
            await server.look()
            await server.look()
    status = server.watcher.status() or {}
    assert server.names == ["first"]
    assert status["status"] == "stale"
    assert str(status["error"]).startswith("gateway.yaml, line 1: models.x:")
    assert str(server.path.parent) not in str(status)
    assert [line["log_level"] for line in logs] == ["error"]
    server.write("mended")
    await server.look()
    assert (server.names, server.watcher.status()) == (
        ["mended"],
        {"status": "current", "reloads": 1},
    )


async def test_a_file_that_is_gone_leaves_the_old_one(server: Server) -> None:
    server.path.unlink()
    await server.look()
    assert server.names == ["first"]
    assert "No such file" in str(server.watcher.status())


async def test_a_server_without_a_file_follows_none() -> None:
    watcher = Watcher(GatewayFile(), load=GatewayFile, apply=lambda _: None)
    async with watcher.watching():
        assert watcher.status() is None


async def test_a_file_that_cannot_be_put_in_force_is_as_bad(server: Server) -> None:
    def refuse(file: GatewayFile) -> None:
        raise ValueError("no such provider row")

    watcher = Watcher(server.file, load=server.load, apply=refuse)
    server.write("second")
    await watcher.look()
    await watcher.look()
    assert "no such provider row" in str(watcher.status())


async def test_a_changed_key_file_is_a_change(tmp_path: Path) -> None:
    path, key = tmp_path / "gateway.yaml", tmp_path / "lab.key"
    key.write_text("one")
    path.write_text("providers:\n  lab: {base_url: http://h, api_key_file: lab.key}\n")
    loaded = [load_gateway_file(path, AROUND)]
    watcher = Watcher(loaded[0], load=lambda: load_gateway_file(path, AROUND), apply=loaded.append)
    key.write_text("two")
    await watcher.look()
    await watcher.look()
    assert [file.providers["lab"].api_key for file in loaded] == ["one", "two"]


async def test_a_hangup_reads_the_file_at_once(server: Server) -> None:
    server.watcher._poll_seconds = 60
    server.changed.clear()
    async with server.watcher.watching():
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(server.changed.wait(), 5)
    assert server.watcher.reloads == 1


async def test_an_answer_keeps_its_plan_and_unchanged_routes_their_health(server: Server) -> None:
    plan: RoutePlan = server.file.plans["first"]
    health = server.book.of(plan.routes[0])
    health.admit(None)
    server.write("second")
    await server.look()
    (route,) = server.file.plans["second"].routes
    assert server.book.of(route) is health
    assert plan.routes[0].model == "m"
    server.write("second", model="other")
    await server.look()
    assert server.book.states() == {"openai/other": "closed"}


async def test_reloads_leave_nothing_behind(server: Server) -> None:
    def objects() -> Counter[str]:
        gc.collect()
        kinds = (type(thing) for thing in gc.get_objects())
        return Counter(kind.__name__ for kind in kinds if "agent_server" in str(kind.__module__))

    async def reload(times: int) -> None:
        for number in range(times):
            server.write(f"name-{number % 7}", model=f"model-{number}")
            await server.watcher.look(is_poked=True)

    await reload(5)
    before, tasks = objects(), len(asyncio.all_tasks())
    await reload(200)
    assert server.watcher.reloads == 205
    assert (objects(), len(asyncio.all_tasks())) == (before, tasks)
