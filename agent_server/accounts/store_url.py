"""Where the store is, by the setting and the data folder."""

from pathlib import Path

FILE_NAME = "server.db"


def store_url(setting: str | None, data_dir: Path) -> str | None:
    """The URL of the store: of the setting, of the file in the data folder, or None for no store.

    `sqlite` is the file in the data folder, made if it is not there; without a setting the store
    is that file if it is there.
    """
    file = data_dir / FILE_NAME
    if setting == "sqlite" or (setting is None and file.exists()):
        return f"sqlite:///{file}"
    return setting
