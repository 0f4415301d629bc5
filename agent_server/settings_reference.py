"""The page of all settings, written from the settings themselves.

`python -m agent_server.settings_reference > docs/configuration.md` writes it anew.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from agent_server.provider_variables import PROVIDER_FIELDS
from agent_server.setting_types import is_secret
from agent_server.settings import Settings, variable_of

HEAD = """\
# Configuration

<!-- Written by `python -m agent_server.settings_reference > docs/configuration.md`. -->

A setting is taken from the first of these places that has it: an option of the command line, the
environment, and the TOML file that `--config` or `AGENT_SERVER_CONFIG_FILE` names. An empty
variable counts as one that is not set. Settings are read once, when the server starts.

In the file a setting goes by its name, which is the variable's in lower case without
`AGENT_SERVER_`; lists are lists there, and words with commas or spaces between them in a variable:

```toml
provider = "openai"
allowed_hosts = ["agent.example.com"]
shutdown_grace_seconds = 30
```

`agent-server doctor` looks at the settings and what hangs on them, and says what is wrong.

## Keys of callers

`agent-server hash-key --name alice --scopes chat+run` makes a key, prints it once, and prints its
entry for `AGENT_SERVER_API_KEYS`:

```text
alice=sha256:<64 hex digits>;scopes=chat+run
```

Entries are separated by commas, spaces or newlines. `scopes` are of `chat`, `run`, `approve` and
`admin`, joined by `+`; without it a key may `chat+run`. `;owner=name` lets several keys share their
runs; without it a key's runs belong to its own name. The key itself is never stored: a raw key in
the setting is refused. Callers send it as `Authorization: Bearer <key>` or `x-api-key: <key>`.

An entry may also limit its key: `;rpm=60` requests and `;tpm=100000` tokens a minute, `;parallel=4`
calls at the same time, `;budget_day=5` and `;budget_month=50` USD, `;models=gpt-*+fast`, and
`;expires=2027-01-01`. [accounts.md](accounts.md) says how they are held, and how keys are kept in a
store instead.
"""
# Each section begins with the field named here and goes on to the next one.
SECTIONS: Mapping[str, str] = {
    "config_file": "File",
    "host": "Server",
    "provider": "Providers",
    "database_url": "Keys, usage and money",
    "temporal_host": "Temporal",
    "kubiya_base_url": "Kubiya",
    "agent": "Agent",
    "data_dir": "Workflows",
    "mcp_config": "MCP servers",
    "log_level": "Log",
}
COLUMNS = (
    "| Variable | Name in the file | Value | Default | What it does |\n|---|---|---|---|---|\n"
)
KINDS: Mapping[object, str] = {
    bool: "true, false",
    int: "number",
    float: "seconds",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple: "list",
}


def configuration_markdown() -> str:
    """The whole page."""
    return HEAD + "".join(_sections())


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            yield f"\n## {SECTIONS[name]}\n\n{COLUMNS}"
        if name in PROVIDER_FIELDS:
            yield from _provider_rows(name)
            continue
        in_file = "" if name == "config_file" else f"`{name}`"
        cells = (
            f"`{variable_of(name)}`",
            in_file,
            _value(field),
            _default(field),
            field.description,
        )
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"


def _provider_rows(field: str) -> Iterator[str]:
    """A line for each variable of a provider."""
    kind, what = ("secret", "Key of") if field == "provider_keys" else ("text", "Address of")
    for variable, provider in PROVIDER_FIELDS[field].items():
        yield f"| `{variable}` | `{variable.lower()}` | {kind} |  | {what} `{provider}`. |\n"


def _value(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) in {Union, UnionType}:
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    kind = KINDS[get_origin(annotation) or annotation]
    low = [f"at least {bound.ge}" for bound in field.metadata if getattr(bound, "ge", None)]
    high = [f"at most {bound.le}" for bound in field.metadata if getattr(bound, "le", None)]
    return ", ".join((kind, *low, *high)) if annotation is int else kind


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`$XDG_DATA_HOME/agent-server`, else `~/.local/share/agent-server`"
    if field.default is None or field.default == () or is_secret(field):
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
