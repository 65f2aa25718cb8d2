"""Every published layout of MovieLens in small, and what happens to its damaged files."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
from absl.testing import absltest, parameterized

from tff_rec.data.movielens import read_movielens
from tff_rec.errors import InputError

FILES_100K = {
    "u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t5\t881250000\n",
    "u.item": (
        "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        '302|Café "X" (1997)|01-Jan-1997||http://y|0|0|0|0|0|0|1|0|0|0|1|0|0|0|1|0|1|0|0\n'
        "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    ).encode("latin-1"),
    "u.user": b"196|49|M|writer|55105\n186|39|F|executive|00000\n",
}
FILES_1M = {
    "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
    "movies.dat": "661::Misérables, Les (1995)::Drama|Musical\n1193::Cuckoo's Nest (1975)::Drama\n".encode("latin-1"),
    "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n",
}
FILES_10M = {
    "ratings.dat": b"1::122::5::838985046\n1::185::4.5::838983525\n2::122::0.5::868246450\n",
    "movies.dat": "122::Boomerang: Part 2 (1992)::Comedy|Romance\n185::Misérables (1995)::Action\n".encode(),
    "tags.dat": '15::122::"excellent!::1215184630\n20::185::café life::1188263867\n'.encode(),
}
FILES_CSV = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,4.0,1112484676\n2,2,0.5,1112484819\n",
    "movies.csv": (
        b'movieId,title,genres\n2,"Jumanji, The (1995)",Adventure|Children\n29,Lost (2006-2008),(no genres listed)\n'
    ),
    "tags.csv": b'userId,movieId,tag,timestamp\n18,2,"dark, ""hero""",1240597180\n18,29,NA,1240597181\n',
    "links.csv": b"movieId,imdbId,tmdbId\n2,0113497,8844\n29,0112682,\n",
    "genome-scores.csv": b"movieId,tagId,relevance\n2,1,0.025\n2,2,0.5\n29,1,1\n",
    "genome-tags.csv": b"tagId,tag\n1,007\n2,18th century\n",
}
LAYOUTS = {"ml-100k": FILES_100K, "ml-1m": FILES_1M, "ml-10m": FILES_10M, "ml-20m": FILES_CSV}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes], inner: str = "ml/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(inner + name, content)
        archive.writestr("__MACOSX/ml/._ratings.csv", b"junk")
    return path


