"""The words of a request that say what is wanted, and the values that it names for inputs."""

import re
from collections.abc import Iterable

from streaming.events import JsonObject, JsonValue

_WORD = re.compile(r"[a-z0-9]+")
_VALUE = r"\"[^\"\n]*\"|'[^'\n]*'|[^\s,;]+"
_PAIR = re.compile(rf"(?<![\w-])([A-Za-z_]\w*)[ \t]*=[ \t]*({_VALUE})")
_URL = re.compile(r"https?://[^\s,;\"'`<>)]+")
_PATH = re.compile(r"(?<![\w/:.])/[^\s,;\"'`)]*")

_PATH_INPUT = re.compile(r"dir|path|folder|file|source|mount|log", re.IGNORECASE)
_URL_INPUT = re.compile(r"url|address|endpoint|site", re.IGNORECASE)

# Words of orders, of politeness and of grammar: they say nothing of what a workflow does.
_EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about again ahead all also an and any are as at automate automation based be build by can
        check checks complete comprehensive computer could create created design do does every
        execute execution flow for from generate give go good great have hello here hey hi host how
        i if in into is it its just laptop let like look machine make me my need new now of ok okay
        on one or our perform plan please pls rerun run running server set show simple some start
        sure system tell template thank thanks that the them then there these this those to up use
        using want we what which whole will with workflow workflows would write yes you your
        """,
    )
)


def content_words(text: str) -> set[str]:
    """The words that say what is wanted, in lower case and without a plural's `s`."""
    plain = _PATH.sub(" ", _URL.sub(" ", _PAIR.sub(" ", text)))
    words = set(_WORD.findall(plain.lower()))
    return {singular(word) for word in words - _EMPTY_WORDS if not word.isdigit()}


def words_of(texts: Iterable[str]) -> set[str]:
    """Every word of some texts, as `content_words` spells them."""
    return {singular(word) for text in texts for word in _WORD.findall(text.lower())}


def singular(word: str) -> str:
    """The word without a plural's `s`."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def input_values(message: str, inputs: list[JsonObject]) -> JsonObject:
    """Values for inputs that a message names: `name=value`, else the URLs and paths in order.

    `inputs` holds `name` and `type` of each. What does not fit the type stays text, so that the
    plan can say what is wrong with it.
    """
    pairs = {name.lower(): _unquoted(value) for name, value in _PAIR.findall(message)}
    plain = _PAIR.sub(" ", message)
    urls = [url.rstrip(".!?") for url in _URL.findall(plain)]
    paths = [path.rstrip(".!?") for path in _PATH.findall(_URL.sub(" ", plain))]
    values: JsonObject = {}
    for given in inputs:
        name, kind = str(given.get("name", "")), str(given.get("type", "string"))
        if name.lower() in pairs:
            values[name] = _typed(pairs[name.lower()], kind)
        elif kind == "string" and _URL_INPUT.search(name) and urls:
            values[name] = urls.pop(0)
        elif kind == "string" and _PATH_INPUT.search(name) and paths:
            values[name] = paths.pop(0)
    return values


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] in "\"'" and value[0] == value[-1]
    return value[1:-1] if is_quoted else value


def _typed(text: str, kind: str) -> JsonValue:
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean" and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    return text
