"""Secrets by name: where their values come from, who may have them, and what must be masked."""

from workflow_backend.secrets.collection import (
    MIN_MASKED_CHARACTERS,
    GrantedSecret,
    Secrets,
    SecretVariables,
    load_secrets,
    open_secrets,
)
from workflow_backend.secrets.entries import MAX_VALUE_BYTES, Entry, SecretsError
from workflow_backend.secrets.store import SecretStore
from workflow_backend.secrets.yaml_file import MAX_FILE_BYTES

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_VALUE_BYTES",
    "MIN_MASKED_CHARACTERS",
    "Entry",
    "GrantedSecret",
    "SecretStore",
    "SecretVariables",
    "Secrets",
    "SecretsError",
    "load_secrets",
    "open_secrets",
]