class MovieLensCase(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def read_csv_edition(self, **changed: bytes | None):
        """Reads the CSV layout with some files changed (`ratings=b"…"`) or left out (None)."""
        files = {**FILES_CSV, **{f"{name.replace('_', '-')}.csv": content for name, content in changed.items()}}
        files = {name: content for name, content in files.items() if content is not None}
        return read_movielens(write_folder(self.folder / "ml", files), "ml-20m")


class LayoutsTest(MovieLensCase):
    @parameterized.parameters(*LAYOUTS)
    def test_folder_parent_zip_and_flat_zip_give_the_same(self, name):
        files = LAYOUTS[name]
        folder = write_folder(self.folder / "parent" / "inner", files)
        expected = read_movielens(folder, name)
        paths = [folder.parent, write_zip(self.folder / "a.zip", files), write_zip(self.folder / "b.zip", files, "")]
        for path in paths:
            data = read_movielens(path, name)
            for table in ("interactions", "items", "tags", "genome", "users"):
                self.assertTrue(getattr(data, table).equals(getattr(expected, table)), (path, table))

    @parameterized.parameters(*LAYOUTS)
    def test_types(self, name):
        interactions = read_movielens(write_folder(self.folder / "ml", LAYOUTS[name]), name).interactions
        self.assertEqual(list(interactions.columns), ["user_id", "item_id", "rating", "timestamp"])
        self.assertEqual(interactions["rating"].dtype, np.float32)
        self.assertEqual(interactions["timestamp"].dtype, np.int64)
        self.assertTrue(all(isinstance(value, str) for value in interactions[["user_id", "item_id"]].to_numpy().flat))

    def test_100k(self):
        data = read_movielens(write_folder(self.folder / "ml", FILES_100K), "ml-100k")
        self.assertEqual(
            data.interactions.to_numpy().tolist(),
            [["196", "242", 3.0, 881250949], ["186", "302", 3.0, 891717742], ["196", "302", 5.0, 881250000]],
        )
        self.assertEqual(
            data.items.to_numpy().tolist(),
            [
                ["242", "Kolya (1996)", "Comedy", "1996"],
                ["302", 'Café "X" (1997)', "Crime|Film-Noir|Romance|Thriller", "1997"],
                ["267", "unknown", "", ""],
            ],
        )
        self.assertEqual(data.users.loc[0].tolist(), ["196", "M", "49", "writer", "55105"])

    def test_100k_takes_genre_names_from_u_genre(self):
        genres = "\n".join(f"Genre{i}|{i}" for i in range(19)) + "\n\n"
        data = read_movielens(write_folder(self.folder / "ml", {**FILES_100K, "u.genre": genres.encode()}), "ml-100k")
        self.assertEqual(data.items["genres"].tolist()[0], "Genre5")

    def test_1m(self):
        data = read_movielens(write_folder(self.folder / "ml", FILES_1M), "ml-1m")
        self.assertEqual(data.items.loc[0].tolist(), ["661", "Misérables, Les (1995)", "Drama|Musical", "1995"])
        self.assertEqual(data.users.loc[1].tolist(), ["2", "M", "56", "16", "70072"])
        self.assertEmpty(data.tags)
        self.assertEqual(data.cleaning, ())

    def test_10m(self):
        data = read_movielens(write_folder(self.folder / "ml", FILES_10M), "ml-10m")
        self.assertEqual(data.interactions["rating"].tolist(), [5.0, 4.5, 0.5])
        self.assertEqual(data.items["title"].tolist(), ["Boomerang: Part 2 (1992)", "Misérables (1995)"])
        self.assertEqual(data.tags["tag"].tolist(), ['"excellent!', "café life"])
        self.assertEqual(data.users["user_id"].tolist(), ["1", "2"])

    def test_csv(self):
        data = self.read_csv_edition()
        self.assertEqual(data.items.loc[0].tolist(), ["2", "Jumanji, The (1995)", "Adventure|Children", "1995"])
        self.assertEqual(data.items.loc[1].tolist(), ["29", "Lost (2006-2008)", "", "2006"])
        self.assertEqual(data.tags["tag"].tolist(), ['dark, "hero"', "NA"])
        self.assertEqual(
            data.genome.to_numpy().tolist(),
            [["2", "007", np.float32(0.025)], ["2", "18th century", 0.5], ["29", "007", 1.0]],
        )

    def test_csv_with_crlf_and_byte_order_mark(self):
        crlf = {name: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") for name, content in FILES_CSV.items()}
        data = read_movielens(write_folder(self.folder / "crlf", crlf), "ml-25m")
        expected = self.read_csv_edition()
        for table in ("interactions", "items", "tags", "genome"):
            self.assertTrue(getattr(data, table).equals(getattr(expected, table)), table)

    def test_csv_without_tags_and_genome(self):
        data = self.read_csv_edition(tags=None, genome_scores=None, genome_tags=None)
        self.assertEmpty(data.tags)
        self.assertEmpty(data.genome)

    def test_ids_are_stripped_and_blank_lines_skipped(self):
        ratings = b"userId,movieId,rating,timestamp\n 007 ,2,3.5,1\n\n8, 29 ,4,2\n"
        data = self.read_csv_edition(ratings=ratings)
        self.assertEqual(data.interactions["user_id"].tolist(), ["007", "8"])
        self.assertEqual(data.interactions["item_id"].tolist(), ["2", "29"])


class CleaningCountsTest(MovieLensCase):
    def test_missing_values_and_repeats_are_dropped_and_counted(self):
        # Lines: 2 good, 3 no rating, 4 repeat of 2, 5 blank user, 6 no timestamp, 8 (after a blank line) repeat of 2.
        rows = b"1,2,3.5,10\n1,29,,11\n1,2,5,12\n  ,2,1,13\n3,2,1,\n\n1,2,1,14\n4,29,2,15\n"
        data = self.read_csv_edition(ratings=b"userId,movieId,rating,timestamp\n" + rows)
        self.assertEqual(data.interactions.to_numpy().tolist(), [["1", "2", 3.5, 10], ["4", "29", 2.0, 15]])
        self.assertEqual([step.count for step in data.cleaning], [3, 2])
        self.assertEqual(data.cleaning[0].examples, ("ratings.csv:3", "ratings.csv:5", "ratings.csv:6"))
        self.assertEqual(data.cleaning[1].examples, ("ratings.csv:4", "ratings.csv:8"))
        self.assertEqual(data.cleaning[0].what, "rows of ratings.csv dropped: no value")
        self.assertEqual(
            data.cleaning[1].what, "rows of ratings.csv dropped: same user_id and item_id as an earlier row"
        )

    def test_malformed_rows_are_dropped_and_counted(self):
        ratings = b"userId,movieId,rating,timestamp\n1,2,3.5,10\n1,29,4\n1,29,4,11,12\n\n2,2\n2,2,5,13\n2,29,1,14\n"
        tags = b"userId,movieId,tag,timestamp\n18,2,a,b,1\n18,29,dark,3\n"
        data = self.read_csv_edition(ratings=ratings, tags=tags)
        self.assertEqual(data.interactions["timestamp"].tolist(), [10, 13, 14])
        self.assertEqual(data.tags["tag"].tolist(), ["dark"])
        self.assertEqual(
            [(step.what, step.count, step.examples) for step in data.cleaning],
            [
                (
                    "malformed rows of ratings.csv dropped: wrong number of fields",
                    3,
                    ("ratings.csv:3", "ratings.csv:4", "ratings.csv:6"),
                ),
                ("malformed rows of tags.csv dropped: wrong number of fields", 1, ("tags.csv:2",)),
            ],
        )

    @parameterized.parameters(
        ("ml-100k", "u.data", b"\t"), ("ml-1m", "ratings.dat", b"::"), ("ml-10m", "tags.dat", b"::")
    )
    def test_malformed_rows_of_other_layouts(self, name, changed, delimiter):
        files = LAYOUTS[name]
        bad = delimiter.join([b"1"] * 5) + b"\n" + delimiter.join([b"1"] * 3) + b"\n"
        expected = read_movielens(write_folder(self.folder / "good", files), name)
        data = read_movielens(write_folder(self.folder / "bad", {**files, changed: bad + files[changed]}), name)
        self.assertTrue(data.interactions.equals(expected.interactions))
        self.assertTrue(data.tags.equals(expected.tags))
        self.assertEqual([step.count for step in data.cleaning], [2])
        self.assertEqual(data.cleaning[0].examples, (f"{changed}:1", f"{changed}:2"))

    def test_missing_values_in_dat_files(self):
        ratings = b"1::2::3::10\n1::::3::11\n2::3::::12\n"
        movies = b"2::A (1990)::Drama\n"
        folder = write_folder(self.folder / "ml", {**FILES_1M, "ratings.dat": ratings, "movies.dat": movies})
        data = read_movielens(folder, "ml-1m")
        self.assertLen(data.interactions, 1)
        self.assertEqual(data.cleaning[0].examples, ("ratings.dat:2", "ratings.dat:3"))

    def test_tags_without_text_are_dropped(self):
        tags = b"userId,movieId,tag,timestamp\n18,2,,1\n18,2, ,2\n18,29,dark,3\n"
        data = self.read_csv_edition(tags=tags)
        self.assertEqual(data.tags["tag"].tolist(), ["dark"])
        self.assertEqual(data.cleaning[0].count, 2)
        self.assertEqual(data.cleaning[0].examples, ("tags.csv:2", "tags.csv:3"))

    def test_rated_movies_that_are_not_listed_get_their_id_for_a_title(self):
        data = self.read_csv_edition(movies=b"movieId,title,genres\n2,,Drama\n2,Again,Drama\n")
        self.assertEqual(data.items.to_numpy().tolist(), [["2", "2", "Drama", ""], ["29", "29", "", ""]])
        self.assertEqual([step.count for step in data.cleaning], [1, 1])
        self.assertEqual(data.cleaning[1].examples, ("29",))

    def test_quoted_line_breaks_do_not_shift_line_numbers(self):
        tags = b'userId,movieId,tag,timestamp\n18,2,"two\nlines",1\n18,29,,3\n'
        self.assertEqual(self.read_csv_edition(tags=tags).cleaning[0].examples, ("tags.csv:4",))


class BadInputTest(MovieLensCase):
    @parameterized.parameters(
        ("1,2,abc,10", r"ratings\.csv, line 3: rating 'abc' is not a number; correct or remove the row\."),
        ("1,2,nan,10", r"ratings\.csv, line 3: rating 'nan' is not a number"),
        ("1,2,3,late", r"ratings\.csv, line 3: timestamp 'late' is not a number"),
        ("1,2,3,-5", r"ratings\.csv, line 3: timestamp -5 is negative"),
        ("1,2,3,5.5", r"ratings\.csv, line 3: timestamp 5\.5 is no whole number"),
        ("1,2,3,1e300", r"ratings\.csv, line 3: timestamp 1e\+300 is no whole number"),
        ("1,2,7,10", r"ratings\.csv, line 3: rating 7 is not from 0\.5 to 5 in steps of 0\.5"),
        ("1,2,inf,10", r"ratings\.csv, line 3: rating inf is not from 0\.5 to 5"),
        ("1,2,3.3,10", r"ratings\.csv, line 3: rating 3\.3 is not from"),
        ("1,2,3\n1\n1,2,3,4,5", r"ratings\.csv, line 3: 3 fields where there should be 4 \(user_id, item_id, rating, "),
        ("1\n1,2,abc,10", r"ratings\.csv, line 4: rating 'abc' is not a number"),
        ("1\n1,2,7,10", r"ratings\.csv, line 4: rating 7 is not from"),
    )
    def test_wrong_rows(self, row, message):
        ratings = f"userId,movieId,rating,timestamp\n9,9,4,1\n{row}\n1,29,4,1\n".encode()
        with self.assertRaisesRegex(InputError, message):
            self.read_csv_edition(ratings=ratings)

    @parameterized.parameters(
        ("ml-1m", FILES_100K, "is no ml-1m, which has ratings.dat: it holds u.data; choose another source"),
        ("ml-100k", FILES_CSV, "is no ml-100k, which has u.data: it holds ratings.csv"),
        ("ml-25m", FILES_1M, "is no ml-25m, which has ratings.csv: it holds ratings.dat"),
        ("ml-1m", FILES_10M, "is no ml-1m, which has ratings.dat and users.dat: it holds no users.dat"),
        ("ml-10m", FILES_1M, "is no ml-10m, which has ratings.dat but no users.dat: it holds both"),
    )
    def test_another_edition(self, name, files, message):
        with self.assertRaisesRegex(InputError, message):
            read_movielens(write_folder(self.folder / "ml", files), name)

    def test_first_row_with_too_many_fields(self):
        ratings = b"userId,movieId,rating,timestamp\n1,2,3,4,5\n"
        with self.assertRaisesRegex(InputError, r"line 2: 5 fields where there should be 4"):
            self.read_csv_edition(ratings=ratings)

    @parameterized.parameters(
        (b"1::2::3.5::10\n", r"ratings\.dat, line 1: rating 3\.5 is not from 1 to 5 in steps of 1"),
        (b"1,2,3,10\n1,3,3,11\n", r"ratings\.dat, line 1: 1 fields .*, and 2 of the 2 rows are malformed; give a file"),
        (b"1::2::3::10\n1::3::x::10\n", r"ratings\.dat, line 2: rating 'x' is not a number"),
    )
    def test_wrong_rows_of_1m(self, ratings, message):
        folder = write_folder(self.folder / "ml", {**FILES_1M, "ratings.dat": ratings})
        with self.assertRaisesRegex(InputError, message):
            read_movielens(folder, "ml-1m")

    @parameterized.parameters(
        (dict(ratings=b"userId,movieId,stars,timestamp\n1,2,3,4\n"), r"ratings\.csv lacks the column rating"),
        (dict(ratings=b""), r"ratings\.csv is empty"),
        (dict(ratings=b"userId,movieId,rating,timestamp\n"), "ml-20m has no interactions left"),
        (dict(ratings=None), "holds no MovieLens ratings"),
        (dict(movies=None), r"lacks the file movies\.csv"),
        (dict(genome_tags=None), r"lacks the file genome-tags\.csv"),
        (dict(movies=b"movieId,title,genres\n2,Mis\xe9rables,Drama\n"), r"movies\.csv is not text in utf-8"),
        (dict(movies=b'movieId,title,genres\n2,"open,Drama\n'), r"movies\.csv, line 2: 2 fields"),
        (dict(genome_scores=b"movieId,tagId,relevance\n2,1,1.5\n"), r"genome-scores\.csv, line 2: relevance 1\.5"),
    )
    def test_wrong_files(self, changed, message):
        with self.assertRaisesRegex(InputError, message):
            self.read_csv_edition(**changed)

    def test_empty_dat_file(self):
        folder = write_folder(self.folder / "ml", {**FILES_1M, "ratings.dat": b""})
        with self.assertRaisesRegex(InputError, r"ratings\.dat is empty"):
            read_movielens(folder, "ml-1m")


if __name__ == "__main__":
    absltest.main()
