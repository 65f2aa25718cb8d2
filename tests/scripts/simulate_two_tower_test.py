"""The main script as a person runs it: wrong input gets one sentence and exit code 2, and leaves nothing behind."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile
from unittest import mock

from absl.testing import parameterized

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "simulate_two_tower.py"

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{item},4.0,{1000 + 10 * user + item}\n" for user in range(1, 31) for item in range(1, 8)
)
MOVIES = "movieId,title,genres\n" + "".join(f"{item},Film {item} (1990),Drama\n" for item in range(1, 8))
FITTING = ["--training.clients-per-round", "10", "--export.k", "3"]


def _run(arguments: list[str]) -> tuple[int, str]:
    """Exit code and standard error of the script, run in this process."""
    errors = io.StringIO()
    names = {"__name__": "__main__", "__file__": str(SCRIPT), "__doc__": "The script."}
    with (
        mock.patch.object(sys, "argv", [str(SCRIPT), *arguments]),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), names)
        except SystemExit as stop:
            return int(stop.code or 0), errors.getvalue()
    return 0, errors.getvalue()


class BadInputTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.output = self.directory / "run"

    def _archive(self, ratings=RATINGS, movies=MOVIES) -> pathlib.Path:
        path = self.directory / "ml-latest-small.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ml-latest-small/ratings.csv", ratings)
            archive.writestr("ml-latest-small/movies.csv", movies)
        return path

    def _refused(self, arguments: list[str], *named: str) -> None:
        code, errors = _run([*arguments, "--output", str(self.output)])
        self.assertEqual(code, 2, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertTrue(errors.startswith("error: "), errors)
        self.assertNotIn("Traceback", errors)
        for words in named:
            self.assertIn(words, errors)
        self.assertFalse(self.output.exists())

    def _refused_data(self, path: pathlib.Path, *named: str) -> None:
        self._refused(["--data.source", "ml-latest-small", "--data.path", str(path), *FITTING], *named)

    def test_missing_file(self):
        self._refused_data(self.directory / "nowhere.zip", "nowhere.zip")

    def test_a_file_that_is_no_zip(self):
        path = self.directory / "letter.zip"
        path.write_text("Dear reader")
        self._refused_data(path, "letter.zip")

    def test_a_zip_cut_in_half(self):
        path = self._archive()
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        self._refused_data(path, "ml-latest-small.zip")

    def test_a_csv_without_the_needed_columns(self):
        path = self.directory / "orders.csv"
        path.write_text("customer,thing\n1,2\n")
        self._refused(["--data.source", "csv", "--data.path", str(path), *FITTING], "orders.csv", "column")

    @parameterized.named_parameters(
        ("a rating of abc", "31,1,abc,2000\n", "abc", "line 212"),
        ("a negative timestamp", "31,1,4.0,-5\n", "-5", "line 212"),
    )
    def test_wrong_values(self, row, *named):
        self._refused_data(self._archive(RATINGS + row), "ratings.csv", *named)

    def test_an_empty_data_set(self):
        self._refused_data(self._archive("userId,movieId,rating,timestamp\n"))

    def test_fewer_users_than_the_cohort(self):
        path = str(self._archive())
        options = ["--data.source", "ml-latest-small", "--data.path", path, "--export.k", "3"]
        self._refused([*options, "--training.clients-per-round", "31"], "cohort of 31", "30")

    def test_k_larger_than_the_catalogue(self):
        path = str(self._archive())
        options = ["--data.source", "ml-latest-small", "--data.path", path, "--training.clients-per-round", "10"]
        self._refused([*options, "--export.k", "8"], "--export.k is 8", "5 items")

    @parameterized.named_parameters(
        ("unknown option", ["--model.depth", "2"], "--model.depth"),
        ("unknown preset", ["--config", "scripts/presets/two_tower/ml-2m.toml"], "ml-2m.toml"),
        ("unknown source", ["--data.source", "netflix"], "netflix"),
        ("no number", ["--training.rounds", "many"], "--training.rounds"),
    )
    def test_wrong_options(self, options, named):
        self._refused(options, named)

    def test_no_data_without_the_variable(self):
        with mock.patch.dict(os.environ, clear=False):
            os.environ.pop("TFF_REC_DATA", None)
            self._refused(["--data.source", "ml-1m"], "TFF_REC_DATA")

    def test_an_output_folder_that_exists(self):
        self.output.mkdir()
        code, errors = _run(["--output", str(self.output)])
        self.assertEqual(code, 2)
        self.assertIn("exists; add --resume", errors)
        self.assertEmpty(list(self.output.iterdir()))

    def test_a_checkpoint_of_another_configuration(self):
        self.output.mkdir()
        (self.output / "config.toml").write_text("[model]\ndimension = 16\n")
        code, errors = _run(["--output", str(self.output), "--resume", "--model.dimension", "32"])
        self.assertEqual(code, 2)
        self.assertIn("model.dimension is 16 there and 32 here", errors)


class CommandLineTest(unittest.TestCase):
    def test_help_answers(self):
        done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
        for option in ("--config", "--data.source", "--data.path", "--split", "--output", "--seed", "--resume"):
            self.assertIn(option, done.stdout)


if __name__ == "__main__":
    unittest.main()
