"""The child server of the tests: MCP by hand over stdio, well-behaved or not, as its arguments say.

It is a plain script of the standard library, so that it starts in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MODERN = "2026-07-28"


def write(message: dict[str, Any], *, id_last: bool = False) -> None:
    envelope = {**message, "jsonrpc": "2.0"} if id_last else {"jsonrpc": "2.0", **message}
    if id_last and "id" in envelope:
        envelope["id"] = envelope.pop("id")
    write_line(json.dumps(envelope))


def write_line(line: str) -> None:
    # Not through sys.stdout, which a signal handler must not enter a second time.
    rest = (line + "\n").encode()
    while rest:
        rest = rest[os.write(1, rest) :]


def text_result(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


class HandmadeServer:
    """Answers one message after the other; a tool that gives None is never answered."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.is_modern = options.era == "modern"
        self.is_deaf = options.ignore_unknown
        self.handshake: dict[str, Any] = json.loads(options.handshake)
        self.cancelled: list[Any] = []
        self.held: list[Any] = []
        self.request: dict[str, Any] = {}
        self.tools: list[Any] = json.loads(options.tools) if options.tools else self.plain_tools()

    def plain_tools(self) -> list[Any]:
        names = [name.removeprefix("tool_") for name in dir(self) if name.startswith("tool_")]
        schema = {"type": "object", "properties": {}}
        return [{"name": name, "description": name, "inputSchema": schema} for name in names]

    def serve(self) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: self.tool_release())
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("method") == "notifications/cancelled":
                self.cancelled.append(message["params"]["requestId"])
            elif "id" in message:
                self.answer(message)

    def answer(self, message: dict[str, Any]) -> None:
        self.request = message
        methods: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "initialize": self.initialize,
            "tools/list": lambda _: {"tools": self.tools},
            "tools/call": self.call,
        }
        if self.is_modern:
            methods["server/discover"] = self.discover
        method = methods.get(message["method"])
        if method is None and self.is_deaf:
            return
        if method is None:
            error = {"code": -32601, "message": "Method not found"}
            write({"id": message["id"], "error": error})
            return
        result = method(message.get("params", {}))
        if result is not None:
            if self.is_modern and message["method"] != "tools/call":
                result |= {"ttlMs": 0, "cacheScope": "private"}
            self.respond(message["id"], result)

    def respond(self, request: Any, result: dict[str, Any], *, id_last: bool = False) -> None:
        if self.is_modern:
            result = {"resultType": "complete", **result}
        write({"id": request, "result": result}, id_last=id_last)

    def initialize(self, params: dict[str, Any]) -> dict[str, Any] | None:
        if self.handshake and "error" in self.handshake:
            write({"id": self.request["id"], **self.handshake})
            return None
        return self.handshake or {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "child", "version": "1"},
        }

    def discover(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}

    def call(self, params: dict[str, Any]) -> dict[str, Any] | None:
        tool = getattr(self, "tool_" + params["name"], None)
        if tool is None:
            return {**text_result(f"Unknown tool: {params['name']}"), "isError": True}
        result: dict[str, Any] | None = tool(params.get("arguments") or {}, params.get("_meta", {}))
        return result

    def tool_echo(self, arguments: dict[str, Any], _: Any) -> dict[str, Any]:
        return text_result(str(arguments["text"]))

    def tool_pid(self, *_: Any) -> dict[str, Any]:
        return text_result(str(os.getpid()))

    def tool_meta(self, _: Any, meta: dict[str, Any]) -> dict[str, Any]:
        return text_result(json.dumps(meta))

    def tool_environment(self, *_: Any) -> dict[str, Any]:
        return text_result(json.dumps({"env": dict(os.environ), "cwd": str(Path.cwd())}))

    def tool_raw(self, arguments: dict[str, Any], _: Any) -> dict[str, Any]:
        result: dict[str, Any] = arguments["result"]
        return result

    def tool_error(self, arguments: dict[str, Any], _: Any) -> None:
        write({"id": self.request["id"], "error": arguments})

    def tool_hold(self, _: Any, meta: dict[str, Any]) -> None:
        self.held.append(self.request["id"])
        if "progressToken" in meta:
            params = {"progressToken": meta["progressToken"], "progress": 1, "message": "held"}
            write({"method": "notifications/progress", "params": params})

    def tool_release(self, *_: Any) -> dict[str, Any]:
        for request in self.held:
            if request not in self.cancelled:
                self.respond(request, text_result("released"))
        self.held.clear()
        return text_result("done")

    def tool_counts(self, *_: Any) -> dict[str, Any]:
        return text_result(json.dumps([len(self.held), len(self.cancelled)]))

    def tool_progress(self, arguments: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        for number, message in enumerate(arguments["messages"]):
            params = {"progressToken": meta["progressToken"], "progress": number + 1}
            if message is not None:
                params["message"] = message
            write({"method": "notifications/progress", "params": params})
        if arguments.get("exit"):
            self.respond(self.request["id"], text_result("done"))
            os._exit(0)
        return text_result("done")

    def tool_big(self, arguments: dict[str, Any], _: Any) -> None:
        result = text_result("x" * arguments["bytes"])
        self.respond(self.request["id"], result, id_last=arguments["id_last"])

    def tool_garbage(self, arguments: dict[str, Any], _: Any) -> dict[str, Any]:
        for _number in range(arguments["lines"]):
            write_line("the password is swordfish")
        return text_result("done")

    def tool_stderr(self, arguments: dict[str, Any], _: Any) -> dict[str, Any]:
        sys.stderr.write(arguments["line"] * arguments["times"])
        sys.stderr.flush()
        return text_result("done")

    def tool_exit(self, arguments: dict[str, Any], _: Any) -> None:
        sys.stderr.write(arguments.get("words", "") + "\n")
        sys.stderr.flush()
        os._exit(arguments["code"])

    def tool_close_stdout(self, *_: Any) -> None:
        os.close(1)

    def tool_answer_and_exit(self, arguments: dict[str, Any], _: Any) -> None:
        self.respond(self.request["id"], text_result("x" * arguments["bytes"]))
        os._exit(0)

    def tool_spawn(self, *_: Any) -> dict[str, Any]:
        # It holds the pipes and ignores SIGTERM, as a careless daemon does.
        code = "import signal; signal.signal(15, signal.SIG_IGN); print(); signal.pause()"
        command = [sys.executable, "-I", "-S", "-u", "-c", code]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        return text_result(str(child.pid))

    def tool_change_tools(self, arguments: dict[str, Any], _: Any) -> dict[str, Any]:
        self.tools = arguments["tools"]
        if not arguments.get("silently"):
            write({"method": "notifications/tools/list_changed"})
        return text_result("done")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--era", default="legacy")
    parser.add_argument("--tools")
    parser.add_argument("--handshake", default="{}", help="what to answer instead")
    parser.add_argument("--exit-at-start", type=int)
    parser.add_argument("--crash-once", help="a file: crash at start if it does not exist yet")
    parser.add_argument("--words", default="")
    parser.add_argument("--ignore-unknown", action="store_true", help="as very old servers do")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--banner", type=int, default=0)
    parser.add_argument("--ignore-end-of-input", action="store_true")
    parser.add_argument("--ignore-sigterm", action="store_true")
    options = parser.parse_args()
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.words:
        sys.stderr.write(options.words)
        sys.stderr.flush()
    if options.crash_once and not Path(options.crash_once).exists():
        Path(options.crash_once).touch()
        sys.exit(4)
    if options.exit_at_start is not None:
        sys.exit(options.exit_at_start)
    if options.silent:
        sys.stdin.read()
        return
    for _ in range(options.banner):
        write_line("Welcome!")
    HandmadeServer(options).serve()
    if options.ignore_end_of_input:
        signal.pause()
        signal.pause()


if __name__ == "__main__":
    main()
