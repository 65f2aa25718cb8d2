"""Data sets by name: where their files are looked for, and which loader reads them."""

import os
from pathlib import Path

from tff_rec.data import cleaning
from tff_rec.data.csv_file import CSV_ENDINGS, list_files, read_csv_interactions
from tff_rec.data.hm import read_hm
from tff_rec.data.movielens import LAYOUTS, read_movielens
from tff_rec.data.names import DATA_VARIABLE, SOURCES
from tff_rec.data.schema import InteractionData
from tff_rec.data.synthetic import SyntheticConfig, generate_synthetic
from tff_rec.errors import InputError


def read_source(
    source: str, path: Path | str | None = None, *, min_user_items: int = 1, min_item_users: int = 1
) -> InteractionData:
    """Reads a data set by name and drops rare users and items.

    Args:
        source: One of `names.SOURCES`; `synthetic` is the default configuration of `synthetic.py`.
        path: Where its files are; by default they are looked for in `$TFF_REC_DATA/<source>/`.
        min_user_items: Least number of items of a user that stays.
        min_item_users: Least number of users of an item that stays.

    Raises:
        InputError: The name is unknown, the files are not found, or they are damaged or wrong.
    """
    if source not in SOURCES:
        raise InputError(f"There is no data source '{source}'; choose one of {', '.join(SOURCES)}.")
    if min(min_user_items, min_item_users) < 0:
        raise InputError("A least number of items or users is negative; give 0 or more.")
    data = _read(source, None if path is None else Path(path))
    return cleaning.filter_rare(data, min_user_items, min_item_users)


def _read(source: str, path: Path | None) -> InteractionData:
    if source == "synthetic":
        if path is not None:
            raise InputError(f"The synthetic data is generated and cannot be read from {path}; leave the path out.")
        return generate_synthetic(SyntheticConfig()).data
    path = _default_folder(source) if path is None else path
    if source == "hm":
        return read_hm(_unpacked_or_zip(path, source), source)
    if source == "csv":
        return read_csv_interactions(_only_csv(path), source)
    return read_movielens(_unpacked_or_zip(path, source), source)


def _default_folder(source: str) -> Path:
    root = os.environ.get(DATA_VARIABLE)
    advice = f"give --data.path, or run scripts/download_data.py and set {DATA_VARIABLE} to the folder it filled"
    if not root:
        raise InputError(f"No path of the {source} files is given and {DATA_VARIABLE} is not set; {advice}.")
    folder = Path(root) / source
    if not folder.is_dir() or not any(folder.iterdir()):
        raise InputError(f"There are no {source} files in {folder}; {advice}.")
    return folder


def _unpacked_or_zip(path: Path, source: str) -> Path:
    """Of a folder: itself if the data lie in it unpacked, else the published zip, else its only zip, else itself."""
    if not path.is_dir() or any(name in LAYOUTS or name.startswith("transactions") for name in list_files(path)):
        return path
    published = path / f"{source}.zip"
    archives = sorted(path.glob("*.zip"))
    if published in archives or len(archives) == 1:
        return published if published in archives else archives[0]
    return path


def _only_csv(path: Path) -> Path:
    """A file; of a folder, its only CSV file, or if it has none its only zip."""
    if not path.is_dir():
        return path
    found = sorted(entry for entry in path.iterdir() if entry.name.endswith(CSV_ENDINGS))
    found = found or sorted(path.glob("*.zip"))
    if len(found) != 1:
        raise InputError(
            f"{path} holds {len(found)} files ending in {' or '.join(CSV_ENDINGS)}; give the path of one file."
        )
    return found[0]
