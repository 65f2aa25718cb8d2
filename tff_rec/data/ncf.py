"""The leave-one-out test of He et al. (2017, https://github.com/hexiangnan/neural_collaborative_filtering) on ml-1m.

Each user's test item and 99 negatives, which published LOO+99 numbers share. Where a user's last ratings have one time,
theirs and `splits.leave_one_out` differ in which one is the last.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from tff_rec.data.names import DATA_VARIABLE
from tff_rec.errors import InputError

FOLDER = "ncf-ml-1m"
_TEST, _NEGATIVES, _ITEMS = "ml-1m.test.rating", "ml-1m.test.negative.gz", "item_id_map.csv"


@dataclasses.dataclass(frozen=True)
class PublishedTest:
    """Test items and negatives, a user a row.

    Attributes:
        users: Ids of users, as in ml-1m.
        items: Ids of their test items.
        negatives: Ids of their negatives, object [users, 99]. Some users have their own test item among them.
    """

    users: np.ndarray
    items: np.ndarray
    negatives: np.ndarray


def read_published_test(folder: Path | None = None) -> PublishedTest:
    """Reads the published files; numbers of users and items become ml-1m's ids.

    Args:
        folder: Where they are; by default `$TFF_REC_DATA/ncf-ml-1m`.

    Raises:
        InputError: A file is missing or is not what was published.
    """
    if folder is None:
        root = os.environ.get(DATA_VARIABLE)
        if not root:
            raise InputError(f"{DATA_VARIABLE} is not set; the published test of ml-1m is looked for in its {FOLDER}.")
        folder = Path(root) / FOLDER
    for name in (_TEST, _NEGATIVES, _ITEMS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} lacks {name} of the published test of ml-1m; put it there, or use --split loo.")
    try:
        ids = pd.read_csv(folder / _ITEMS, dtype={"movieId": str}).set_index("ncf_item")["movieId"]
        test = pd.read_csv(folder / _TEST, sep="\t", header=None, usecols=[0, 1])
        rows = pd.read_csv(folder / _NEGATIVES, sep="\t", header=None)
        negatives = ids.loc[rows.iloc[:, 1:].to_numpy().ravel()].to_numpy(dtype=object)
        return PublishedTest(
            users=(test[0] + 1).astype(str).to_numpy(dtype=object),
            items=ids.loc[test[1]].to_numpy(dtype=object),
            negatives=negatives.reshape(len(test), -1),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{folder} does not hold the published test of ml-1m ({error}); fetch it again.") from None
