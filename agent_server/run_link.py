"""How runs ask this server for a model: where it answers, and the key of their tokens."""

from dataclasses import dataclass, field
from typing import Final

from agent_server.settings import Settings
from streaming.run_tokens import key_of_phrase, key_to_text, new_key

# Read by `workflow_backend/settings.py`.
URL_VARIABLE: Final = "AGENT_SERVER_URL"
KEY_VARIABLE: Final = "AGENT_SERVER_RUN_TOKEN_KEY"


@dataclass(frozen=True, slots=True)
class RunLink:
    """The server's URL and the key that signs run tokens; only the backend is told."""

    url: str
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, url: str) -> "RunLink":
        """The link of a server at this URL.

        With `SECRET_KEY` the key is made of that, so that workers on other machines have the same;
        without, it is made anew at each start.
        """
        phrase = settings.secret_key
        return cls(url, key_of_phrase(phrase.get_secret_value()) if phrase else new_key())

    def environment(self) -> dict[str, str]:
        """The variables that the backend reads."""
        return {URL_VARIABLE: self.url, KEY_VARIABLE: key_to_text(self.key)}
