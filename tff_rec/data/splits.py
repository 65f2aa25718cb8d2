"""Splits of interactions into training, validation and test parts, one function a protocol.

Every part is ordered by the user's first appearance in the file, then by (timestamp, file order): a user's rows are
contiguous and oldest first. Nothing here is random but what takes a seed.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tff_rec.data.ncf import PublishedTest
from tff_rec.data.schema import InteractionData
from tff_rec.errors import InputError


@dataclasses.dataclass(frozen=True)
class Split:
    """Three disjoint parts of the interactions, which together are all of them.

    Attributes:
        protocol: What the split is, as a fragment of a sentence to print beside every number.
        train: Rows to learn from; columns of `InteractionData.interactions`, index 0..n-1.
        validation: Rows for model selection and early stopping. May be empty.
        test: Rows that only the final numbers come from. May be empty.
    """

    protocol: str
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame

    def __post_init__(self) -> None:
        if self.train.empty:
            raise InputError(
                f"The split '{self.protocol}' leaves nothing to train on; hold out less or give more data."
            )


def order_by_user_and_time(interactions: pd.DataFrame) -> pd.DataFrame:
    """Rows by the user's first appearance, then timestamp, then file order, with a fresh index."""
    users, _ = pd.factorize(interactions["user_id"])
    order = np.lexsort((interactions["timestamp"].to_numpy(), users))
    return _take(interactions, order)


def leave_one_out(data: InteractionData) -> Split:
    """LOO-full: each user's last row by (timestamp, file order) is test, the one before it validation.

    Users with fewer than three interactions stay whole in training.
    """
    rows = order_by_user_and_time(data.interactions)
    from_end, count = _position_from_end(rows["user_id"])
    return _by_part(
        "LOO-full: last interaction of each user with at least three, ranked among all items",
        rows,
        validation=(from_end == 1) & (count >= 3),
        test=(from_end == 0) & (count >= 3),
    )


def leave_published_out(data: InteractionData, published: PublishedTest) -> Split:
    """Each user's published item is test, the last of the others by (timestamp, file order) validation.

    Raises:
        InputError: A published row is not in the data.
    """
    rows = order_by_user_and_time(data.interactions)
    pairs = pd.MultiIndex.from_arrays([published.users, published.items])
    test = pd.MultiIndex.from_frame(rows[["user_id", "item_id"]]).isin(pairs)
    if np.count_nonzero(test) != len(pairs):
        raise InputError(f"{data.name} lacks rows of the published test; it belongs to the whole of ml-1m.")
    users, _ = pd.factorize(rows["user_id"])
    # A user's rows with the test item moved to the end.
    rows = _take(rows, np.lexsort((test, users)))
    from_end, _ = _position_from_end(rows["user_id"])
    return _by_part(
        "LOO: test items as published by He et al. (2017), of the others the last is validation",
        rows,
        validation=from_end == 1,
        test=from_end == 0,
    )


def no_split(data: InteractionData) -> Split:
    """Everything is training, for a model that is to be served and not judged."""
    rows = order_by_user_and_time(data.interactions)
    nothing = np.zeros(len(rows), dtype=bool)
    return _by_part("no split: everything in training", rows, validation=nothing, test=nothing)


