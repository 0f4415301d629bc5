"""The names that a document declares: parameters, constants, secrets, variables."""

import re
from collections.abc import Mapping

from workflow_backend.definition.importers.fields import WORKFLOW
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.parameters import read_parameters
from workflow_backend.definition.importers.scope import Scope, variable_of
from workflow_backend.definition.importers.texts import Texts, pairs_of

MAX_VARIABLES = 300

_COMMAND = re.compile(r"`[^`]*`|\$\(")


def read_names(fields: Fields, scope: Scope) -> None:
    """Declare all of them, in the order in which they may name each other."""
    for name, value in pairs_of(fields.take(*WORKFLOW["consts"])):
        scope.consts[name] = scalar_text(value)
    _read_secrets(fields, scope)
    for key in WORKFLOW["inputs"]:
        read_parameters(fields.take(key), fields.at(key), scope)
    env = fields.take(*WORKFLOW["env"])
    for name, value in pairs_of(env)[:MAX_VARIABLES]:
        _read_variable(name, scalar_text(value), f"{fields.at(*WORKFLOW['env'])}.{name}", scope)


def _read_secrets(fields: Fields, scope: Scope) -> None:
    """Secrets by name; where their values are is the server's to know."""
    given = fields.take(*WORKFLOW["secrets"])
    path = fields.at(*WORKFLOW["secrets"])
    if isinstance(given, Mapping):
        given = [{"name": name, "key": value} for name, value in given.items()]
    for index, item in enumerate(given if isinstance(given, list) else []):
        name = item if isinstance(item, str) else ""
        if isinstance(item, Mapping):
            name = scalar_text(item.get("name") or item.get("key"))
        if not name:
            fields.notes.add(f"{path}[{index}]", "the secret has no name.")
            continue
        secret = variable_of(name)
        scope.secrets[name] = secret
        scope.env[secret] = f"${{{{ secrets.{secret} }}}}"
        scope.env_names[name] = secret
        fields.notes.add(
            f"{path}[{index}]",
            "where a secret is kept is the server's to know.",
            f"It is `secrets.{secret}`; set it with `agent-server secrets set {secret}`.",
        )


def _read_variable(name: str, text: str, path: str, scope: Scope) -> None:
    if name in scope.input_names or not name:
        return
    if name == "PATH":
        scope.notes.add(
            path,
            "steps have the server's own search path.",
            "It was left out; write `export PATH=...` in a script.",
        )
        return
    ours = variable_of(name)
    if ours != name:
        scope.notes.add(path, "the name cannot be used here.", f"It is called `{ours}`.")
    if _COMMAND.search(text):
        if scope.declare_input(name, {"required": True}):
            scope.notes.add(path, "it is computed by a command.", "The run must give it.")
        return
    scope.env[ours] = Texts(scope, None).template(text, path)
    scope.env_names[name] = ours
