"""The headers of a request, read once for all that look at them."""

from typing import TypeAlias

from starlette.types import Scope

# Values by names in lower case; those of a name that came more than once are joined by ", "
# (RFC 9110, section 5.3), so that of two hosts or origins neither is taken for the only one.
RequestHeaders: TypeAlias = dict[str, str]


def headers_of(scope: Scope) -> RequestHeaders:
    """The headers of a request; read at the first call, and kept in its state."""
    state = scope.setdefault("state", {})
    kept: RequestHeaders | None = state.get("headers")
    if kept is None:
        raw = scope["headers"]
        kept = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
        if len(kept) < len(raw):
            kept = _joined(raw)
        state["headers"] = kept
    return kept


def _joined(raw: list[tuple[bytes, bytes]]) -> RequestHeaders:
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {name: ", ".join(given) for name, given in values.items()}
