"""The files of a report, written when something has changed and left alone when nothing has."""

import hashlib
import importlib.metadata
import json
import pathlib

from tff_rec.report.study import PLAN_FILE, RESULTS_FILE
from tff_rec.simulation.run_folder import write_bytes, write_text

REPORT_FILE = "report.html"
MARKDOWN_FILE = "report.md"
MANIFEST_FILE = "report.json"
_LIBRARIES = ("jinja2", "matplotlib", "numpy", "scipy")


def is_current(folder: pathlib.Path) -> bool:
    """Whether the report there is made of these results by this code, and is as it was written."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return False
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        made_of, files = manifest["made_of"], dict(manifest["files"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return False  # Not this version's: made anew.
    return made_of == fingerprint(folder) and all(_hash_of(folder / name) == digest for name, digest in files.items())


def write(folder: pathlib.Path, files: dict[str, bytes]) -> list[str]:
    """Writes files that are not there as they should be, drops pictures of before, and notes what all was made of.

    Args:
        folder: The study's.
        files: Contents by name in the folder.

    Returns:
        Names of the files that were written.
    """
    changed = [name for name, content in files.items() if _hash_of(folder / name) != _digest(content)]
    for name in changed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, files[name])
    for folder_of in {path.parent for name in files if (path := folder / name).parent != folder}:
        for old in folder_of.glob("*.png"):
            if str(old.relative_to(folder)) not in files:
                old.unlink()
    digests = {name: _digest(content) for name, content in files.items()}
    manifest = {"made_of": fingerprint(folder), "files": digests}
    write_text(folder / MANIFEST_FILE, json.dumps(manifest, indent=1) + "\n")
    return changed


def fingerprint(folder: pathlib.Path) -> str:
    """SHA-256 of the plan, the results, which of them have ranks or errors, the report's code and its libraries."""
    code = sorted(path for path in pathlib.Path(__file__).parent.rglob("*") if path.suffix in (".py", ".jinja"))
    parts = [f"{name} {importlib.metadata.version(name)}".encode() for name in _LIBRARIES]
    parts += [path.read_bytes() for path in (folder / PLAN_FILE, folder / RESULTS_FILE, *code) if path.is_file()]
    parts += sorted(str(path.relative_to(folder)).encode() for path in folder.glob("*/*.npy"))
    return _digest(b"\0".join(parts))


def _hash_of(path: pathlib.Path) -> str:
    return _digest(path.read_bytes()) if path.is_file() else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
