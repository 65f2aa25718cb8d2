"""The circular secret-sharing chain of SpFedRec (Qin et al. 2023): exact sums of integers, simulated.

A device splits its vector of fixed-point integers into s shares that are each uniform modulo 2^b and add up to it. It
keeps one, sends one to each of its next s-1 neighbours in a ring of devices, and uploads the sum of what it kept and
received. The server adds the uploads of the ring: the shares cancel, and the sum of the vectors is left, exactly.

Who learns what, if all follow the protocol: the server learns the sum over each ring (not over the cohort) and who
dropped out; a device learns uniform shares. In a ring of 2s-1 members or more a device's vector stays hidden until the
server, all its s-1 predecessors and all its s-1 successors put together what they saw. A lying server is not covered.

What is simulated: one process plays all devices and the server. There is no network, no key agreement, and no
encryption of the shares on their way, which real devices need, as their messages pass through the server. `ring_round`
draws shares from ChaCha20 under keys of the operating system. Inside TFF, `ring_aggregator` adds uploads of the same
integers with masks from TensorFlow's Philox generator, which is uniform but keeps no secrets, and plays many devices
together.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

KEY_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Ring:
    """Parameters of the chain.

    A cohort of n devices, in its order, makes max(1, n // group_size) rings of `group_size` members; the last takes the
    remainder, so that it has up to 2 group_size - 1. A cohort below `group_size` is one smaller ring.

    Attributes:
        value_limit: Largest magnitude of one device's integer.
        max_users: Most devices whose integers are added up.
        shares: Shares of a vector, s; the chain goes to s-1 neighbours.
        group_size: Devices in a ring.
        modulus_bits: b: shares and uploads are integers modulo 2^b.
        minimum_members: Fewest devices whose sum is released; a ring never has fewer than `shares` either.
    """

    value_limit: int
    max_users: int
    shares: int = 3
    group_size: int = 10
    modulus_bits: int = 64
    minimum_members: int = 3

    def __post_init__(self) -> None:
        if self.shares < 2:
            raise ValueError(f"A vector is split into at least 2 shares, not {self.shares}.")
        if min(self.value_limit, self.max_users, self.minimum_members) < 1:
            raise ValueError("value_limit, max_users and minimum_members must be positive.")
        if self.group_size < self.fewest:
            raise ValueError(f"A ring of {self.group_size} is below the {self.fewest} members that it needs.")
        if not 2 <= self.modulus_bits <= 64:
            raise ValueError(f"The modulus has 2 to 64 bits, not {self.modulus_bits}.")
        if self.value_limit * self.max_users >= 2 ** (self.modulus_bits - 1):
            raise ValueError(
                f"The sum of {self.max_users} integers of up to {self.value_limit} can exceed {self.modulus_bits} bits."
            )

    @property
    def mask(self) -> np.uint64:
        """2^b - 1."""
        return np.uint64(2**self.modulus_bits - 1)

    @property
    def fewest(self) -> int:
        """Fewest members of a ring that yields a sum."""
        return max(self.shares, self.minimum_members)

    def groups(self, num_users: int) -> list[np.ndarray]:
        """Members of every ring of a cohort: int64 positions in it."""
        cuts = np.arange(1, max(1, num_users // self.group_size)) * self.group_size
        return np.split(np.arange(num_users), cuts)


@dataclasses.dataclass(frozen=True)
class Abandoned:
    """A ring without a sum in this round: its members' positions in the cohort, and why."""

    members: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class RingRound:
    """What the server has after a round.

    Attributes:
        total: int64, sum of the included devices' integers.
        included: bool [users].
        abandoned: Rings that gave no sum. Their members, and those who dropped out while sharing, are not included.
    """

    total: np.ndarray
    included: np.ndarray
    abandoned: tuple[Abandoned, ...]


def new_keys(num_users: int) -> list[bytes]:
    """One key a device for one round, from the operating system's generator."""
    return [os.urandom(KEY_BYTES) for _ in range(num_users)]


def share(values: np.ndarray, ring: Ring, keys: Sequence[bytes], attempt: int = 0) -> np.ndarray:
    """Shares of every device's vector: the last s-1 from its ChaCha20 stream, the first makes up the rest.

    Args:
        values: int64 [users, ...], each in [-value_limit, value_limit].
        ring: Parameters.
        keys: Of each device 32 bytes, never used for another vector.
        attempt: Another attempt with the same vector takes another stream.

    Returns:
        uint64 [users, s, ...], below 2^b. Share 0 is kept, share k is for the k-th neighbour.

    Raises:
        ValueError: A value is no integer or out of range, or there is not one key a device, each another.
    """
    _check(values, ring, keys)
    return _share(values, ring, keys, attempt)


def _share(values: np.ndarray, ring: Ring, keys: Sequence[bytes], attempt: int) -> np.ndarray:
    """`share` of what `_check` has seen."""
    shape = (ring.shares - 1, *values.shape[1:])
    words = np.array([_words(key, attempt, int(np.prod(shape))) for key in keys], np.uint64)
    sent = words.reshape(len(values), *shape) & ring.mask
    kept = (values.view(np.uint64) - sent.sum(axis=1, dtype=np.uint64)) & ring.mask
    return np.concatenate([kept[:, np.newaxis], sent], axis=1)


def upload(shares: np.ndarray, ring: Ring) -> np.ndarray:
    """What each member of one ring uploads: uint64 [members, s, ...] → [members, ...].

    Share k of member i has gone to member i + k, counted around the ring.
    """
    arrived = [np.roll(shares[:, distance], distance, axis=0) for distance in range(shares.shape[1])]
    return np.sum(arrived, axis=0, dtype=np.uint64) & ring.mask


def group_sum(uploads: np.ndarray, ring: Ring) -> np.ndarray:
    """The sum of the members' vectors from all uploads of one ring: uint64 [members, ...] → int64 [...]."""
    spare = np.uint64(64 - ring.modulus_bits)
    total = np.asarray(np.sum(uploads, axis=0, dtype=np.uint64))
    return np.right_shift(np.left_shift(total, spare).view(np.int64), np.int64(spare))


def ring_round(
    values: np.ndarray, ring: Ring, messages_sent: np.ndarray | None = None, keys: Sequence[bytes] | None = None
) -> RingRound:
    """One round of a cohort, with devices that drop out.

    A device that has not sent all its shares is missed by a neighbour before anybody uploads: the ring closes without
    it and shares again, with fresh randomness. A device that has shared and does not upload leaves a sum that nothing
    is known of, and its ring is abandoned; so does one that goes while the others share again. To repair that sum,
    neighbours would have to reveal the missing device's shares, and an upload that is only late would then lay its
    vector open.

    Args:
        values: int64 [users, ...], each in [-value_limit, value_limit].
        ring: Parameters.
        messages_sent: int64 [users], messages that a device got out before it dropped out: 0 to s-1 shares, nearest
            neighbour first; s with the upload, as all do by default.
        keys: One a device, for this round only; by default from the operating system.

    Raises:
        ValueError: A value is no integer or out of range, there are more devices than `max_users`, or `messages_sent`
            or `keys` are not one a device, each key another.
    """
    num_users = len(values)
    if num_users > ring.max_users:
        raise ValueError(f"There are {num_users} devices, and the ring was made for up to {ring.max_users}.")
    sent = np.full(num_users, ring.shares) if messages_sent is None else np.asarray(messages_sent)
    if sent.shape != (num_users,) or np.any(sent < 0) or np.any(sent > ring.shares):
        raise ValueError(f"messages_sent must be one number from 0 to {ring.shares} a device.")
    keys = new_keys(num_users) if keys is None else keys
    _check(values, ring, keys)
    total, included, abandoned = np.zeros(values.shape[1:], np.int64), np.zeros(num_users, bool), []
    for group in ring.groups(num_users):
        members = group[sent[group] >= ring.shares - 1]
        if len(members) < ring.fewest:
            reason = f"{len(members)} of {len(group)} members shared, and a ring needs {ring.fewest}"
            abandoned.append(Abandoned(tuple(group.tolist()), reason))
            continue
        attempt = int(len(members) < len(group))
        uploads = upload(_share(values[members], ring, [keys[member] for member in members], attempt), ring)
        arrived = sent[members] == ring.shares
        if not arrived.all():
            reason = f"{np.sum(~arrived)} of {len(members)} members shared and did not upload"
            abandoned.append(Abandoned(tuple(group.tolist()), reason))
            continue
        total += group_sum(uploads, ring)
        included[members] = True
    return RingRound(total, included, tuple(abandoned))


def _check(values: np.ndarray, ring: Ring, keys: Sequence[bytes]) -> None:
    if values.dtype != np.int64 or np.any(values > ring.value_limit) or np.any(values < -ring.value_limit):
        raise ValueError(f"Shared values must be int64 within ±{ring.value_limit}.")
    if len(keys) != len(values):
        raise ValueError(f"There are {len(keys)} keys for {len(values)} devices.")
    if len(set(keys)) < len(keys):
        raise ValueError("Two devices have the same key: their shares would cancel and lay their vectors open.")


def _words(key: bytes, attempt: int, count: int) -> np.ndarray:
    nonce = bytes(8) + attempt.to_bytes(8, "little")  # The block counter, from 0, then the nonce proper.
    stream = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8")
