"""What can go wrong with the store, in a module that needs no database library."""


class StoreError(Exception):
    """The store cannot be read or written now; the reason is in the log."""


class DatabaseUrlError(Exception):
    """The address of the store cannot be used; the message says why, without its password."""


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says why."""
