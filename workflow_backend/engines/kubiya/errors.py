"""What goes wrong with Kubiya's API, said with what, where and how to mend it; never with the key.

Pure: the client alone raises these.
"""

MAX_SAID_CHARACTERS = 300


class KubiyaError(Exception):
    """The API cannot be used, or refused a request."""


class KubiyaStartUnknownError(KubiyaError):
    """A start may or may not have reached the API; it is not sent again."""


def refused(what: str, where: str, status: int, said: str) -> KubiyaError:
    """The error for an answer of this status; `said` is its body, masked."""
    said = " ".join(said.split())[:MAX_SAID_CHARACTERS]
    detail = f": {said}" if said else ""
    mend = next((text for codes, text in _MENDS if status in codes), "look at the API's answer")
    message = f"Kubiya refused to {what} with HTTP {status} at {where}{detail}; {mend}"
    return KubiyaStartUnknownError(message) if status >= 500 else KubiyaError(message)


def unreachable(what: str, where: str, why: str) -> KubiyaError:
    """The error when no connection came about, so that nothing was sent."""
    return KubiyaError(
        f"cannot {what}: {where} cannot be reached ({why}); check the network and KUBIYA_BASE_URL"
    )


_MENDS: tuple[tuple[range | frozenset[int], str], ...] = (
    (range(300, 400), "set KUBIYA_BASE_URL to the address that it leads to"),
    (frozenset({401, 403}), "check KUBIYA_API_KEY, and that it may run workflows"),
    (frozenset({404}), "check KUBIYA_BASE_URL and the runner's name"),
    (frozenset({400, 409, 413, 422}), "mend the workflow"),
    (frozenset({429}), "try again later"),
    (range(500, 600), "look there whether it began before you try again; it is not sent twice"),
)
