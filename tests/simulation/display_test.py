"""What a person sees while a run goes on."""

import io
import unittest

from rich.console import Console

from tff_rec.evaluation.ranking import RankingMetrics
from tff_rec.simulation.display import RoundDisplay, results_table
from tff_rec.simulation.rounds import Round

METRICS = RankingMetrics(hit_rate_10=0.25, ndcg_10=0.125, hit_rate_20=0.5, mrr=0.1, users=8)


def _shown(rounds, *, terminal=False, total=4):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    display = RoundDisplay(console, total=total, done=0, clients_per_round=10, traffic="1 MB down")
    with display.running():
        for done in rounds:
            display.show(done)
    return text.getvalue()


class RoundDisplayTest(unittest.TestCase):
    def test_elsewhere_than_on_a_terminal_a_line_a_look(self):
        rounds = [Round(1, 3.0, 9.0, None), Round(2, 2.5, 0.02, None), Round(3, 2.0, 0.02, METRICS)]
        lines = _shown(rounds).splitlines()
        self.assertEqual(len(lines), 3)
        self.assertIn("round 1/4  loss 3.0000", lines[1])
        self.assertIn("round 3/4  loss 2.0000  validation HR@10 / NDCG@10 25.00 / 12.50 %  2.00 ms/user", lines[2])
        self.assertIn("1 MB down", lines[2])

    def test_the_first_round_does_not_count_for_speed(self):
        lines = _shown([Round(1, 3.0, 9.0, None), Round(2, 2.5, 0.02, METRICS)]).splitlines()
        self.assertIn("900.00 ms/user", lines[1])
        self.assertIn("2.00 ms/user", lines[2])

    def test_on_a_terminal_a_live_line(self):
        text = _shown([Round(1, 3.0, 1.0, None), Round(2, 2.0, 1.0, METRICS)], terminal=True)
        self.assertIn("25.00 / 12.50 %", text)
        self.assertIn("round 2/4", text)


class ResultsTableTest(unittest.TestCase):
    def test_metrics_in_percent(self):
        text = io.StringIO()
        Console(file=text, width=100).print(results_table("test", {"ours": METRICS.as_dict()}))
        for words in ("ours", "25.00", "12.50", "50.00", "10.00", "NDCG@10 %"):
            self.assertIn(words, text.getvalue())


if __name__ == "__main__":
    unittest.main()
