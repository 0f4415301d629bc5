"""Which variables hold the key and the address of each provider, by the providers' rows. Pure."""

from collections.abc import Mapping

from providers.rows import ROWS

# Each field of the settings that holds such variables: their names, and the provider of each.
PROVIDER_FIELDS: Mapping[str, Mapping[str, str]] = {
    "provider_keys": {name: row.name for row in ROWS.values() for name in row.key_variables},
    "provider_urls": {name: row.name for row in ROWS.values() for name in row.base_url_variables},
}
# By which they go in a file and as options.
PROVIDER_NAMES = frozenset(name.lower() for names in PROVIDER_FIELDS.values() for name in names)


def by_field(values: Mapping[str, object]) -> dict[str, object]:
    """The variables of providers that are set, each in the field that holds it."""
    found: dict[str, object] = {}
    for field, variables in PROVIDER_FIELDS.items():
        if given := {name: value for name in variables if (value := values.get(name))}:
            found[field] = given
    return found
