"""What a script measured stands in the README as it stands in the file beside it, and nowhere else."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest

from tff_rec.errors import InputError
from tff_rec.report import measurement

ROOT = pathlib.Path(__file__).parents[2]
PLACE = "before\n<!-- measured speed -->\nold 99.99\n<!-- end of measured -->\nafter\n"
SPEED = measurement.of_speed(
    "speed",
    "made up; 2 cores",
    {"ours": 0.12, "plain_tf": 0.06, "stock_fed_recon": 1234.5},
    {"ours": "ours", "plain_tf": "the bound", "stock_fed_recon": "stock"},
)
TABLE = """|  | ms per user and round | times the bound | times faster than stock |
| --- | --- | --- | --- |
| ours | 0.120 | 2.00 | 10,288 |
| the bound | 0.060 | 1.00 | 20,575 |
| stock | 1,234 | 20,575 | 1.00 |

Protocol: made up; 2 cores."""


class MeasurementTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.readme = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "README.md"
        self.readme.write_text(PLACE)

    def test_markdown(self):
        self.assertEqual(SPEED.markdown(), TABLE)
        self.assertIn("| x | 12.3 |", measurement.Measurement("", "", ("", "n"), (("x", 12.345),)).markdown())

    def test_publish(self):
        measurement.publish(SPEED, self.readme)
        text = self.readme.read_text()
        self.assertEqual(text, f"before\n<!-- measured speed -->\n\n{TABLE}\n\n<!-- end of measured -->\nafter\n")
        self.assertEqual(measurement.filled(self.readme), text)

    def test_without_its_file_it_is_not_run(self):
        measurement.publish(SPEED, self.readme)
        (self.readme.parent / measurement.FOLDER / "speed.json").unlink()
        self.assertIn("<!-- measured speed -->\n\n*not run*\n\n<!-- end", measurement.filled(self.readme))

    def test_show_prints_the_table_or_json_and_publishes(self):
        for as_json, printed in (
            (None, f"{TABLE}\nREADME: {self.readme} shows it\n"),
            ({"ours": 0.12}, '{"ours": 0.12}\n'),
            ({"small": {"ours": 0.123456}}, '{"small": {"ours": 0.1235}}\n'),
        ):
            self.readme.write_text(PLACE)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                measurement.show(SPEED, self.readme, as_json)
            self.assertEqual(out.getvalue(), printed)
            self.assertIn(TABLE, self.readme.read_text())

    def test_check(self):
        measurement.check("speed", None)
        measurement.check("speed", self.readme)
        with self.assertRaisesRegex(InputError, "has no place for 'size'; put <!-- measured size -->"):
            measurement.check("size", self.readme)

    def test_no_place(self):
        self.readme.write_text("nothing\n")
        with self.assertRaisesRegex(InputError, "has no place for 'speed'; put <!-- measured speed -->"):
            measurement.publish(SPEED, self.readme)
        self.assertFalse((self.readme.parent / measurement.FOLDER).exists())
        with self.assertRaisesRegex(InputError, "no file"):
            measurement.publish(SPEED, self.readme.parent / "nowhere.md")

    def test_the_readme_of_this_repository_equals_what_is_kept(self):
        readme = ROOT / "README.md"
        self.assertEqual(measurement.filled(readme), readme.read_text(encoding="utf-8"))
        kept = {path.stem for path in (ROOT / measurement.FOLDER).glob("*.json")}
        self.assertContainsSubset(kept, measurement.places(readme))


if __name__ == "__main__":
    absltest.main()
