"""What can go wrong with accounts and their store, in a module that needs no library."""


class StoreError(Exception):
    """The store cannot be read or written now; the reason is in the log."""


class AccountsConfigError(ValueError):
    """Keys, or the address of the store or of Redis, cannot be used; the message says why.

    It never repeats an address, which may hold a password.
    """


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says why."""
