"""The npm clients of `tests/clients/js`: installed once for each lock file, run by node.

Every script takes the URLs of the servers that it calls and prints one line of JSON.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

JS = Path(__file__).parent / "clients" / "js"
INSTALL_SECONDS = 170
SCRIPT_SECONDS = 60
OLDEST_NODE = 20


@pytest.fixture(scope="session")
def npm_clients() -> Path:
    """The folder of the scripts, with its packages installed.

    Without node the test is skipped, but where `CI` is set it fails: there nothing may be missing.
    """
    if missing := _missing():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Several test processes may come here at once.
    with (JS / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(hashlib.sha256(lock.read()).hexdigest())
    return JS


async def found_by(script: str, *arguments: str) -> Any:
    """What a script has found: the JSON of its last line."""
    return orjson.loads((await node(script, *arguments)).splitlines()[-1])


async def node(*arguments: str, source: str = "") -> str:
    """What node prints in the folder of the scripts, where it must end well; stdin is `source`."""
    process = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
        cwd=JS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SCRIPT_SECONDS):
            printed, errors = await process.communicate(source.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return printed.decode()


def _missing() -> str | None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "node and npm are not installed"
    done = subprocess.run(["node", "--version"], capture_output=True, check=True, timeout=20)
    version = done.stdout.decode().strip()
    found = re.match(r"v(\d+)\.", version)
    if found is None or int(found[1]) < OLDEST_NODE:
        return f"node is {version}; the npm clients need {OLDEST_NODE} or newer"
    return None


def _install(lock_digest: str) -> None:
    stamp = JS / "node_modules" / ".installed-lock"
    if stamp.is_file() and stamp.read_text() == lock_digest:
        return
    done = subprocess.run(
        ["npm", "ci", "--silent"], cwd=JS, capture_output=True, check=False, timeout=INSTALL_SECONDS
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    stamp.write_text(lock_digest)
