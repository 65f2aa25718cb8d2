"""Downloads a MovieLens archive from GroupLens to DIR/<source>/<source>.zip, where `read_source` looks for it.

Run `python scripts/download_data.py --source ml-latest-small --to DIR` and set TFF_REC_DATA to DIR. The archives may
not be redistributed: read the licence in each README.
"""

import hashlib
import http.client
import re
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import tyro

from tff_rec.errors import InputError

BASE_URL = "https://files.grouplens.org/datasets/movielens/"
SHA256 = {"ml-latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"}
HM_FILES = ("transactions_train.csv", "articles.csv", "customers.csv")
_CHUNK = 1 << 20
_TIMEOUT = 60

Source = Literal["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest", "hm"]


def main(source: Source = "ml-latest-small", to: Path = Path("data")) -> None:
    """Download a data set.

    Args:
        source: Which data set.
        to: Folder to put it in, under the name of the data set.
    """
    try:
        path = download(source, to, BASE_URL)
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{path} is complete; set TFF_REC_DATA={to.resolve()} to use it.")


def download(source: str, to: Path, base_url: str) -> Path:
    """Downloads `<base_url><source>.zip` to a file beside its target, checks it, and only then names it.

    Raises:
        InputError: GroupLens cannot be reached, the archive is not what was published, or the data needs a login (H&M).
    """
    if source == "hm":
        raise InputError(
            "H&M data needs a Kaggle login: accept the rules at "
            "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations and put "
            f"{', '.join(HM_FILES)} (or .csv.gz) into {to / 'hm'}."
        )
    target = to / source / f"{source}.zip"
    if target.exists():
        raise InputError(f"{target} is there already; remove it to download it again.")
    url = f"{base_url}{source}.zip"
    partial = target.with_suffix(".zip.part")
    try:
        _fetch(url, partial)
        _check(partial, source, url)
        partial.rename(target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url} cannot be downloaded ({reason}); check the network and the folder {to}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _fetch(url: str, target: Path) -> None:
    """Streams a URL to a file, with a progress line."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
        size, done = int(answer.headers.get("Content-Length") or 0), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                total = f" of {size / 1e6:.1f}" if size else ""
                print(f"\r{url}: {done / 1e6:.1f}{total} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if size and done != size:
        raise InputError(f"{url} broke off after {done} of {size} bytes; run the download again.")


def _check(path: Path, source: str, url: str) -> None:
    """Compares with the known or published checksum; without one, the archive's own checksums must do."""
    algorithm, expected = ("sha256", SHA256[source]) if source in SHA256 else ("md5", _published_md5(url))
    if expected is None:
        print(f"GroupLens publishes no checksum of {source}; checking the archive itself.", file=sys.stderr)
        if not _is_intact(path):
            raise InputError(f"{url} is no intact zip file; run the download again.")
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, algorithm).hexdigest()
    if actual != expected:
        raise InputError(
            f"{url} has the {algorithm} {actual} and not {expected}; GroupLens may have replaced the file."
        )


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _published_md5(url: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{url}.md5", timeout=_TIMEOUT) as answer:
            found = re.search(r"\b[0-9a-f]{32}\b", answer.read(_CHUNK).decode("utf-8", "replace").lower())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    return found.group() if found else None


if __name__ == "__main__":
    tyro.cli(main)
