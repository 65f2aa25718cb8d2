"""What the honest-but-curious server sees of a cohort's round, computed by the code that devices run.

Devices' contributions come from `contributions.block_sum`, requests from `federated.requests`, sums from the encodings
of `federated.aggregators` and `ring_aggregator`. Nothing is assumed: a protection is what that code leaves to be seen.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_rec.evaluation.ranking import pad_histories
from tff_rec.federated import aggregators, contributions, requests
from tff_rec.federated.encoding import Encode, FixedPoint
from tff_rec.models import layers, objectives, requested_softmax, two_tower

BITS = 22
USERS_AT_ONCE = 16
_LOSS_BOUND = 100.0
_CLIP_NORM = 10.0
_NO_LIMIT = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class Subject:
    """Who is attacked: devices with the histories that they train on, and the model that they were sent.

    Attributes:
        model: Under its own weights.
        histories: int32 [n] a user, oldest first, no item twice.
        popularity: float32 [items], public.
        query_clip_norm: Bound on a user's query-tower update wherever values are encoded or noise is added.
        item_clip_norm: The same on item gradients.
        seed: Of the devices' secrets and random numbers.
    """

    model: two_tower.TwoTower
    histories: Sequence[np.ndarray]
    popularity: np.ndarray
    query_clip_norm: float = _CLIP_NORM
    item_clip_norm: float = _CLIP_NORM
    seed: int = 0

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.model.candidate_tower.num_items

    @functools.cached_property
    def item_ids(self) -> list[str]:
        """Names of the items, which attacks have no other use for."""
        return list(map(str, range(self.num_items)))

    @functools.cached_property
    def table(self) -> tf.Tensor:
        """Item vectors as sent, float32 [items, d]."""
        return self.model.candidate_embeddings()

    @property
    def law(self) -> np.ndarray:
        """Weights that decoys are drawn by, float [items]: popularity, smoothed."""
        return requests.popularity_weights(self.popularity)

    def sets(self, users: np.ndarray) -> requests.ItemSets:
        """The items of some users."""
        return requests.item_sets([np.asarray(self.histories[user], np.int32) for user in users])


@dataclasses.dataclass(frozen=True)
class View:
    """What the server has after a round of some users: one sum.

    Attributes:
        members: int64 [users], whose contributions are in it; more than one where uploads are hidden in a sum.
        items: float32 [items, d], the gradient of the item vectors.
        query: By name, the update of the query tower.
        sent: By name, the query tower that the users were sent.
        table: float32 [items, d], the item vectors that they were sent.
        asked: What each member asked for; None where all receive the whole table.
        decoys: What of it was not its own: the truth, for judging.
    """

    members: np.ndarray
    items: np.ndarray
    query: dict[str, np.ndarray]
    sent: dict[str, np.ndarray]
    table: np.ndarray
    asked: requests.ItemSets | None = None
    decoys: requests.ItemSets | None = None


Total = dict[str, Any]
"""A block's sums, by name as `contributions.block_sum` gives them, in NumPy."""
Decoys = Callable[[Subject, np.ndarray, int], requests.ItemSets]
"""From users, int64 [n], and a round to their decoys."""


def no_decoys(subject: Subject, users: np.ndarray, round_number: int) -> requests.ItemSets:
    """A device asks for its own items and nothing else."""
    del subject, round_number
    return requests.item_sets([np.zeros(0, np.int32)] * len(users))


def fresh_decoys(subject: Subject, users: np.ndarray, round_number: int) -> requests.ItemSets:
    """One decoy a positive, anew each round."""
    drawn = []
    for user in users:
        rng = np.random.default_rng([subject.seed, round_number, int(user)])
        drawn.append(requests.fresh_decoys(subject.sets(np.array([user])), subject.num_items, 1.0, rng, subject.law))
    return requests.item_sets([sets[0] for sets in drawn])


def persistent_decoys(subject: Subject, users: np.ndarray, round_number: int) -> requests.ItemSets:
    """One decoy a positive, the same in every round."""
    del round_number
    secrets = [int(user).to_bytes(16, "big") + subject.seed.to_bytes(16, "big") for user in users]
    return requests.persistent_decoys(subject.sets(users), subject.item_ids, 1.0, secrets, subject.law)


