"""HTTP steps of other formats: `GET https://...` as a command, or fields of the executor."""

from collections.abc import Mapping
from urllib.parse import quote

from workflow_backend.definition.importers.draft import Context, StepDraft
from workflow_backend.definition.importers.fields import HTTP, STEP
from workflow_backend.definition.importers.notes import Fields, scalar_text
from workflow_backend.definition.importers.policies import duration_of
from workflow_backend.definition.importers.scripts import command_text
from workflow_backend.definition.importers.texts import pairs_of

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


def read_http(step: Fields, config: Fields, draft: StepDraft, context: Context) -> None:
    """A request; its method and URL stand in the command or in the settings."""
    method, url = config.text(*HTTP["method"]), config.text(*HTTP["url"])
    command = command_text(step.take(*STEP["command"])).strip()
    words = command.split(maxsplit=1)
    if words and words[0].upper() in _METHODS:
        method, url = words[0], words[1] if len(words) > 1 else url
    elif words and not url:
        url = command
    place = config.at(*HTTP["url"])
    request: dict[str, object] = {
        "url": draft.texts.template(url.strip(), place, in_one_line=True)
        + _query(config, draft, has_query="?" in url)
    }
    method = method.upper() or "GET"
    if method not in _METHODS:
        config.note(HTTP["method"], f"there is no method {method[:20]!r}.", "It is `GET`.")
        method = "GET"
    if method != "GET":
        request["method"] = method
    if headers := _headers(config, draft):
        request["headers"] = headers
    request |= _body(config, step, draft)
    seconds = config.take(*HTTP["timeout"])
    if timeout := duration_of(seconds, config.at(*HTTP["timeout"]), config.notes):
        draft.data.setdefault("timeout", timeout)
    if config.take("tls_skip_verify", "skip_tls_verify") is True:
        config.note("tls_skip_verify", "certificates are always checked.")
    if config.take("json") is True:
        config.note(
            "json", "an answer is not wrapped.", "`outputs.status` and `outputs.body` hold it."
        )
    draft.data["http"] = request


def _headers(config: Fields, draft: StepDraft) -> dict[str, str]:
    given = config.take(*HTTP["headers"])
    path = config.at(*HTTP["headers"])
    return {
        name: draft.texts.template(scalar_text(value), f"{path}.{name}", in_one_line=True)
        for name, value in pairs_of(given)
    }


def _body(config: Fields, step: Fields, draft: StepDraft) -> dict[str, object]:
    body = config.take(*HTTP["body"])
    path = config.at(*HTTP["body"])
    if body is None and step.has(*STEP["script"]):
        body, path = step.take(*STEP["script"]), step.at(*STEP["script"])
    if isinstance(body, (Mapping, list)):
        return {"json": draft.texts.value(body, path)}
    if body in (None, ""):
        return {}
    return {"body": draft.texts.template(scalar_text(body), path)}


def _query(config: Fields, draft: StepDraft, *, has_query: bool) -> str:
    """The query as the end of the URL; what the run decides is not escaped."""
    given = config.take(*HTTP["query"])
    path = config.at(*HTTP["query"])
    parts = []
    for name, value in pairs_of(given):
        template = draft.texts.template(scalar_text(value), f"{path}.{name}", in_one_line=True)
        if "${{" in template:
            config.notes.add(
                f"{path}.{name}",
                "a value that the run decides is not escaped for a URL.",
                "Escape it before, if it may hold more than letters and digits.",
            )
        else:
            template = quote(template, safe="")
        parts.append(f"{quote(name, safe='')}={template}")
    return ("&" if has_query else "?") + "&".join(parts) if parts else ""
