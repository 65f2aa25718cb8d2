"""Data sets by name: where they are looked for, and what is said if they are not found."""

import os
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

from absl.testing import absltest, parameterized

from tff_rec.data.names import SOURCES
from tff_rec.data.sources import read_source
from tff_rec.errors import InputError

RATINGS = "userId,movieId,rating,timestamp\n1,2,3.5,10\n1,3,4,11\n2,2,5,12\n"
MOVIES = "movieId,title,genres\n2,A (1990),Drama\n3,B (1991),Drama\n"


class SourcesTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.enterContext(mock.patch.dict(os.environ, {"TFF_REC_DATA": str(self.root)}))

    def write_zip(self, path: str, ratings: str = RATINGS) -> Path:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(self.root / path, "w") as archive:
            archive.writestr("ml/ratings.csv", ratings)
            archive.writestr("ml/movies.csv", MOVIES)
        return self.root / path

    def write_folder(self, path: str) -> Path:
        (self.root / path).mkdir(parents=True)
        (self.root / path / "ratings.csv").write_text(RATINGS)
        (self.root / path / "movies.csv").write_text(MOVIES)
        return self.root / path

    def test_published_zip_before_others(self):
        self.write_zip("ml-25m/another.zip", RATINGS.replace("3.5", "0.5"))
        self.write_zip("ml-25m/ml-25m.zip")
        self.assertEqual(read_source("ml-25m").interactions["rating"][0], 3.5)

    def test_any_one_zip(self):
        self.write_zip("ml-25m/renamed.zip")
        self.assertEqual(read_source("ml-25m").name, "ml-25m")

    @parameterized.parameters("ml-32m", "ml-32m/inner")
    def test_unpacked_files(self, folder):
        self.write_folder(folder)
        self.assertLen(read_source("ml-32m").interactions, 3)

    @parameterized.parameters("ml-32m", "ml-32m/inner")
    def test_unpacked_files_before_a_zip(self, folder):
        self.write_folder(folder)
        (self.root / "ml-32m" / "__MACOSX").mkdir()
        self.write_zip("ml-32m/other.zip", "")
        self.write_zip("ml-32m/ml-32m.zip", "")
        self.assertLen(read_source("ml-32m").interactions, 3)
        self.assertLen(read_source("ml-32m", self.root / "ml-32m").interactions, 3)

    def test_path_before_environment(self):
        path = self.write_folder("elsewhere")
        self.assertLen(read_source("ml-32m", str(path)).interactions, 3)
        self.assertLen(read_source("ml-32m", self.write_zip("a.zip")).interactions, 3)

    def test_hm(self):
        (self.root / "hm").mkdir()
        (self.root / "hm" / "transactions_x.csv").write_text("t_dat,customer_id,article_id\n2020-09-16,a,0108775015\n")
        self.assertEqual(read_source("hm").items["product_code"].tolist(), ["0108775"])

    @parameterized.parameters("any.zip", "transactions_train.csv.zip", "hm.zip")
    def test_zip_of_hm(self, name):
        (self.root / "hm").mkdir()
        path = self.root / "hm" / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("transactions_train.csv", "t_dat,customer_id,article_id\n2020-09-16,a,0108775015\n")
        for given in (None, path, path.parent):
            self.assertLen(read_source("hm", given).interactions, 1)

    @parameterized.parameters("any.zip", "a.csv.zip")
    def test_zip_of_csv(self, name):
        (self.root / "csv").mkdir()
        path = self.root / "csv" / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.csv", "user,item\na,b\n")
        for given in (None, path, path.parent):
            self.assertLen(read_source("csv", given).interactions, 1)

    def test_csv(self):
        (self.root / "csv").mkdir()
        (self.root / "csv" / "a.csv").write_text("user,item\na,b\n")
        self.assertLen(read_source("csv").interactions, 1)
        (self.root / "csv" / "b.csv").touch()
        with self.assertRaisesRegex(InputError, r"holds 2 files ending in \.csv or \.csv\.gz; give the path of one"):
            read_source("csv")
        self.assertLen(read_source("csv", self.root / "csv" / "a.csv").interactions, 1)

    def test_synthetic(self):
        self.assertEqual(read_source("synthetic").name, "synthetic")
        with self.assertRaisesRegex(InputError, "synthetic data is generated"):
            read_source("synthetic", self.root)

    def test_thresholds(self):
        self.write_folder("ml-32m")
        data = read_source("ml-32m", min_item_users=2)
        self.assertEqual(data.interactions["item_id"].unique().tolist(), ["2"])
        with self.assertRaisesRegex(InputError, "is negative; give 0 or more"):
            read_source("ml-32m", min_user_items=-1)

    def test_unknown_name(self):
        with self.assertRaisesRegex(
            InputError, "no data source 'netflix'; choose one of synthetic, ml-100k, .*, hm, csv"
        ):
            read_source("netflix")
        self.assertLen(SOURCES, 11)

    def test_nothing_found(self):
        with self.assertRaisesRegex(
            InputError, r"no ml-1m files in .*; give --data\.path, or run scripts/download_data"
        ):
            read_source("ml-1m")
        (self.root / "ml-1m").mkdir()
        with self.assertRaisesRegex(InputError, "no ml-1m files in"):
            read_source("ml-1m")

    def test_environment_not_set(self):
        with (
            mock.patch.dict(os.environ, clear=True),
            self.assertRaisesRegex(InputError, "TFF_REC_DATA is not set; give"),
        ):
            read_source("ml-1m")

    def test_missing_path(self):
        with self.assertRaisesRegex(InputError, r"gone\.zip does not exist"):
            read_source("ml-1m", self.root / "gone.zip")


if __name__ == "__main__":
    absltest.main()
