"""The headers of an answer: names in any case, values as text."""

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

from typing_extensions import override

_Default = TypeVar("_Default")


class Headers(Mapping[str, str]):
    """Header fields by name, of which case is ignored; of a name that came twice the last value.

    Values are decoded (as Latin-1, RFC 9110, section 5.5) when they are asked for: of thirty a
    relay looks at two.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        """Take `values` over; their names are in lower case."""
        self._values = values

    @override
    def __getitem__(self, name: str) -> str:
        return self._values[name.lower().encode("latin-1", "replace")].decode("latin-1")

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | _Default) -> str | _Default: ...
    @override
    def get(self, name: str, /, default: object = None) -> object:
        value = self._values.get(name.lower().encode("latin-1", "replace"))
        return default if value is None else value.decode("latin-1")

    @override
    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._values)

    @override
    def __len__(self) -> int:
        return len(self._values)

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower().encode("latin-1", "replace") in self._values

    def without(self, *names: str) -> "Headers":
        """The same headers but for these names, which are in lower case."""
        dropped = {name.encode("latin-1") for name in names}
        return Headers({name: value for name, value in self._values.items() if name not in dropped})

    @override
    def __repr__(self) -> str:
        """Names alone: a value may be a cookie."""
        return f"Headers({', '.join(self)})"