def random_ratings(data: InteractionData, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> Split:
    """Each rating goes to training, validation or test at random, in the given shares of the whole.

    A user or an item may have no row in training.

    Raises:
        InputError: `fractions` are not three shares that sum to 1, with something for training.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise InputError(
            f"Fractions {tuple(fractions)} are no shares of a whole; give three that sum to 1, e.g. 0.8 0.1 0.1."
        )
    rows = order_by_user_and_time(data.interactions)
    rank = np.random.default_rng(seed).permutation(len(rows))
    num_test = round(len(rows) * fractions[2])
    num_held_out = num_test + round(len(rows) * fractions[1])
    shares = "/".join(f"{100 * fraction:g}" for fraction in fractions)
    return _by_part(
        f"random {shares} per rating, seed {seed}",
        rows,
        validation=(rank >= num_test) & (rank < num_held_out),
        test=rank < num_test,
    )


def temporal(data: InteractionData, validation_fraction: float, test_fraction: float) -> Split:
    """The newest rows of all users together are test, those before them validation, the rest training.

    Rows of one second are never parted: those at a cut go to the newer part, which may so exceed its share. Users of
    the newer parts may have no row in training.

    Raises:
        InputError: A fraction is negative, or both leave nothing for training.
    """
    if validation_fraction < 0 or test_fraction < 0 or validation_fraction + test_fraction >= 1:
        raise InputError(
            f"Fractions {validation_fraction} (validation) and {test_fraction} (test) must be at least 0 and together "
            "below 1; give smaller ones."
        )
    rows = order_by_user_and_time(data.interactions)
    time = rows["timestamp"].to_numpy()
    test = _newest(time, round(len(rows) * test_fraction))
    held_out = test.copy()
    held_out[~test] = _newest(time[~test], round(len(rows) * validation_fraction))
    protocol = (
        f"temporal: newest {100 * test_fraction:g} % of interactions test, {100 * validation_fraction:g} % before"
    )
    return _by_part(f"{protocol} validation", rows, validation=held_out & ~test, test=test)


def held_out_users(data: InteractionData, fraction: float, seed: int) -> Split:
    """A share of the users is in no round: half of them are validation users, half (or one more) test users.

    The validation and test parts hold *all* rows of their users; `history_and_target` makes queries of them. Only
    users with at least two interactions are held out, since a query needs a history and a target.

    Raises:
        InputError: `fraction` is not in (0, 1), or so small that there are not two users to hold out.
    """
    if not 0 < fraction < 1:
        raise InputError(f"The fraction of held-out users is {fraction}; give one between 0 and 1.")
    rows = order_by_user_and_time(data.interactions)
    users, names = pd.factorize(rows["user_id"])
    eligible = np.flatnonzero(np.bincount(users) >= 2)
    num_held_out = min(round(len(names) * fraction), len(eligible))
    if num_held_out < 2:
        raise InputError(
            f"Holding out {fraction} of {len(names)} users gives {num_held_out}; two are needed (one for "
            "validation, one for test), so give a larger fraction."
        )
    drawn = np.random.default_rng(seed).permutation(eligible)[:num_held_out]
    num_validation = num_held_out // 2
    return _by_part(
        f"held-out users: {num_held_out - num_validation} test and {num_validation} validation users of {len(names)} "
        f"were in no round, seed {seed}",
        rows,
        validation=np.isin(users, drawn[:num_validation]),
        test=np.isin(users, drawn[num_validation:]),
    )


def history_and_target(held_out: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Parts rows of held-out users into what a query may see (all but the last) and the last row of each user.

    Args:
        held_out: `validation` or `test` of `held_out_users`: a user's rows contiguous and oldest first.

    Returns:
        `(history, target)`, each in the given order with a fresh index; `target` has one row a user.
    """
    from_end, _ = _position_from_end(held_out["user_id"])
    return held_out[from_end > 0].reset_index(drop=True), held_out[from_end == 0].reset_index(drop=True)


def _position_from_end(users: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """For rows grouped by user: 0 for a user's last row, 1 for the one before, …; and the user's number of rows."""
    codes, _ = pd.factorize(users)
    ends = np.cumsum(np.bincount(codes)) if len(codes) else np.zeros(0, dtype=np.int64)
    return ends[codes] - 1 - np.arange(len(codes)), np.bincount(codes)[codes] if len(codes) else codes


def _newest(time: np.ndarray, count: int) -> np.ndarray:
    """Marks the `count` newest entries, and those of the same second as the oldest of them."""
    if count == 0:
        return np.zeros(len(time), dtype=bool)
    cut = np.partition(time, -min(count, len(time)))[-min(count, len(time))] if len(time) else 0
    return time >= cut


def _by_part(protocol: str, rows: pd.DataFrame, validation: np.ndarray, test: np.ndarray) -> Split:
    return Split(
        protocol=protocol,
        train=_take(rows, np.flatnonzero(~validation & ~test)),
        validation=_take(rows, np.flatnonzero(validation)),
        test=_take(rows, np.flatnonzero(test)),
    )


def _take(rows: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    """Some rows with a fresh index, copied once: `reset_index` would copy millions of rows again."""
    taken = rows.take(places)
    taken.index = pd.RangeIndex(len(places))
    return taken
