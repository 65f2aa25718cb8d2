"""Delimited text: where it lies (folder, zip, gz), how it becomes columns, and the plainest source, one CSV file.

`read_table` is fast on clean files; `TextFile.records` goes through a file again, slowly, to say on which line
something is, and to leave out malformed rows.
"""

import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd

from tff_rec.data import cleaning
from tff_rec.data.schema import CleaningStep, InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError

USER_COLUMNS = ("user_id", "user", "userId", "customer_id")
ITEM_COLUMNS = ("item_id", "item", "itemId", "movieId", "article_id")
CSV_ENDINGS = (".csv", ".csv.gz")
_PACKED = ".csv.zip"
_LARGEST = float(np.finfo(np.float32).max)
_UNIT_SEPARATOR = b"\x1f"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile)


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A delimited text file, wherever it lies.

    Attributes:
        label: Path to show; of a member of a zip, the zip's path and the member's name.
        open: Opens the (unpacked) bytes.
        columns: Names of the fields; empty means that the first line holds them.
        delimiter: Separator of fields; fields are quoted as in CSV only where it is a comma.
        encoding: Encoding of the text.
        header: Whether the first line is no record.
        size: Bytes as they lie on disk (in a zip: unpacked).
    """

    label: str
    open: Callable[[], IO[bytes]]
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8-sig"
    header: bool = False
    size: int = 0

    @property
    def name(self) -> str:
        """Name without folders."""
        return Path(self.label).name

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Goes through the records, without header and blank lines: line number (from 1) and fields."""
        with reading(self.label), self.open() as stream:
            lines = io.TextIOWrapper(stream, self.encoding, newline="")
            numbered = _csv_lines(lines) if self.delimiter == "," else _plain_lines(lines, self.delimiter)
            if self.header:
                next(numbered, None)
            for number, fields in numbered:
                if len(fields) > 1 or (fields and fields[0].strip()):
                    yield number, fields


