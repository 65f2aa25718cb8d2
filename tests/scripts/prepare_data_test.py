"""scripts/prepare_data.py and make_movielens_like.py as a person runs them, one after the other; their refusals."""

import functools
import importlib.util
import json
import pathlib
import sys
import tempfile

import numpy as np
import script_cases
import tensorflow as tf
from scipy import sparse

from tff_rec.errors import InputError

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


_run = functools.partial(script_cases.run, COLUMNS="200")


def _load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules[name] = script
    spec.loader.exec_module(script)
    return script


class PrepareDataTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_makes_files_and_prepares_them(self):
        files, output = self.folder / "files", self.folder / "arrays"
        sizes = ("--users", 100, "--movies", 200, "--ratings", 3000, "--tags", 400)
        made = _run("make_movielens_like.py", "--output", files, *sizes)
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        self.assertFalse((self.folder / "files.partial").exists())
        with (files / "ratings.csv").open("a") as stream:
            stream.write("1,,3.0,5\n")  # No movie.
        source = ("--data.source", "ml-20m", "--data.path", files)
        done = _run("prepare_data.py", *source, "--output", output, "--max-tags", 20)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for words in (
            r"rows of ratings.csv dropped: no value +│ 1 ratings.csv:3002",
            r"ratings +│ 3,000, 0.5 to 5 stars",
            r"random 80/10/10 per rating, seed 0",
            r"training, validation, test +│ 2,400, 300, 300",
            r"tags that users gave +│ 400, ",
            r"item-tag matrix +│ [\d,]+ x 21, density",
            r"user \d+, \d+ ratings +│ \S.* \d\.\d\d",
            r"done in \d+ s; peak memory 0\.\d\d GB",
        ):
            self.assertRegex(done.stdout, words)
        names = json.loads((output / "names.json").read_text())
        self.assertEqual(sparse.load_npz(output / "tags.npz").shape, (len(names["items"]), 21))
        self.assertEqual(np.load(output / "ratings.npy").shape, (2400,))
        self.assertLen(np.load(output / "offsets.npy"), len(names["users"]) + 1)
        self.assertFalse((self.folder / "arrays.partial").exists())
        refused = _run("prepare_data.py", *source, "--tags", "genome")
        self.assertEqual(refused.returncode, 2)
        self.assertEqual(refused.stderr, "error: ml-20m has no tag genome; use the tags of its users.\n")

    def test_refusals(self):
        prepare, make = _load("prepare_data"), _load("make_movielens_like")
        new = self.folder / "new"
        for words, call in (
            ("--max-tags is -1; give 0 or more", lambda: prepare.PrepareOptions(max_tags=-1)),
            ("exists; give the path of a folder to make", lambda: prepare.PrepareOptions(output=self.folder)),
            ("no data source 'x'", lambda: prepare.main(prepare.PrepareOptions(prepare.DataOptions("x")))),
            ("exists; give the path of a folder to make", lambda: make.main(make.MakeOptions(self.folder))),
            ("--seed is -1; give 0 or more", lambda: make.main(make.MakeOptions(new, seed=-1))),
            ("give 5 or more ratings", lambda: make.main(make.MakeOptions(new, ratings=9))),
        ):
            with self.assertRaisesRegex(InputError, words):
                call()
        self.assertEmpty(list(self.folder.iterdir()))


if __name__ == "__main__":
    tf.test.main()
