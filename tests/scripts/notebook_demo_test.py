"""scripts/notebook_demo.py as a person runs it: the notebook's numbers, the ring's arithmetic, what training gives."""

import functools
import pathlib
import re
import resource

import numpy as np
import pandas as pd
import script_cases
import tensorflow as tf

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "notebook_demo.py"


_run = functools.partial(script_cases.run, "notebook_demo.py")


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class NotebookDemoTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        before = _seconds_of_children()
        cls.result = _run()
        cls.seconds = _seconds_of_children() - before

    def _numbers(self, pattern, kind=int):
        """Groups of a pattern that is printed once."""
        found = re.findall(pattern, self.result.stdout)
        self.assertLen(found, 1, f"{pattern} in\n{self.result.stdout}")
        groups = found[0] if isinstance(found[0], tuple) else (found[0],)
        return tuple(kind(group) for group in groups)

    def test_runs(self):
        self.assertEqual(self.result.returncode, 0, self.result.stderr)
        self.assertNotIn("Traceback", self.result.stderr)

    def test_takes_less_than_a_minute(self):
        """Of processor time, which does not depend on what else the machine does."""
        self.assertBetween(self.seconds, 1.0, 60.0)

    def test_numbers_of_the_notebook(self):
        self.assertEqual(self._numbers(r"(\d+) transactions of (\d+) customers, (\d+) articles"), (138, 5, 134))
        self.assertEqual(self._numbers(r"device 1 knows: (\d+) distinct purchases and (\d+) negatives\n"), (14, 4))
        asked = [int(number) for number in re.findall(r"server sees: (\d+) requested items", self.result.stdout)]
        self.assertEqual(asked, [18, 134])
        # ceil(0.25 * 110) = 28 negatives, and 134 - 110 = 24 articles that it did not buy.
        pattern = r"device 2 knows: (\d+) distinct purchases and (\d+) negatives \((\d+) wanted"
        self.assertEqual(self._numbers(pattern), (110, 24, 28))
        # The second device asks for everything, the first for 18 of it.
        self.assertEqual(self._numbers(r"(\d+) of 134 rows have a single requester"), (134 - 18,))
        self.assertIn("item tower (134, 64) → (64, 64) → (64, 64) → (64, 16)", self.result.stdout)
        self.assertIn("query tower (2, 64) → (64, 64) → (64, 64) → (64, 16)", self.result.stdout)

    def test_shares_add_up(self):
        # Shared layers and 134 vectors of 16.
        numbers = 2 * (64 * 64 + 64) + 64 * 16 + 16 + 134 * 16
        self.assertEqual(self._numbers(r"each device has (\d+) numbers, as integers"), (numbers,))
        first, second = (
            self._numbers(rf"device {device} knows: (-?\d+) = (\d+) \(kept\) \+ (\d+) \(to device {3 - device}\)")
            for device in (1, 2)
        )
        for value, kept, given in (first, second):
            self.assertNotEqual(value, 0)
            self.assertEqual((kept + given - value) % 2**64, 0)
        upload_1, upload_2, total = self._numbers(r"uploads (\d+) and (\d+); their sum (-?\d+)")
        self.assertEqual(upload_1, (first[1] + second[2]) % 2**64)
        self.assertEqual(upload_2, (second[1] + first[2]) % 2**64)
        self.assertEqual(total, first[0] + second[0])
        self.assertIn("equals the sum of the integers in all places: True", self.result.stdout)

    def test_training(self):
        """Before training, cosines are near 0: the loss is about ln 5 with 4 negatives and ln 25 with 24."""
        pattern = r"round {}: loss device 1 ([\d.]+), device 2 ([\d.]+)\n"
        begin, end = (self._numbers(pattern.format(number), float) for number in (1, 20))
        self.assertAllClose(begin, np.log([5, 25]), atol=0.4)
        self.assertLess(end[0], begin[0] - 0.5)
        self.assertLess(end[1], begin[1] - 1.5)
        # With cosines the best is ln(1 + n exp(-2)): every positive at 1, every negative at -1.
        self.assertGreater(end[0], np.log1p(4 * np.exp(-2)))
        self.assertGreater(end[1], np.log1p(24 * np.exp(-2)))
        self.assertGreaterEqual(self._numbers(r"in the right order: (\d+) %")[0], 90)

    def test_recommendations(self):
        self.assertEqual(self._numbers(r"fetches all 134 vectors \((\d+) bytes\)"), (134 * 16 * 4,))
        self.assertEqual(self._numbers(r"gets the query \((\d+) bytes\) and returns the best (\d+)\n"), (64, 19))
        device, server = (
            self._numbers(rf"{where}: (\d+) (\d+) (\d+) (\d+) (\d+)\n") for where in ("on the device", "at the server")
        )
        self.assertEqual(device, server)
        self.assertLen(set(device), 5)
        rows = pd.read_csv(SCRIPT.parent / "data" / "notebook_transactions.csv")
        bought = rows.loc[rows["customer_id"] == rows["customer_id"][0], "article_id"]
        self.assertContainsSubset(set(device), set(rows["article_id"]) - set(bought))

    def test_refusal(self):
        for arguments in (("--rounds", 0), ("--seed", 2**32)):
            refused = _run(*arguments)
            self.assertEqual(refused.returncode, 2)
            self.assertEqual(refused.stderr, "error: --rounds must be 1 or more, and --seed from 0 to 2^32 - 1.\n")


if __name__ == "__main__":
    tf.test.main()
