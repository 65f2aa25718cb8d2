"""The plain CSV source, and files that are missing, damaged or no zip."""

import gzip
import tempfile
import zipfile
from pathlib import Path

from absl.testing import absltest, parameterized

from tff_rec.data.csv_file import list_files, read_csv_interactions
from tff_rec.errors import InputError


class FolderCase(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, content: bytes, name: str = "my.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


class CsvInteractionsTest(FolderCase):
    @parameterized.product(
        user=("user", "user_id", "userId", "customer_id"), item=("item", "item_id", "itemId", "movieId", "article_id")
    )
    def test_names_of_columns(self, user, item):
        data = read_csv_interactions(self.write(f"extra,{item},{user}\nx,i1,u1\nx,i2,u1\n".encode()))
        self.assertEqual(data.interactions.to_numpy().tolist(), [["u1", "i1", 1.0, 0], ["u1", "i2", 1.0, 1]])
        self.assertEqual(data.items.to_numpy().tolist(), [["i1", "i1"], ["i2", "i2"]])
        self.assertEqual(data.users["user_id"].tolist(), ["u1"])
        self.assertEqual(
            [step.what for step in data.cleaning],
            [
                "rows without a rating column: rating is 1",
                "rows without a timestamp column: file order stands for time",
            ],
        )

    def test_ratings_and_times(self):
        content = b"user,item,rating,timestamp\r\na,001,-2.5,7\r\na,001,3,8\r\nb,001,,8\r\n"
        data = read_csv_interactions(self.write(gzip.compress(content), "my.csv.gz"), "mine")
        self.assertEqual(data.interactions.to_numpy().tolist(), [["a", "001", -2.5, 7]])
        self.assertEqual(data.name, "mine")
        self.assertEqual([step.count for step in data.cleaning], [1, 1])

    @parameterized.parameters(
        (b"user,thing\na,b\n", r"my\.csv lacks the column item_id \(or item, itemId"),
        (b"item,rating\na,1\n", r"my\.csv lacks the column user_id"),
        (b"", r"my\.csv is empty"),
        (b"user,item\n", "csv has no interactions left"),
        (b"user,item,rating\na,b,abc\n", r"my\.csv, line 2: rating 'abc' is not a number"),
        (b"user,item,rating\na,b,1e999\n", r"my\.csv, line 2: rating '1e999' is not a number"),
        (b"user,item,rating\na,b,1e99\n", r"my\.csv, line 2: rating 1e\+99 is not from -3\.40282e\+38 to"),
        (b"user,item,timestamp\na,b,-1\n", r"my\.csv, line 2: timestamp -1 is negative"),
        (b"user,item,rating\na,b,True\na,c,False\n", r"my\.csv, line 2: rating 'True' is not a number"),
        (b"user,User,item\na,b,c\n", r"my\.csv has the column user twice; rename or remove one"),
        (b"user,item\na,b\na\n1,2,3\n", r"my\.csv, line 3: 1 fields .*, and 2 of the 3 rows are malformed; give a"),
        (b"user,item\na,b,c\n", r"my\.csv, line 2: 3 fields .*, and 1 of the 1 rows are malformed; give a"),
        (b'user,item,x\na,b,c\na,"b\na,d,e\n', r"my\.csv, line 3: 2 fields .*, for a quote is not closed; correct"),
        (b"user,item,rating\na\na,b,1\na,c,abc\n", r"my\.csv, line 4: rating 'abc' is not a number"),
        (b"user,item,rating\na\na,b,1\na,c,nan\n", r"my\.csv, line 4: rating 'nan' is not a number"),
        (b"user,item,timestamp\na\na,b,1\na,c,-1\n", r"my\.csv, line 4: timestamp -1 is negative"),
        (b'user,item\na,"' + b"b" * 200_000 + b"\n", r"my\.csv is no well-formed table \(field larger"),
    )
    def test_wrong_content(self, content, message):
        with self.assertRaisesRegex(InputError, message):
            read_csv_interactions(self.write(content))

    @parameterized.parameters(
        (b"user,item,x\na,b\na,b,1\nc,d,\ne,f,2\n", 1, (2,)),  # Only an unused column is short.
        (b"user,item,x\na,b,1,9\na,b,1\nc,d,2\ne,f,3\n", 1, (2,)),  # Pandas takes a first row as long for an index.
        (b'user,item,x\n"a",b,"1\n2"\n\nz\nc,d,2\nz,z\ne,f,3\n1,2,3,4\n', 3, (5, 7, 9)),
        (b"user,item,x\na,b,1\nz\nz\nz\nz\nc,d,2\ng,,2\ne,f,3\n", 4, (3, 4, 5)),
    )
    def test_malformed_rows_are_dropped_and_counted(self, content, count, lines):
        data = read_csv_interactions(self.write(content))
        pairs = data.interactions[["user_id", "item_id"]].to_numpy().tolist()
        self.assertEqual(pairs, [["a", "b"], ["c", "d"], ["e", "f"]])
        self.assertEqual(data.cleaning[0].what, "malformed rows of my.csv dropped: wrong number of fields")
        self.assertEqual(data.cleaning[0].count, count)
        self.assertEqual(data.cleaning[0].examples, tuple(f"my.csv:{line}" for line in lines))

    def test_lines_of_later_steps_count_malformed_rows(self):
        data = read_csv_interactions(self.write(b"user,item,rating\na\na,b,1\n,b,1\na,b,2\nc,d,1\n"))
        self.assertEqual([step.examples for step in data.cleaning[:3]], [("my.csv:2",), ("my.csv:4",), ("my.csv:5",)])

    def test_names_of_columns_in_any_case_and_unused_ones_twice(self):
        data = read_csv_interactions(self.write(b"User,X,ITEM,x,X,,,Rating\na,1,b,2,3,4,5,0.5\n"))
        self.assertEqual(data.interactions.to_numpy().tolist(), [["a", "b", 0.5, 0]])

    def test_zip_of_one_file(self):
        path = self.folder / "any.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner/a.csv", "user,item\na,b\n")
            archive.writestr("readme.txt", "")
        self.assertLen(read_csv_interactions(path).interactions, 1)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("b.csv", "")
        with self.assertRaisesRegex(InputError, r"any\.zip holds 2 files ending in \.csv or \.csv\.gz; give a zip"):
            read_csv_interactions(path)

    def test_missing_file(self):
        with self.assertRaisesRegex(InputError, r"none\.csv cannot be read: No such file or directory; check the path"):
            read_csv_interactions(self.folder / "none.csv")

    def test_folder(self):
        with self.assertRaisesRegex(InputError, "is a folder; give the path of one"):
            read_csv_interactions(self.folder)

    def test_no_gzip(self):
        with self.assertRaisesRegex(InputError, "damaged"):
            read_csv_interactions(self.write(b"user,item\na,b\n", "my.csv.gz"))

    def test_gzip_cut_short(self):
        content = b"user,item\n" + b"".join(f"user{i * 7919},item{i * 104729}\n".encode() for i in range(50_000))
        with self.assertRaisesRegex(InputError, "damaged or was cut short"):
            read_csv_interactions(self.write(gzip.compress(content)[:-100_000], "my.csv.gz"))


