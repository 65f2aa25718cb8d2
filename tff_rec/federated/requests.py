"""Which rows of the item table a device asks for, when it does not receive the whole table.

In SpFedRec (Qin et al. 2023) a device asks for its positives and ρ times as many items that it does not have, shuffled.
These decoys are drawn anew each round, so that whoever counts requests over rounds finds the positives.
`persistent_decoys` are the same each round, as is RAPPOR's permanent response (Erlingsson et al. 2014): a second
request tells no more than the first. Either way the server learns a set that holds the positives. And as a row that one
device alone asks for has that device's gradient for a sum, `minimum_requesters` holds such rows back.

Plain NumPy, for simulation: one process holds all devices' secrets.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Sampling = Literal["uniform", "popularity"]
SECRET_BYTES = 32
_LABEL_BYTES = 16


@dataclasses.dataclass(frozen=True)
class ItemSets:
    """A set of items for each of several devices, one after the other.

    Attributes:
        offsets: int64 [devices + 1]: device i owns `items[offsets[i]:offsets[i + 1]]`.
        items: int32, ids from 0; no item twice in a set.
    """

    offsets: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, device: int) -> np.ndarray:
        """The items of a device."""
        return self.items[self.offsets[device] : self.offsets[device + 1]]

    def sizes(self) -> np.ndarray:
        """int64 [devices]."""
        return np.diff(self.offsets)

    def of(self, devices: np.ndarray) -> "ItemSets":
        """The sets of some devices, in their order."""
        return item_sets([self[device] for device in devices])


@dataclasses.dataclass(frozen=True)
class Release:
    """What a server that wants a minimum of requesters does with the rows that a cohort asked for.

    Attributes:
        requesters: int64 [items], devices of the cohort that asked for each row.
        released: bool [items], rows whose summed gradients are released.
        dropped: Rows that somebody asked for and too few did: their gradients are not even summed.
    """

    requesters: np.ndarray
    released: np.ndarray
    dropped: int


def item_sets(sets: Sequence[np.ndarray]) -> ItemSets:
    """Puts the sets of several devices one after the other."""
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in sets], dtype=np.int64)]).astype(np.int64)
    return ItemSets(offsets, np.concatenate([np.zeros(0, np.int32), *sets]).astype(np.int32))


def secret_of(text: str) -> bytes:
    """A secret of a simulated device from a text. A real device draws `SECRET_BYTES` once and keeps them."""
    return hashlib.sha256(text.encode()).digest()


def num_decoys(num_positives: int, num_items: int, rho: float) -> int:
    """ceil(ρ · positives), or all other items where there are fewer."""
    # The product is rounded so that 0.1 · 30, a little more than 3 in floats, asks for 3.
    return min(math.ceil(round(rho * num_positives, 9)), num_items - num_positives)


def popularity_weights(popularity: np.ndarray) -> np.ndarray:
    """Public weights to draw rows by: counts [items], one more each, so that what nobody has can be drawn too."""
    return popularity + 1.0


def decoy_weights(sampling: Sampling, popularity: np.ndarray) -> np.ndarray | None:
    """What decoys are drawn by: `popularity_weights`, or None for uniform ones."""
    return popularity_weights(popularity) if sampling == "popularity" else None


def fresh_decoys(
    positives: ItemSets,
    num_items: int,
    rho: float,
    rng: np.random.Generator,
    popularity: np.ndarray | None = None,
) -> ItemSets:
    """Decoys of one round, drawn without replacement from the items that a device does not have.

    Args:
        positives: Of each device.
        num_items: Size of the catalogue.
        rho: Decoys a positive, rounded up a device.
        rng: Draws them.
        popularity: Positive weights [items] that are public, to draw by; None to draw uniformly.

    Raises:
        ValueError: ρ is negative, or the weights are not one positive number an item.
    """
    weights = _checked(rho, popularity, num_items)
    return item_sets([_decoys(own, rng.random(num_items), rho, weights) for own in _each(positives)])


def persistent_decoys(
    positives: ItemSets,
    item_ids: Sequence[str],
    rho: float,
    secrets: Sequence[bytes],
    popularity: np.ndarray | None = None,
) -> ItemSets:
    """Decoys that are a function of a device's secret and its positives.

    The secret gives every item a pseudo-random key (AES under the secret, of a hash of the item's id). Decoys are the
    items with the smallest keys that the device does not have. A device that gets a positive more keeps the decoys it
    had, but for that item, and adds others up to the new number. A catalogue that grows by some share changes no more
    than about that share of the decoys, wherever new items are sorted in; over many such changes, or others in
    `popularity`, decoys are found out by going, and a device must keep those that it drew first.

    The server learns nothing from repetition only if the device asks for all its positives each time, or for a part of
    them with the decoys that go with that part (`decoys_by_place`).

    Args:
        positives: Of each device.
        item_ids: The catalogue's, which stay with the items for good.
        rho: Decoys a positive, rounded up a device.
        secrets: 32 bytes a device, which it keeps for good.
        popularity: As in `fresh_decoys`.

    Raises:
        ValueError: ρ is negative, the weights are not one positive number an item, or there is not one secret a device.
    """
    weights = _checked(rho, popularity, len(item_ids))
    if len(secrets) != len(positives):
        raise ValueError(f"There are {len(secrets)} secrets for {len(positives)} devices.")
    labels = b"".join(hashlib.blake2b(item.encode(), digest_size=_LABEL_BYTES).digest() for item in item_ids)
    keys = (_keyed_uniform(secret, labels) for secret in secrets)
    return item_sets([_decoys(own, key, rho, weights) for own, key in zip(_each(positives), keys, strict=True)])


def decoys_by_place(positives: ItemSets, decoys: ItemSets, rho: int, seeds: Sequence[Sequence[int]]) -> np.ndarray:
    """Pairs every positive with decoys, so that a device that trains on a part of its history asks for that part's.

    Whenever a positive is asked for, so are its decoys: over rounds they are told apart by nothing, as long as the
    history is the same. One that has grown is paired anew, and a server that counts which rows come together before and
    after can tell: a device whose history grows must keep the pairs that it has.

    Args:
        positives: Of each device.
        decoys: Of each device, at most `rho` a positive.
        rho: Decoys a positive.
        seeds: Of NumPy's generator, one a device: in what order its decoys are paired.

    Returns:
        int32 [positives of all devices, rho], -1 where a device has too few decoys.
    """
    paired = np.full((len(positives.items), rho), -1, np.int32)
    for device, seed in enumerate(seeds):
        cells = paired[positives.offsets[device] : positives.offsets[device + 1]].reshape(-1)
        rng, own = np.random.default_rng(seed), decoys[device]
        cells[rng.permutation(len(cells))[: len(own)]] = rng.permutation(own)
    return paired


def shuffled_requests(positives: ItemSets, decoys: ItemSets, rng: np.random.Generator) -> ItemSets:
    """What each device sends: positives and decoys in random order."""
    pairs = zip(_each(positives), _each(decoys), strict=True)
    return item_sets([rng.permutation(np.concatenate(pair)) for pair in pairs])


def minimum_requesters(requests: ItemSets, num_items: int, minimum: int) -> Release:
    """Releases the rows that at least `minimum` devices of a cohort asked for.

    The server counts requests, which it sees. A minimum does not hide the requests themselves, and `minimum` - 1
    devices that work with the server can still single out another's gradient.

    Args:
        requests: Of the devices of a cohort.
        num_items: Size of the catalogue.
        minimum: 1 releases all rows.

    Raises:
        ValueError: The minimum is below 1.
    """
    if minimum < 1:
        raise ValueError(f"A minimum of {minimum} requesters means nothing; give 1 or more.")
    requesters = np.bincount(requests.items, minlength=num_items)
    released = requesters >= minimum
    return Release(requesters, released, int(np.sum((requesters > 0) & ~released)))


def _each(sets: ItemSets) -> list[np.ndarray]:
    return [sets[device] for device in range(len(sets))]


def _checked(rho: float, popularity: np.ndarray | None, num_items: int) -> np.ndarray | None:
    if not 0 <= rho < np.inf:
        raise ValueError(f"ρ must be 0 or more, not {rho}.")
    if popularity is not None and (popularity.shape != (num_items,) or not np.all(popularity > 0)):
        raise ValueError(f"popularity must be {num_items} positive weights.")
    return popularity


def _decoys(own: np.ndarray, uniform: np.ndarray, rho: float, weights: np.ndarray | None) -> np.ndarray:
    """The items of smallest keys that are not `own`: a draw without replacement (Efraimidis and Spirakis 2006)."""
    keys = uniform.copy() if weights is None else -np.log1p(-uniform) / weights
    keys[own] = np.inf
    count = num_decoys(len(own), len(keys), rho)
    largest = np.partition(keys, count - 1)[count - 1] if count else -np.inf
    return np.flatnonzero(keys <= largest)[:count]


def _keyed_uniform(secret: bytes, labels: bytes) -> np.ndarray:
    """float64 [items] in [0, 1), 53 bits each, pseudo-random to whoever does not know the secret; labels differ."""
    # Each label is a block of its own, which makes ECB a pseudo-random function of it.
    blocks = Cipher(algorithms.AES256(secret), modes.ECB()).encryptor().update(labels)
    return (np.frombuffer(blocks, "<u8")[:: _LABEL_BYTES // 8] >> np.uint64(11)) * 2.0**-53
