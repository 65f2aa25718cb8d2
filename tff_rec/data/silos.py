"""Users parted into silos, such as companies or countries that train together, one function a way.

The silos of each way have equally many users, give or take one, so that ways differ in who is together and in nothing
else. Every user is in exactly one silo, in ascending order there.
"""

import numpy as np
from scipy import sparse
from scipy.cluster import vq

from tff_rec.data import item_tags
from tff_rec.data.ratings import RatingStore
from tff_rec.errors import InputError


def at_random(store: RatingStore, num_silos: int, seed: int) -> list[np.ndarray]:
    """Silos alike but for chance: a list of int64 [users of the silo].

    Raises:
        InputError: There are fewer than two silos, or fewer users than silos.
    """
    _check(store, num_silos)
    return _parts(np.random.default_rng(seed).permutation(store.num_users), num_silos)


def by_activity(store: RatingStore, num_silos: int, seed: int) -> list[np.ndarray]:
    """Silos of users with like numbers of ratings, fewest first; users with the same number are dealt at random.

    Raises:
        InputError: There are fewer than two silos, or fewer users than silos.
    """
    _check(store, num_silos)
    chance = np.random.default_rng(seed).random(store.num_users)
    return _parts(np.lexsort((chance, store.lengths())), num_silos)


def by_taste(store: RatingStore, item_rows: sparse.csr_matrix, num_silos: int, seed: int) -> list[np.ndarray]:
    """Silos of users with like profiles: k-means of `item_tags.tag_profiles`, then each silo filled up to its size.

    Users take the silo with the nearest centre that has room; those who would lose most by another choose first.

    Args:
        store: The ratings.
        item_rows: float32 CSR [items, n], such as `ItemTags.genres`; n is small, as profiles are dense.
        num_silos: How many.
        seed: Of k-means.

    Raises:
        InputError: There are fewer than two silos, or fewer users, or different profiles, than silos.
    """
    _check(store, num_silos)
    profiles = item_tags.tag_profiles(store, np.arange(store.num_users), item_rows).astype(np.float64)
    if len(np.unique(profiles, axis=0)) < num_silos:
        raise InputError(
            f"Users do not differ enough in taste for {num_silos} silos; give fewer, or part them at random."
        )
    centres, _ = vq.kmeans2(profiles, num_silos, minit="++", seed=np.random.default_rng(seed))
    distances = np.linalg.norm(profiles[:, np.newaxis] - centres, axis=2)
    silo = _fill(distances, np.array([len(part) for part in _parts(np.arange(store.num_users), num_silos)]))
    return [np.flatnonzero(silo == number) for number in range(num_silos)]


def _check(store: RatingStore, num_silos: int) -> None:
    if num_silos < 2 or num_silos > store.num_users:
        raise InputError(
            f"{store.num_users} users cannot be parted into {num_silos} silos; give 2 to as many as users."
        )


def _parts(order: np.ndarray, num_silos: int) -> list[np.ndarray]:
    return [np.sort(part) for part in np.array_split(order, num_silos)]


def _fill(distances: np.ndarray, room: np.ndarray) -> np.ndarray:
    """The silo of every user: int64 [users].

    Args:
        distances: float64 [users, silos].
        room: int64 [silos], users that each silo takes; they sum to the number of users.
    """
    preferred = np.argsort(distances, axis=1, kind="stable")
    nearest = np.take_along_axis(distances, preferred[:, :2], axis=1)
    silo = np.full(len(distances), -1)
    for user in np.argsort(nearest[:, 0] - nearest[:, 1], kind="stable"):
        silo[user] = next(number for number in preferred[user] if room[number])
        room[silo[user]] -= 1
    return silo