class Device:
    """The code of a device for one way to receive items, ready to be called on blocks of users.

    Args:
        subject: Whose devices.
        decoys: How they ask for rows; None where all receive the whole table.
        encode: Of the aggregation; None for floats.
        clipped: Whether contributions are bounded.
    """

    def __init__(
        self,
        subject: Subject,
        decoys: Decoys | None = None,
        encode: Encode | None = None,
        clipped: bool = False,
    ) -> None:
        self.subject = subject
        self.decoys = decoys
        training = local_training(subject, decoys is not None, clipped or encode is not None)
        num_items, dimension = subject.num_items, subject.model.candidate_tower.dimension
        signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
        signature += [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([num_items, dimension], tf.float32)]

        @tf.function
        def block_sum(history: Any, seed: Any, beside: Any, table: Any, query: Any) -> Any:
            block = {"history": history, "seed": seed, requested_softmax.DECOYS: beside}
            received = contributions.ReceivedItems(num_items, table)
            return contributions.block_sum(training, encode, query, received, block)

        query_spec = {name: tf.TensorSpec(value.shape) for name, value in self.query_weights().items()}
        self._block_sum = block_sum.get_concrete_function(*signature, query_spec)

    def query_weights(self) -> dict[str, tf.Tensor]:
        """The query tower as it stands, by name."""
        return dict(layers.own_weights(self.subject.model.query_tower))

    def asked(self, users: np.ndarray, round_number: int) -> tuple[requests.ItemSets, requests.ItemSets] | None:
        """Requests of users in a round, and the decoys among them; None for the whole table."""
        if self.decoys is None:
            return None
        decoys = self.decoys(self.subject, users, round_number)
        rng = np.random.default_rng([self.subject.seed, round_number, 1])
        return requests.shuffled_requests(self.subject.sets(users), decoys, rng), decoys

    def sum_of(
        self,
        users: np.ndarray,
        round_number: int,
        table: np.ndarray | None = None,
        query: dict[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """`contributions.block_sum` of one block of users, under the model as it stands or as given."""
        history = pad_histories([self.subject.histories[user] for user in users], _NO_LIMIT)
        decoys = None if self.decoys is None else self.decoys(self.subject, users, round_number)
        beside = np.full((len(users), 1), -1, np.int32)
        if decoys is not None:
            beside = pad_histories([decoys[place] for place in range(len(users))], _NO_LIMIT)
        seeds = np.random.default_rng([self.subject.seed, round_number, 2]).integers(0, 2**31, len(users), np.int32)
        weights = self.query_weights() if query is None else query
        sent = self.subject.table if table is None else table
        sums = self._block_sum(
            *map(tf.constant, (history, seeds, beside)),
            tf.convert_to_tensor(sent),
            {name: tf.convert_to_tensor(value) for name, value in weights.items()},
        )
        return {name: tf.nest.map_structure(lambda value: value.numpy(), part) for name, part in sums.items()}

    def total_of(
        self,
        users: np.ndarray,
        round_number: int,
        table: np.ndarray | None = None,
        query: dict[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """The same of as many users as there are, some at once."""
        starts = range(0, len(users), USERS_AT_ONCE)
        parts = [self.sum_of(users[start : start + USERS_AT_ONCE], round_number, table, query) for start in starts]
        return add(parts)


def add(totals: Sequence[Total]) -> Total:
    """The sum of some blocks' sums."""
    result = totals[0]
    for more in totals[1:]:
        result = tf.nest.map_structure(np.add, result, more)
    return result


def local_training(subject: Subject, rows: bool, clipped: bool) -> contributions.LocalTraining:
    """One local step, all users of one weight: over rows that a device asks for, or over the whole table."""
    temperature = subject.model.objective.temperature
    objective: objectives.Objective = objectives.FullSoftmax(temperature)
    if rows:
        probabilities = (subject.law / subject.law.sum()).astype(np.float32)
        objective = requested_softmax.RequestedSoftmax(temperature, subject.num_items, probabilities)
    return contributions.LocalTraining(
        subject.model.query_tower,
        objective,
        two_tower.equally,
        query_clip_norm=subject.query_clip_norm if clipped else None,
        item_clip_norm=subject.item_clip_norm if clipped else None,
    )


def bounds(subject: Subject) -> dict[str, FixedPoint]:
    """Encodings of a clipped contribution."""
    return aggregators.weighted_bounds(subject.query_clip_norm, subject.item_clip_norm, 1.0, _LOSS_BOUND, BITS)


def view_of(device: Device, members: np.ndarray, round_number: int, total: dict[str, Any]) -> View:
    """What a sum, of float arrays as `Device.sum_of` names them, is to the server."""
    asked = device.asked(members, round_number)
    sent = {name: value.numpy() for name, value in device.query_weights().items()}
    table = device.subject.table.numpy()
    return View(members, total["items"], dict(total["query"]), sent, table, *(asked or (None, None)))
