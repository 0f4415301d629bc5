"""Where an upstream of OpenAI's formats answers what. Pure."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

PATHS: Final[Mapping[str, str]] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
    "models": "/models",
}
# Azure's older API has these below the deployment, which is the model there.
_DEPLOYMENT: Final = "/deployments/{model}"
_DEPLOYED: Final = frozenset({"chat", "embeddings"})


class Addresses:
    """The paths below `root`; `paths` are those that are not OpenAI's own.

    A base URL may end with `/deployments/{model}` and a query, as Azure's older API has it.
    """

    def __init__(self, base_url: str, paths: Mapping[str, str]) -> None:
        address, mark, query = base_url.partition("?")
        address = address.rstrip("/")
        self.root = address.removesuffix(_DEPLOYMENT)
        self._is_deployed = self.root != address
        self._query = mark + query
        self._paths = {name: path + self._query for name, path in {**PATHS, **paths}.items()}

    def path(self, name: str, model: str = "") -> str:
        """The path of a format, or of `models`, for a model."""
        if self._is_deployed and name in _DEPLOYED:
            return f"/deployments/{quote(model, safe='')}{self._paths[name]}"
        return self._paths[name]

    def with_query(self, path: str) -> str:
        """A further path, which may have a query of its own."""
        if not self._query:
            return path
        return path + (f"&{self._query[1:]}" if "?" in path else self._query)
