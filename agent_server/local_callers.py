"""Who asks a server without keys: its user, or a step of a workflow, which is local as well.

What this module promises: a caller without a key executes nothing and decides nothing unless the
process that asks is known to be no step's, and none that this server has started.
"""

from dataclasses import replace
from typing import Final

from starlette.types import Scope

from agent_server.access import Caller
from agent_server.peer_process import PEER_EXTENSION, LoopbackPeer, Origin

_REFUSAL: Final = (
    "This server executes workflows and takes decisions only for callers that it knows: no API key "
    "is configured, and {reason}. Set AGENT_SERVER_API_KEYS (make an entry with `agent-server "
    "hash-key`), and give a key to whoever is to call."
)
_REASONS: Final[dict[Origin, str]] = {
    "own": "the request came from a step of a workflow, or from a program that this server started",
    "unknown": "this machine does not tell which program sent the request (one that waits for its "
    "answer can be told, unless it hides)",
}


async def confirmed(scope: Scope) -> Caller:
    """The caller of a request, once it is known which process asks; kept in the request's state."""
    caller: Caller = scope["state"]["caller"]
    is_open = caller.key is None and caller.claims is None and caller.refusal is None
    extension = (scope.get("extensions") or {}).get(PEER_EXTENSION)
    if not is_open or extension is None:
        return caller
    peer: LoopbackPeer = extension["peer"]()
    if reason := _REASONS.get(await peer.origin()):
        caller = replace(caller, refusal=_REFUSAL.format(reason=reason))
        scope["state"]["caller"] = caller
    return caller
