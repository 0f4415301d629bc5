"""A workflow written out in one way: keys in the order of the schema, no defaults."""

from typing import Any

import yaml
from typing_extensions import override

from workflow_backend.definition.documents import plain_scalar
from workflow_backend.definition.model import Workflow


def to_document(workflow: Workflow) -> dict[str, object]:
    """The workflow as plain data, without what is the default anyway."""
    document: dict[str, object] = workflow.model_dump(by_alias=True, exclude_defaults=True)
    return document


def to_yaml(workflow: Workflow) -> str:
    """The workflow as YAML 1.2 that reads back as the same workflow."""
    text: str = yaml.dump(
        to_document(workflow),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Writes longer texts as blocks, lists below their key, and never an alias."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True

    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").replace("\t", "").isprintable():
        # YAML 1.1 takes NEL, U+2028 and U+2029 for line breaks.
        style = '"'
    elif "\n" in text:
        style = "|"
    elif not isinstance(plain_scalar(text), str):
        # PyYAML knows YAML 1.1 alone, where `1e3` and `0o7` are text.
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)
