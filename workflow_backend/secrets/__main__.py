"""`python -m workflow_backend.secrets set|list|rm`: changes and shows the store of a data folder.

It is told where by the settings of the backend. `set` reads the value from standard input; `list`
prints one JSON object. Exit codes: 0 done; 2 it cannot be done; 3 there is no such secret. A
failure is one line on stderr.
"""

import argparse
import json
import sys

from workflow_backend.definition.secret_rules import SecretRuleError, secret_rule
from workflow_backend.process_guard import guard_process
from workflow_backend.secrets.collection import Secrets, SecretVariables, fixed_entries
from workflow_backend.secrets.entries import MAX_VALUE_BYTES, SecretsError
from workflow_backend.secrets.store import SecretStore
from workflow_backend.settings import (
    BackendSettings,
    SettingsError,
    load_settings,
    take_secret_variables,
)

FAULT, NOT_FOUND = 2, 3


def main() -> int:
    """Run the command; the answer is the exit code."""
    guard_process()
    given = _arguments()
    try:
        settings, variables = load_settings(), take_secret_variables()
        if given.command == "set":
            return _set(given, settings, variables)
        if given.command == "rm":
            return _remove(given, settings, variables)
        return _list(settings, variables)
    except (SecretsError, SettingsError, SecretRuleError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return FAULT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workflow_backend.secrets")
    commands = parser.add_subparsers(dest="command", required=True)
    setting = commands.add_parser("set")
    setting.add_argument("name")
    setting.add_argument("--key", dest="keys", action="append", default=[])
    setting.add_argument("--host", dest="hosts", action="append", default=[])
    commands.add_parser("rm").add_argument("name")
    commands.add_parser("list")
    return parser.parse_args()


def _set(given: argparse.Namespace, settings: BackendSettings, variables: SecretVariables) -> int:
    rule = secret_rule(given.keys, given.hosts)
    fixed = fixed_entries(settings.secrets_file, variables)
    if given.name in fixed:
        raise SecretsError(
            f"the secret {given.name!r} is in {fixed[given.name].place} already; a name has one"
            " place"
        )
    store = SecretStore(settings.data_dir, variables.key)
    store.set(given.name, _read_value(), rule)
    return 0


def _remove(
    given: argparse.Namespace, settings: BackendSettings, variables: SecretVariables
) -> int:
    store = SecretStore(settings.data_dir)
    if store.remove(given.name):
        return 0
    elsewhere = fixed_entries(settings.secrets_file, variables).get(given.name)
    hint = f"it is in {elsewhere.place}" if elsewhere else "`agent-server secrets list` shows them"
    sys.stderr.write(f"no secret {given.name!r} is in the store {store.path}; {hint}\n")
    return NOT_FOUND


def _list(settings: BackendSettings, variables: SecretVariables) -> int:
    store = SecretStore(settings.data_dir, variables.key)
    store.load()
    secrets = Secrets(fixed_entries(settings.secrets_file, variables), store=store)
    rows = [
        {
            "name": name,
            "source": entry.source,
            "keys": list(entry.rule.keys),
            "hosts": list(entry.rule.hosts),
            **({"fault": entry.fault} if entry.fault else {}),
        }
        for name, entry in sorted(secrets.entries().items())
    ]
    sys.stdout.write(json.dumps({"object": "list", "data": rows}) + "\n")
    return 0


def _read_value() -> str:
    data = sys.stdin.buffer.read(MAX_VALUE_BYTES + 2)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        if len(data) > MAX_VALUE_BYTES:
            raise SecretsError(f"the value is over {MAX_VALUE_BYTES} bytes") from None
        raise SecretsError(
            "the value is not UTF-8 text; encode it, as base64 for example"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