class ListFilesTest(FolderCase):
    def test_missing(self):
        with self.assertRaisesRegex(InputError, "does not exist; give the path"):
            list_files(self.folder / "nowhere")

    def test_no_zip(self):
        with self.assertRaisesRegex(InputError, r"my\.csv is no zip file"):
            list_files(self.write(b"user,item\n"))

    def test_zip_cut_in_half(self):
        path = self.folder / "whole.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.csv", "1,2\n" * 1000)
        content = path.read_bytes()
        with self.assertRaisesRegex(InputError, r"half\.zip is a zip file that was cut short; download it again"):
            list_files(self.write(content[: len(content) // 2], "half.zip"))

    def test_zip_with_a_wrong_byte(self):
        path = self.folder / "whole.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.csv", "user,item\n" + "a,b\n" * 1000)
        content = bytearray(path.read_bytes())
        content[2000] ^= 1
        file = list_files(self.write(bytes(content), "wrong.zip"))["ratings.csv"]
        with self.assertRaisesRegex(InputError, r"wrong\.zip/ratings\.csv is damaged"):
            list(file.records())

    def test_encrypted_member(self):
        path = self.folder / "locked.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.csv", "1,2\n")
        content = bytearray(path.read_bytes())
        content[6] |= 1  # The flag in the local header,
        content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory.
        file = list_files(self.write(bytes(content), "locked.zip"))["ratings.csv"]
        with self.assertRaisesRegex(InputError, "cannot be unpacked: .*encrypted.*; unpack it"):
            list(file.records())

    def test_of_two_subfolders_neither_is_searched(self):
        for name in ("a", "b"):
            (self.folder / name).mkdir()
            (self.folder / name / "ratings.csv").touch()
        self.assertEmpty(list_files(self.folder))

    def test_a_resource_folder_of_macos_is_no_subfolder(self):
        for name in ("a", "__MACOSX"):
            (self.folder / name).mkdir()
            (self.folder / name / "ratings.csv").touch()
        self.assertEqual(list_files(self.folder)["ratings.csv"].label, str(self.folder / "a" / "ratings.csv"))

    def test_files_of_the_folder_itself_come_first(self):
        (self.folder / "inner").mkdir()
        (self.folder / "inner" / "ratings.csv").touch()
        path = self.write(b"x", "ratings.csv")
        self.assertEqual(list_files(self.folder)["ratings.csv"].label, str(path))


if __name__ == "__main__":
    absltest.main()
