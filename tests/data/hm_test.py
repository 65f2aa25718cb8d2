"""H&M's files in small: folder, zip and single file, with and without articles and customers."""

import gzip
import tempfile
import zipfile
from pathlib import Path

from absl.testing import absltest, parameterized

from tff_rec.data.hm import read_hm
from tff_rec.errors import InputError

DAY = 1600214400  # 2020-09-16, midnight UTC.
TRANSACTIONS = (
    b"t_dat,customer_id,article_id,price,sales_channel_id\n"
    b"2020-09-16,aa,0108775015,0.05,2\n"
    b"2020-09-16,bb,0108775044,0.03,1\n"
    b"2020-09-17,aa,0108775015,0.05,2\n"
    b"2020-09-18,aa,0999999001,0.05,2\n"
)
ARTICLES = (
    b"article_id,product_code,prod_name,product_type_no,colour_group_name,detail_desc\n"
    b'0108775015,0108775,Strap top,253,Black,"Jersey top, narrow"\n'
    b"0108775044,0108775,Strap top,253,,\n"
    b"0108775044,0108775,Again,253,White,\n"
    b"0000000001,0000000,Never bought,253,White,\n"
)
CUSTOMERS = (
    b"customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code\n"
    b"zz,,,ACTIVE,NONE,49.0,1\naa,1.0,1.0,ACTIVE,Regularly,24.0,2\n"
)


class HmTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, **files: bytes) -> Path:
        for name, content in files.items():
            (self.folder / f"{name}.csv").write_bytes(content)
        return self.folder

    def test_interactions_keep_ids_as_written_and_drop_repeats(self):
        data = read_hm(self.write(transactions_train=TRANSACTIONS))
        self.assertEqual(
            data.interactions.to_numpy().tolist(),
            [
                ["aa", "0108775015", 1.0, DAY],
                ["bb", "0108775044", 1.0, DAY],
                ["aa", "0999999001", 1.0, DAY + 2 * 86400],
            ],
        )
        self.assertEqual(data.cleaning[0].what, "transactions file read: transactions_train.csv")
        self.assertEqual(data.cleaning[1].count, 1)
        self.assertEqual(data.cleaning[1].examples, ("transactions_train.csv:4",))

    def test_without_articles_the_id_tells_the_product(self):
        data = read_hm(self.write(transactions_train=TRANSACTIONS))
        self.assertEqual(data.items.loc[0].tolist(), ["0108775015", "0108775015", "0108775"])
        self.assertEqual(data.item_feature_columns, ("product_code",))
        self.assertEqual(data.users["user_id"].tolist(), ["aa", "bb"])

    def test_articles(self):
        data = read_hm(self.write(transactions_train=TRANSACTIONS, articles=ARTICLES))
        self.assertEqual(data.item_feature_columns, ("product_code", "prod_name", "colour_group_name"))
        self.assertEqual(
            data.items.to_numpy().tolist(),
            [
                ["0108775015", "Strap top", "0108775", "Strap top", "Black"],
                ["0108775044", "Strap top", "0108775", "Strap top", ""],
                ["0000000001", "Never bought", "0000000", "Never bought", "White"],
                ["0999999001", "0999999001", "0999999", "", ""],
            ],
        )
        self.assertEqual([step.count for step in data.cleaning], [1, 1, 1, 1])
        self.assertEqual(data.cleaning[3].examples, ("0999999001",))

    def test_customers_of_the_data_only(self):
        data = read_hm(self.write(transactions_train=TRANSACTIONS, customers=CUSTOMERS))
        self.assertEqual(data.users.to_numpy().tolist(), [["aa", "24", "ACTIVE", "Regularly"], ["bb", "", "", ""]])

    def test_of_several_transactions_the_published_name_then_the_largest(self):
        self.write(transactions_a=TRANSACTIONS, transactions_b=TRANSACTIONS + b"2020-09-19,cc,0108775015,0.05,2\n")
        self.assertIn("transactions_b.csv", read_hm(self.folder).cleaning[0].what)
        self.write(transactions_train=TRANSACTIONS)
        self.assertIn("transactions_train.csv", read_hm(self.folder).cleaning[0].what)

    def test_a_transactions_file_takes_articles_beside_it(self):
        self.write(transactions_train=b"", articles=ARTICLES)
        path = self.folder / "transactions_mine.csv.gz"
        path.write_bytes(gzip.compress(TRANSACTIONS))
        self.assertLen(read_hm(path).items, 4)

    def test_zip(self):
        with zipfile.ZipFile(self.folder / "hm.zip", "w") as archive:
            archive.writestr("hm/transactions_train.csv.gz", gzip.compress(TRANSACTIONS))
            archive.writestr("hm/articles.csv", ARTICLES)
        data = read_hm(self.folder / "hm.zip")
        self.assertLen(data.interactions, 3)
        self.assertLen(data.items, 4)

    @parameterized.parameters(
        (b"2020-13-45,aa,1,0.1,2\n", r"transactions_train\.csv, line 2: t_dat '2020-13-45' is not a date"),
        (b"1969-12-31,aa,1,0.1,2\n", r"line 2: t_dat '1969-12-31' is not a date"),
        (
            b"2020-09-16,aa,1,0.1,2\n1\n2\n",
            r"line 3: 1 fields where there should be 5 .* 2 of the 3 rows are malformed",
        ),
        (b"", "hm has no interactions left"),
    )
    def test_wrong_rows(self, rows, message):
        header = b"t_dat,customer_id,article_id,price,sales_channel_id\n"
        with self.assertRaisesRegex(InputError, message):
            read_hm(self.write(transactions_train=header + rows))

    def test_malformed_rows_are_dropped_and_counted(self):
        rows = TRANSACTIONS + b"2020-09-16,cc,1,0.1\n2020-09-16,cc,2,0.1,2,3\n2020-09-16,cc,3,0.1,\n"
        articles, customers = ARTICLES + b"1,2\n", CUSTOMERS + b"cc\n"
        data = read_hm(self.write(transactions_train=rows, articles=articles, customers=customers))
        self.assertEqual(data.interactions["item_id"].tolist(), ["0108775015", "0108775044", "0999999001", "3"])
        malformed = [(step.count, step.examples) for step in data.cleaning if "malformed" in step.what]
        places = [("transactions_train.csv:6", "transactions_train.csv:7"), ("articles.csv:6",), ("customers.csv:4",)]
        self.assertEqual(malformed, list(zip((2, 1, 1), places, strict=True)))

    def test_single_files_as_kaggle_packs_them(self):
        for name, content in {"transactions_train": TRANSACTIONS, "articles": ARTICLES}.items():
            with zipfile.ZipFile(self.folder / f"{name}.csv.zip", "w") as archive:
                archive.writestr(f"{name}.csv", content)
        self.assertLen(read_hm(self.folder).items, 4)
        self.assertLen(read_hm(self.folder / "transactions_train.csv.zip").items, 4)

    def test_lacking_column(self):
        with self.assertRaisesRegex(InputError, r"transactions_train\.csv lacks the column t_dat"):
            read_hm(self.write(transactions_train=b"customer_id,article_id\na,b\n"))

    def test_no_transactions(self):
        with self.assertRaisesRegex(InputError, r"holds no transactions\*\.csv"):
            read_hm(self.write(articles=ARTICLES))

    def test_gz_cut_short(self):
        path = self.folder / "transactions_train.csv.gz"
        path.write_bytes(gzip.compress(TRANSACTIONS * 1)[:-20])
        with self.assertRaisesRegex(InputError, "damaged or was cut short"):
            read_hm(self.folder)


if __name__ == "__main__":
    absltest.main()