def list_files(path: Path) -> dict[str, TextFile]:
    """Text files by name in a folder (and its one subfolder, if it has but one) or a zip.

    In a folder, `NAME.csv.zip` stands for the file in it, unless that lies there unpacked.

    Raises:
        InputError: `path` does not exist, or is a file and no zip, or is a damaged one.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of an existing file or folder.")
    if path.is_dir():
        subfolders = [
            entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        ]
        folders = [path, *subfolders] if len(subfolders) == 1 else [path]
        found = [entry for folder in reversed(folders) for entry in sorted(folder.iterdir()) if entry.is_file()]
        packed = {
            name: file for entry in found if entry.name.endswith(_PACKED) for name, file in list_files(entry).items()
        }
        return packed | {entry.name: on_disk(entry) for entry in found}
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            damaged = stream.read(2) == b"PK"
        problem = (
            "is a zip file that was cut short; download it again"
            if damaged
            else "is no zip file; give a zip or a folder"
        )
        raise InputError(f"{path} {problem}.")
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
    members = [member for member in members if not member.filename.startswith("__MACOSX/")]
    members.sort(key=lambda member: -member.filename.count("/"))
    return {Path(member.filename).name: _in_zip(path, member) for member in members}


def on_disk(path: Path) -> TextFile:
    """A text file of its own, gzipped if its name ends in `.gz`."""
    with reading(str(path)):
        size = path.stat().st_size
    return TextFile(str(path), lambda: _unpacked(path.open("rb"), path.name), size=size)


def with_header(file: TextFile, needed: Sequence[str], optional: Sequence[str] = ()) -> TextFile:
    """The file with `columns` read from its first line.

    Names are matched with `needed` and `optional` without regard to case, and spelled as there. Of other names that
    come several times, all but the first get their position appended.

    Raises:
        InputError: The file is empty, lacks a column of `needed`, or has one of either kind twice.
    """
    with reading(file.label), file.open() as stream:
        first = next(csv.reader(io.TextIOWrapper(stream, file.encoding, newline="")), [])
    spelling = {name.lower(): name for name in (*needed, *optional)}
    columns = [spelling.get(field.strip().lower(), field.strip()) for field in first]
    if not any(columns):
        raise InputError(f"{file.label} is empty; give a file with a header line and at least one row.")
    for column in needed:
        if column not in columns:
            raise InputError(
                f"{file.label} lacks the column {column}: its first line is '{','.join(columns)}'; add the column or "
                "give another file."
            )
    for position, column in enumerate(columns):
        if column in columns[:position]:
            if column.lower() in spelling:
                raise InputError(f"{file.label} has the column {column} twice; rename or remove one.")
            columns[position] = f"{column}#{position + 1}"
    return dataclasses.replace(file, columns=tuple(columns), header=True)


def read_table(file: TextFile, numbers: Sequence[str] = ()) -> tuple[pd.DataFrame, list[CleaningStep]]:
    """Reads a file whose `columns` are known, without the rows that have too many or too few fields.

    Args:
        file: The file.
        numbers: Columns to read as float64; the others become stripped strings. An empty field is NaN in both.

    Returns:
        One row a record, in file order, with an index that counts the file's records from 0; and, if rows were left
        out, their count.

    Raises:
        InputError: More than half of the rows are malformed, or a number is none; or the file cannot be read.
    """
    steps: list[CleaningStep] = []
    try:
        table = _parse(file, numbers)
        problem = None
    except InputError as error:
        problem = error
    if problem or _may_be_ragged(table):
        good, steps = cleaning.find_malformed(file)
    try:
        if steps:
            table = _parse(_only_records(file, good), numbers).set_axis(good)
        elif problem:
            raise problem
    except InputError:
        _check_numbers(file, numbers)  # Names the line, if it is a number's fault.
        raise
    _check_first_numbers(table, file, numbers)
    if table.empty and not file.header:
        raise InputError(f"{file.label} is empty; give a file with at least one row.")
    for column in file.columns:
        if column not in numbers:
            table[column] = _strings(table[column])
    return table, steps


def read_csv_interactions(path: Path, name: str = "csv") -> InteractionData:
    """Reads a CSV file (`.csv`, `.csv.gz`, or the only one in a zip) with a header and a row an interaction.

    Columns: the user (`user_id`, `user`, `userId` or `customer_id`), the item (`item_id`, `item`, `itemId`, `movieId`
    or `article_id`), and, if there, `rating` (else 1) and `timestamp` in whole seconds (else the row's number).

    Raises:
        InputError: The file is missing or damaged, lacks the columns, or holds a wrong value.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of one .csv or .csv.gz file.")
    file = with_header(_only_csv(path), (), (*USER_COLUMNS, *ITEM_COLUMNS, "rating", "timestamp"))
    user, item = _first_of(file, USER_COLUMNS), _first_of(file, ITEM_COLUMNS)
    numbers = [column for column in ("rating", "timestamp") if column in file.columns]
    table, malformed = read_table(file, numbers)
    table, missing = cleaning.drop_missing(table[[user, item, *numbers]], file, [user, item, *numbers])
    if "rating" in numbers:
        cleaning.check_numbers(table, file, "rating", -_LARGEST, _LARGEST)
    if "timestamp" in numbers:
        cleaning.check_timestamps(table, file)
    table, repeats = cleaning.drop_repeats(table, file, [user, item])
    steps = [*malformed, *missing, *repeats]
    if "rating" not in numbers:
        table = table.assign(rating=1.0)
        steps.append(CleaningStep("rows without a rating column: rating is 1", len(table)))
    if "timestamp" not in numbers:
        table = table.assign(timestamp=np.arange(len(table)))
        steps.append(CleaningStep("rows without a timestamp column: file order stands for time", len(table)))
    interactions = cleaning.as_interactions(table.rename(columns={user: "user_id", item: "item_id"}))
    ids = interactions["item_id"].unique()
    return InteractionData(
        name=name,
        interactions=interactions,
        items=pd.DataFrame({"item_id": ids, "title": ids}),
        tags=empty_tags(),
        genome=empty_genome(),
        users=pd.DataFrame({"user_id": interactions["user_id"].unique()}),
        cleaning=tuple(steps),
    )


@contextlib.contextmanager
def reading(label: str) -> Iterator[None]:
    """Turns what can go wrong while a file is read into one sentence."""
    try:
        yield
    except _DAMAGED:
        raise InputError(f"{label} is damaged or was cut short; download it again.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{label} is not text in {error.encoding} as expected; convert the file.") from None
    except (ValueError, csv.Error) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. ")
        raise InputError(f"{label} is no well-formed table ({reason}); correct the file.") from None
    except OSError as error:
        raise InputError(f"{label} cannot be read: {error.strerror or error}; check the path and its rights.") from None
    except RuntimeError as error:
        raise InputError(f"{label} cannot be unpacked: {error}; unpack it and give the folder.") from None


def _in_zip(path: Path, member: zipfile.ZipInfo) -> TextFile:
    def open_member() -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            return _unpacked(archive.open(member), member.filename)

    return TextFile(f"{path}/{member.filename}", open_member, size=member.file_size)


def _unpacked(stream: IO[bytes], name: str) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if name.endswith(".gz") else stream


def _only_csv(path: Path) -> TextFile:
    """A file, or the only CSV file in a zip."""
    if path.suffix != ".zip":
        return on_disk(path)
    found = [file for name, file in list_files(path).items() if name.endswith(CSV_ENDINGS)]
    if len(found) != 1:
        raise InputError(f"{path} holds {len(found)} files ending in {' or '.join(CSV_ENDINGS)}; give a zip of one.")
    return found[0]


def _parse(file: TextFile, numbers: Sequence[str]) -> pd.DataFrame:
    """The one call of pandas. Strings come as categories: each is held once, which keeps millions of rows small."""
    with reading(file.label), file.open() as stream:
        delimiter = file.delimiter
        if len(delimiter) > 1:  # The fast parser wants a single character.
            stream, delimiter = io.BytesIO(stream.read().replace(delimiter.encode(), _UNIT_SEPARATOR)), "\x1f"
        return pd.read_csv(
            stream,
            sep=delimiter,
            header=0 if file.header else None,
            names=list(file.columns),
            dtype={column: "float64" if column in numbers else "category" for column in file.columns},
            encoding=file.encoding,
            keep_default_na=False,
            na_values=[""],
            quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE,
        )


def _may_be_ragged(table: pd.DataFrame) -> bool:
    """Whether rows may have too few fields (their last is missing) or the first too many (pandas makes it an index)."""
    return not isinstance(table.index, pd.RangeIndex) or bool(table.iloc[:, -1].isna().any())


def _only_records(file: TextFile, rows: Sequence[int]) -> TextFile:
    """A copy of the file in memory that holds only the given records (counted from 0)."""
    wanted = set(rows)
    text = io.StringIO()
    header = [list(file.columns)] if file.header else []
    records = itertools.chain(header, (fields for row, (_, fields) in enumerate(file.records()) if row in wanted))
    if file.delimiter == ",":
        csv.writer(text).writerows(records)
    else:
        text.writelines(f"{file.delimiter.join(fields)}\n" for fields in records)
    content = text.getvalue().encode(file.encoding)
    return dataclasses.replace(file, open=lambda: io.BytesIO(content))


def _strings(column: pd.Series) -> np.ndarray:
    """Stripped strings of a categorical column: object array, NaN where there is nothing."""
    values = np.array([str(value).strip() or np.nan for value in column.cat.categories] + [np.nan], dtype=object)
    return values[column.cat.codes.to_numpy()]


def _check_numbers(file: TextFile, numbers: Sequence[str]) -> None:
    """Raises `InputError` for the first well-formed record with a number that is none."""
    for line, fields in file.records():
        for column in numbers if len(fields) == len(file.columns) else ():
            cleaning.check_number(file, line, column, fields[file.columns.index(column)])


def _check_first_numbers(table: pd.DataFrame, file: TextFile, numbers: Sequence[str]) -> None:
    """Raises `InputError` for the first value of a column that is no number: pandas takes a column of `True` for 1."""
    first = {
        column: int(table.index[int(table[column].notna().to_numpy().argmax())]) for column in numbers if len(table)
    }
    last = max(first.values(), default=-1)
    for row, (line, fields) in enumerate(itertools.islice(file.records(), last + 1)):
        for column in numbers:
            if first[column] == row:
                cleaning.check_number(file, line, column, fields[file.columns.index(column)])


def _first_of(file: TextFile, names: Sequence[str]) -> str:
    for name in names:
        if name in file.columns:
            return name
    raise InputError(
        f"{file.label} lacks the column {names[0]} (or {', '.join(names[1:])}): its first line is "
        f"'{','.join(file.columns)}'; rename a column or give another file."
    )


def _csv_lines(lines: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Numbers each record by its first line: a quoted field may go over several."""
    reader, line = csv.reader(lines), 1
    for fields in reader:
        yield line, fields
        line = reader.line_num + 1


def _plain_lines(lines: io.TextIOWrapper, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        yield number, line.rstrip("\r\n").split(delimiter)
