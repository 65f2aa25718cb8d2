"""The folder of an export: what stands in it beside the SavedModel, and how it takes the place of an older one.

`assets.extra` is where TensorFlow Serving expects files that it does not read: `export.json` says what the export is,
`items.csv` holds the titles.
"""

import contextlib
import csv
import ctypes
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping

from tff_rec.errors import InputError

_EXTRA = "assets.extra"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclasses.dataclass(frozen=True)
class Description:
    """What an export is.

    Attributes:
        k: Number of recommendations.
        max_length: Number of items, the newest ones, that a query is made of.
        num_items: Size of the catalogue.
        model: The towers, in words.
    """

    k: int
    max_length: int
    num_items: int
    model: str


def write_extra(folder: pathlib.Path, description: Description, titles: Mapping[str, str]) -> None:
    """Writes the description, and each item's title."""
    extra = folder / _EXTRA
    extra.mkdir()
    text = json.dumps(dataclasses.asdict(description), indent=2)
    (extra / "export.json").write_text(text + "\n", encoding="utf-8")
    with (extra / "items.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("item_id", "title"), *titles.items()])


def read_description(folder: pathlib.Path) -> Description:
    """Description of the export in a folder.

    Raises:
        InputError: There is none.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give the folder of an export.")
    try:
        return Description(**json.loads((folder / _EXTRA / "export.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder} is not an export of tff_rec; give the folder of one.") from error


def read_titles(folder: pathlib.Path) -> dict[str, str]:
    """Titles by item id, of an export.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        with (folder / _EXTRA / "items.csv").open(encoding="utf-8", newline="") as file:
            return {row["item_id"]: row["title"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"The titles in {folder} cannot be read; export the model again.") from error


@contextlib.contextmanager
def replacing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to, beside `folder`, which on success takes its place in one step.

    Raises:
        InputError: `folder` is a file, or holds something that is not an export.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and (_is_empty(folder) or (folder / _EXTRA / "export.json").exists())):
        raise InputError(f"{folder} is in use by something that is not an export; give another folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workspace = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"Nothing can be written to {folder.parent}: {error.strerror}; give another folder."
        ) from error
    try:
        yield workspace / "new"
        if folder.exists():
            _exchange(workspace / "new", folder)
        else:
            (workspace / "new").rename(folder)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _is_empty(folder: pathlib.Path) -> bool:
    return next(folder.iterdir(), None) is None


def _exchange(new: pathlib.Path, old: pathlib.Path) -> None:
    """Swaps two folders at once where the file system can (Linux `renameat2`), else within two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        paths = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old))
        if libc.renameat2(*paths, _RENAME_EXCHANGE) == 0:
            return
    aside = new.with_name("old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
