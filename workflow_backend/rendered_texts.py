"""The texts of one step, filled in: what they refer to, and which secrets they leave. Pure."""

from collections.abc import Mapping

from workflow_backend.definition.actions import HttpRequest
from workflow_backend.definition.expressions import OPEN, expressions_in, render, secret_name
from workflow_backend.definition.model import Step

_ESCAPED = "${{ inputs.text }}"


class Templates:
    """Fills templates and notes the secrets that they refer to."""

    def __init__(self) -> None:
        self.secrets: list[str] = []

    def note(self, text: str) -> None:
        """Note the secrets of a filled template."""
        if OPEN in text:
            self.secrets += [name for name in map(secret_name, expressions_in(text)) if name]

    def fill(self, text: str, context: Mapping[str, object]) -> str:
        """The text, filled in but for its secrets."""
        return str(render(text, context, keep_secrets=True)) if "{{" in text else text

    def fill_request(self, request: HttpRequest, context: Mapping[str, object]) -> HttpRequest:
        """The request, filled in but for its secrets."""
        headers = {name: self.fill(text, context) for name, text in request.headers.items()}
        body = None if request.body is None else self.fill(request.body, context)
        for text in (*headers.values(), body or ""):
            self.note(text)
        return request.model_copy(
            update={
                "url": self.fill(request.url, context),
                "headers": headers,
                "body": body,
                "json_body": self._fill_json(request.json_body, context),
            }
        )

    def _fill_json(self, value: object, context: Mapping[str, object]) -> object:
        if isinstance(value, str):
            if OPEN not in value:
                return value
            if any(map(secret_name, expressions_in(value))):
                filled = self.fill(value, context)
                self.note(filled)
                return filled
            return escape_json(render(value, context))
        if isinstance(value, Mapping):
            return {key: self._fill_json(item, context) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill_json(item, context) for item in value]
        return value


def texts_of(step: Step) -> list[str]:
    """The texts of a step that may hold expressions, but for its conditions and its items."""
    texts = list(step.env.values())
    if step.working_dir is not None:
        texts.append(step.working_dir)
    if step.http is not None:
        texts += [step.http.url, *step.http.headers.values(), step.http.body or ""]
        texts += strings_in(step.http.json_body)
    if step.approval is not None:
        texts.append(step.approval.message)
    if step.agent is not None:
        texts += [step.agent.prompt, step.agent.system]
    if step.workflow is not None:
        texts += strings_in(step.workflow.inputs)
    return texts


def strings_in(value: object) -> list[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in strings_in(item)] if isinstance(value, list) else []


def fill_values(value: object, context: Mapping[str, object]) -> object:
    """The JSON value with the texts in it filled in; one that is a whole expression keeps its type.

    Raises:
        ExpressionError: One of them cannot be computed.
    """
    if isinstance(value, str):
        return render(value, context) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: fill_values(item, context) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_values(item, context) for item in value]
    return value


def escape_json(value: object) -> object:
    """Data as templates that give the data again."""
    if isinstance(value, str):
        if "{{" not in value:
            return value
        return render(_ESCAPED, {"inputs": {"text": value}}, keep_secrets=True)
    if isinstance(value, Mapping):
        return {key: escape_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape_json(item) for item in value]
    return value
