"""The package litellm: whether it is there and may be loaded, and the loading itself.

What this module promises: litellm is imported on first use and nowhere else, never in a version
that is known to be malicious, and its import opens no connection and reads no `.env` file.
"""

import asyncio
import functools
import importlib
import logging
import os
from importlib import metadata
from typing import Any

from providers.registry import ProviderConfigError
from streaming.errors import UpstreamRejectedError

INSTALL = "pip install 'agent-server[litellm]'"
# Releases that stole secrets of the machines on which they were installed.
MALICIOUS_VERSIONS = frozenset({"1.82.7", "1.82.8", "1.107.0"})
# Read by litellm while it is imported: no look-ups of its own, no `.env` of the working directory.
IMPORT_VARIABLES = {"LITELLM_OFFLINE_MODE": "true", "LITELLM_MODE": "PRODUCTION"}
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


def check_installed() -> None:
    """Look at what is installed, without importing it.

    Raises:
        ProviderConfigError: litellm is missing, or of a malicious version.
    """
    try:
        version = metadata.version("litellm")
    except metadata.PackageNotFoundError as exc:
        raise ProviderConfigError(
            f"the provider litellm needs a package that is not installed: {INSTALL}"
        ) from exc
    if version in MALICIOUS_VERSIONS:
        raise ProviderConfigError(
            f"litellm {version} is a malicious release and is not loaded: uninstall it, replace "
            f"every secret that this machine holds, then {INSTALL}"
        )


async def load_library() -> Any:
    """The module litellm, imported in a thread, as that takes seconds.

    Raises:
        UpstreamRejectedError: it cannot be imported.
    """
    try:
        return await asyncio.to_thread(_imported)
    except ImportError as exc:
        raise UpstreamRejectedError(
            f"litellm is installed but cannot be imported ({exc}); {INSTALL}",
            provider="litellm",
            code="provider_unavailable",
        ) from exc


@functools.cache
def _imported() -> Any:
    check_installed()
    for name, value in IMPORT_VARIABLES.items():
        # litellm has no other way to be told before its import.
        os.environ.setdefault(name, value)  # noqa: TID251 # written, not read
    litellm: Any = importlib.import_module("litellm")
    # What would be printed at errors, and what a model's dialect cannot take, is left out.
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    litellm.modify_params = True
    litellm.turn_off_message_logging = True
    for logger in LOGGERS:
        # Its own handlers write past the masking of ours.
        logging.getLogger(logger).handlers.clear()
    return litellm
