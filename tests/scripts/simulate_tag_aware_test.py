"""The tag-aware script as a person runs it: wrong input gets one sentence and exit code 2, and leaves nothing."""

import contextlib
import io
import pathlib
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"

RATINGS = "user_id,item_id,rating\n" + "".join(
    f"{user},{item},{1 + (user * item) % 5}\n" for user in range(1, 31) for item in range(1, 8)
)
FITTING = ["--training.clients-per-round", "10", "--export.k", "3"]


def _run(name: str, arguments: list[str]) -> tuple[int, str]:
    """Exit code and standard error of a script, run in this process."""
    script, errors = SCRIPTS / name, io.StringIO()
    names = {"__name__": "__main__", "__file__": str(script), "__doc__": "The script."}
    with (
        mock.patch.object(sys, "argv", [str(script), *arguments]),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            exec(compile(script.read_text(), str(script), "exec"), names)
        except SystemExit as stop:
            return int(stop.code or 0), errors.getvalue()
    return 0, errors.getvalue()


class BadInputTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.output = self.directory / "run"

    def _refused(self, arguments: list[str], *named: str) -> None:
        code, errors = _run("simulate_tag_aware.py", [*arguments, "--output", str(self.output)])
        self.assertEqual(code, 2, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertTrue(errors.startswith("error: "), errors)
        for words in named:
            self.assertIn(words, errors)
        self.assertFalse(self.output.exists())

    def _data(self, ratings: str) -> list[str]:
        path = self.directory / "ratings.csv"
        path.write_text(ratings)
        return ["--data.source", "csv", "--data.path", str(path), *FITTING]

    def test_missing_file(self):
        options = ["--data.source", "csv", "--data.path", str(self.directory / "nowhere.csv")]
        self._refused(options, "nowhere.csv")

    def test_ratings_that_are_no_numbers(self):
        self._refused(self._data(RATINGS + "31,1,good\n"), "good", "ratings.csv")

    def test_a_file_without_ratings(self):
        rows = RATINGS.splitlines()
        self._refused(self._data("\n".join(row.rpartition(",")[0] for row in rows) + "\n"), "ratings that differ")

    def test_more_silos_than_users(self):
        self._refused([*self._data(RATINGS), "--clients", "31"], "31 silos")

    def test_clients_that_are_neither(self):
        self._refused(["--clients", "devices"], "--clients is 'devices'")

    def test_unknown_option(self):
        self._refused(["--model.depth", "2"], "--model.depth")

    def test_an_output_folder_that_exists(self):
        self.output.mkdir()
        code, errors = _run("simulate_tag_aware.py", ["--output", str(self.output)])
        self.assertEqual(code, 2)
        self.assertIn("exists; add --resume", errors)

    def test_a_run_of_another_configuration(self):
        self.output.mkdir()
        (self.output / "config.toml").write_text("[model]\ndimension = 16\n")
        code, errors = _run(
            "simulate_tag_aware.py", ["--output", str(self.output), "--resume", "--model.dimension", "32"]
        )
        self.assertEqual(code, 2)
        self.assertIn("model.dimension is 16 there and 32 here", errors)


if __name__ == "__main__":
    absltest.main()
