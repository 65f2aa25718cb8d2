"""What a person sees of a run: a live line on a terminal, a line a look at validation elsewhere, tables at the end."""

import contextlib
from collections.abc import Iterator
from typing import Any

from rich import progress, table
from rich.console import Console

from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rounds import ClipNorms, Round

_SMOOTHING = 0.9


class RoundDisplay:
    """Round, loss, validation, ms/user, bytes a client, and time left.

    Args:
        console: Where to.
        total: Most rounds.
        done: Rounds done before.
        clients_per_round: For ms/user.
        traffic: Bytes a client and round, in words.
    """

    def __init__(self, console: Console, total: int, done: int, clients_per_round: int, traffic: str) -> None:
        self._console = console
        self._total = total
        self._done = done
        self._clients = clients_per_round
        self._traffic = traffic
        self._seconds: float | None = None
        self._validation = "not yet"
        self._privacy = ""
        self._norms = ""
        self._live: progress.Progress | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator["RoundDisplay"]:
        """Shows the live line while inside, where the console is a terminal."""
        self._console.print(f"a client receives and sends each round: {self._traffic}")
        if not self._console.is_terminal:
            yield self
            return
        columns = (
            progress.TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.description}"),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console) as self._live:
            self._live.add_task("starting", total=self._total, completed=self._done)
            yield self

    def account(self, ledger: Ledger | None, number: int, looked: bool) -> dict[str, Any]:
        """What privacy the rounds so far have cost, for the lines that follow and for the round's record.

        It takes a while, so only a round that is worth a line is accounted for; others have nothing in their record.
        """
        if ledger is None or not self._worth_a_line(number, looked):
            return {}
        self._privacy = f"  {ledger.describe(number)}"
        return ledger.record(number)

    def clip(self, norms: ClipNorms) -> dict[str, Any]:
        """Clip norms that move, for the lines that follow and for the round's record."""
        if not norms:
            return {}
        self._norms = f"  clip norms {', '.join(f'{norm:.4g} ({name})' for name, norm in norms.items())}"
        return {"clip_norms": norms}

    def show(self, done: Round) -> None:
        """Brings the display up to date after a round of the two-tower simulation."""
        if done.validation is not None:
            self._validation = f"{100 * done.validation.hit_rate_10:.2f} / {100 * done.validation.ndcg_10:.2f} %"
        words = f"loss {done.loss:.4f}  validation HR@10 / NDCG@10 {self._validation}"
        self.update(done.number, done.seconds, words, done.validation is not None)

    def update(self, number: int, round_seconds: float, words: str, looked: bool) -> None:
        """Brings the display up to date after any round.

        Args:
            number: Rounds done.
            round_seconds: Wall time of the round.
            words: Loss and validation.
            looked: Whether validation was looked at: worth a line where the console is no terminal.
        """
        # The first round compiles; the mean begins with the second.
        if number > self._done + 1:
            before = round_seconds if self._seconds is None else self._seconds
            self._seconds = _SMOOTHING * before + (1 - _SMOOTHING) * round_seconds
        seconds = round_seconds if self._seconds is None else self._seconds
        line = f"{words}  {1000 * seconds / self._clients:.2f} ms/user{self._norms}{self._privacy}"
        if self._live is not None:
            self._live.update(progress.TaskID(0), completed=number, description=line)
        elif self._worth_a_line(number, looked):
            left = seconds * (self._total - number)
            self._console.print(
                f"round {number}/{self._total}  {line}  {self._traffic}  at most {left:.0f} s left", soft_wrap=True
            )

    def _worth_a_line(self, number: int, looked: bool) -> bool:
        return looked or number in (self._done + 1, self._total)


def results_table(title: str, rows: dict[str, dict[str, float]]) -> table.Table:
    """Metrics by method, in percent."""
    result = table.Table(title=title)
    result.add_column("")
    columns = {"hit_rate_10": "HR@10 %", "ndcg_10": "NDCG@10 %", "hit_rate_20": "HR@20 %", "mrr": "MRR %"}
    for label in columns.values():
        result.add_column(label, justify="right")
    for name, metrics in rows.items():
        result.add_row(name, *(f"{100 * metrics[key]:.2f}" for key in columns))
    return result
