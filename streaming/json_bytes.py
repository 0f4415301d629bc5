"""JSON as bytes, of any value that an event may hold."""

from collections.abc import Mapping

import orjson


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8, without any line end.

    Unlike orjson alone it also takes halves of surrogate pairs (written as "?"), integers of more
    than 64 bits and any `Mapping`: texts and results come from processes and tools that we do not
    know, and none of them may break a stream.
    """
    try:
        return orjson.dumps(value, default=_mapping)
    except TypeError:
        return orjson.dumps(_mend(value))


def _mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _mend(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return orjson.Fragment(str(value))
    if isinstance(value, Mapping):
        return {_mend(str(key)): _mend(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mend(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")
