"""The server that this backend belongs to: where it answers, and the key of run tokens."""

from dataclasses import dataclass, field

from streaming.run_tokens import key_from_text, key_of_phrase

NO_SERVER = (
    "an agent is asked through the server that this backend belongs to, and it belongs to none;"
    " start it by `agent-server serve`, or give a worker the server's AGENT_SERVER_URL and"
    " SECRET_KEY"
)


@dataclass(frozen=True, slots=True)
class ServerLink:
    """How agent steps reach their server. The key stays in this process."""

    url: str
    key: bytes = field(repr=False)


def server_link(url: str | None, key: str | None, phrase: str | None) -> ServerLink | None:
    """The link, None where something of it is missing: then nothing has agents.

    `key` is the server's, as text; a worker on another machine makes it of the `phrase` that it
    shares with the server.

    Raises:
        ValueError: the key is none.
    """
    if not url or not (key or phrase):
        return None
    return ServerLink(url.rstrip("/"), key_from_text(key) if key else key_of_phrase(phrase or ""))
