"""Where the store is, by the setting and the data folder."""

from pathlib import Path

FILE_NAME = "server.db"
# What SQLite keeps beside a database, by what comes after its name; they come and go.
_SIDE_FILES = ("-wal", "-shm", "-journal")


def store_url(setting: str | None, data_dir: Path) -> str | None:
    """The URL of the store: of the setting, of the file in the data folder, or None for no store.

    `sqlite` is the file in the data folder, made if it is not there; without a setting the store
    is that file if it is there.
    """
    file = data_dir / FILE_NAME
    if setting == "sqlite" or (setting is None and file.exists()):
        return f"sqlite:///{file}"
    return setting


def store_files(setting: str | None) -> tuple[Path, ...]:
    """The files that a setting names, there or not; none where the store is in the data folder."""
    if setting is None or "://" not in setting:
        return ()
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - slow, and most servers name none
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        url = make_url(setting)
    except ArgumentError:
        # Who opens the store says so.
        return ()
    if url.get_backend_name() != "sqlite" or not url.database:
        return ()
    file = Path(url.database).absolute()
    return (file, *(file.with_name(file.name + end) for end in _SIDE_FILES))
