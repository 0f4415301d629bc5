"""How deep JSON values may be nested: what is read must also be possible to write down."""

from collections.abc import Mapping

# The writer gives up at 255 levels, and a value is recorded within others.
MAX_DEPTH = 100


def is_too_deep(value: object) -> bool:
    """Whether a JSON value has about `MAX_DEPTH` lists and objects inside one another, or more."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                inner += item.values()
            elif isinstance(item, (list, tuple)):
                inner += item
        if not inner:
            return False
        level = inner
    return True
