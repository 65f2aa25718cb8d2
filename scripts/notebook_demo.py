"""Walks through split federated training on the seed notebook's 138 H&M transactions and says who sees what.

Two devices and a server, played by this one process: requests with decoys, training on the devices, secret sharing,
both towers at the server, and recommendations formed on the device and at the server.
"""

import csv
import dataclasses
import hashlib
import math
import pathlib
from typing import TYPE_CHECKING, Any

from tff_rec import cli
from tff_rec.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from tff_rec.federated.requests import ItemSets
    from tff_rec.federated.secret_sharing import Ring

TRANSACTIONS = pathlib.Path(__file__).parent / "data" / "notebook_transactions.csv"
DEVICES = 2
NEGATIVE_RATE = 0.25
WIDTH, DIMENSION = 64, 16
BATCH = 8
TOP = 5
BOUND, BITS = 16.0, 32


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """How long to train.

    Attributes:
        rounds: Number of rounds.
        seed: Of initial weights, decoys and batches. Shares are drawn anew by the operating system each time.
    """

    rounds: int = 20
    seed: int = 0


@dataclasses.dataclass
class Device:
    """A customer's device.

    Attributes:
        customer: Which row of the query tower's embedding is its own.
        positives: Indices of articles that it bought.
        decoys: Indices of articles that it did not.
        tower: Its query tower.
        optimizer: Of the tower.
    """

    customer: int
    positives: "np.ndarray"
    decoys: "np.ndarray"
    tower: Any
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class Contribution:
    """What training on a device gives: change of the shared layers, gradients of all item vectors, loss before."""

    update: list["np.ndarray"]
    item_gradient: "np.ndarray"
    loss: float


def main(options: DemoOptions) -> None:
    if options.rounds < 1 or not 0 <= options.seed < 2**32:
        raise InputError("--rounds must be 1 or more, and --seed from 0 to 2^32 - 1.")
    import numpy as np

    articles, purchases = read_transactions()
    positives, decoys = show_requests(articles, purchases, options.seed)
    print("\nstarting TensorFlow and TFF (10 to 20 seconds)", flush=True)
    import tensorflow as tf

    tf.keras.utils.set_random_seed(options.seed)
    items = build_tower(len(articles))
    shared = build_tower(DEVICES)
    devices = [
        Device(customer, positives[customer], decoys[customer], build_tower(DEVICES), tf.keras.optimizers.Adam())
        for customer in range(DEVICES)
    ]
    show_towers(items, shared)
    rng = np.random.default_rng(options.seed)
    train(devices, shared, items, options.rounds, rng)
    recommend(devices[0], shared, items, articles)


def read_transactions() -> tuple[list[str], list[list[str]]]:
    """All articles, and the distinct purchases of the first two customers."""
    with TRANSACTIONS.open(newline="") as file:
        rows = [(row["customer_id"], row["article_id"]) for row in csv.DictReader(file)]
    customers, articles = (list(dict.fromkeys(column)) for column in zip(*rows, strict=True))
    print(f"{len(rows)} transactions of {len(customers)} customers, {len(articles)} articles")
    purchases = [
        list(dict.fromkeys(article for customer, article in rows if customer == chosen))
        for chosen in customers[:DEVICES]
    ]
    return articles, purchases


def show_requests(articles: list[str], purchases: list[list[str]], seed: int) -> tuple["ItemSets", "ItemSets"]:
    """Positives and persistent decoys of both devices, and what the server sees of them."""
    import numpy as np

    from tff_rec.federated import requests

    place = {article: index for index, article in enumerate(articles)}
    positives = requests.item_sets([np.array([place[article] for article in bought]) for bought in purchases])
    secrets = [hashlib.sha256(f"{seed}/{device}".encode()).digest() for device in range(DEVICES)]
    decoys = requests.persistent_decoys(positives, articles, NEGATIVE_RATE, secrets)
    asked = requests.shuffled_requests(positives, decoys, np.random.default_rng(seed))
    print("\n1. requests")
    for device, (own, other) in enumerate(zip(positives.sizes(), decoys.sizes(), strict=True)):
        wanted = math.ceil(NEGATIVE_RATE * own)
        note = "" if wanted == other else f" ({wanted} wanted: it bought all other articles)"
        print(f"device {device + 1} knows: {own} distinct purchases and {other} negatives{note}")
        first = ", ".join(articles[item] for item in asked[device][:4])
        print(f"server sees: {own + other} requested items, the same in every round, shuffled: {first}, …")
    alone = np.sum(requests.minimum_requesters(asked, len(articles), 1).requesters == 1)
    print(f"server sees: {alone} of {len(articles)} rows have a single requester; their sums will be its own gradients")
    return positives, decoys


def build_tower(num_ids: int) -> Any:
    """Embedding → 64 → ReLU → 64 → ReLU → 16, with PyTorch's standard normal embeddings as in the notebook."""
    import tensorflow as tf

    normal = tf.keras.initializers.RandomNormal(stddev=1.0)
    dense = tf.keras.layers.Dense
    embedding = tf.keras.layers.Embedding(num_ids, WIDTH, embeddings_initializer=normal)
    tower = tf.keras.Sequential([embedding, dense(WIDTH, "relu"), dense(WIDTH, "relu"), dense(DIMENSION)])
    tower.build((None,))
    return tower


def show_towers(items: Any, shared: Any) -> None:
    print("\n2. towers")
    for place, name, tower in (("server", "item", items), ("device", "query", shared)):
        shapes = " → ".join(str(tuple(weight.shape)) for weight in tower.weights if len(weight.shape) == 2)
        print(f"{place}: {name} tower {shapes}")
    print("a customer's embedding row stays on its device: nobody else would contribute to its sum")


def train(devices: list[Device], shared: Any, items: Any, rounds: int, rng: "np.random.Generator") -> None:
    """Rounds of training, the first of them step by step."""
    import tensorflow as tf

    ids = tf.range(items.layers[0].input_dim)
    query_optimizer = tf.keras.optimizers.Adam(0.01, beta_1=0.9, beta_2=0.99, epsilon=1e-3)
    item_optimizer = tf.keras.optimizers.Adam(0.01)
    print("\n3. training")
    for number in range(1, rounds + 1):
        with tf.GradientTape() as tape:
            table = items(ids)
        weights = [weight.numpy() for weight in shared.weights[1:]]
        sent = [train_on_device(device, weights, table.numpy(), rng) for device in devices]
        update, item_gradient = mean_through_ring(sent, show=number == 1)
        query_optimizer.apply_gradients(zip([-part for part in update], shared.weights[1:], strict=True))
        gradients = tape.gradient(table, items.weights, output_gradients=tf.constant(item_gradient))
        item_optimizer.apply_gradients(zip(gradients, items.weights, strict=True))
        if number == 1:
            print("server does: FedAdam on the query tower's shared layers; item tower by back-propagation of the sums")
        if number in (1, rounds) or number % 5 == 0:
            losses = ", ".join(f"device {i + 1} {part.loss:.4f}" for i, part in enumerate(sent))
            print(f"round {number}: loss {losses}")


def train_on_device(
    device: Device, weights: list["np.ndarray"], table: "np.ndarray", rng: "np.random.Generator"
) -> Contribution:
    """One pass over the positives in batches, each positive against all decoys of the device.

    Args:
        device: Its embedding row and optimizer keep their state over the rounds.
        weights: The shared layers as sent.
        table: Vectors of the items; the device looks at those it asked for.
        rng: Order of the positives.
    """
    import numpy as np
    import tensorflow as tf

    for variable, value in zip(device.tower.weights[1:], weights, strict=True):
        variable.assign(value)
    item_gradient, losses = np.zeros_like(table), []
    order = rng.permutation(device.positives)
    for batch in np.split(order, range(BATCH, len(order), BATCH)):
        candidates = np.concatenate([batch[:, np.newaxis], np.tile(device.decoys, (len(batch), 1))], axis=1)
        vectors = tf.constant(table[candidates])
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            query = device.tower(tf.constant([device.customer]))
            cosine = -tf.keras.losses.cosine_similarity(vectors, query[:, tf.newaxis])
            losses.append(-tf.nn.log_softmax(cosine, axis=1)[:, 0])
            loss = tf.reduce_mean(losses[-1])
        *query_gradients, vector_gradients = tape.gradient(loss, [*device.tower.trainable_weights, vectors])
        np.add.at(item_gradient, candidates, vector_gradients.numpy())
        device.optimizer.apply_gradients(zip(query_gradients, device.tower.trainable_weights, strict=True))
    update = [variable.numpy() - value for variable, value in zip(device.tower.weights[1:], weights, strict=True)]
    return Contribution(update, item_gradient, float(tf.reduce_mean(tf.concat(losses, axis=0))))


def mean_through_ring(sent: list[Contribution], show: bool) -> tuple[list["np.ndarray"], "np.ndarray"]:
    """Means over devices of updates and item gradients, of which the server sees the sums.

    Devices weigh the same: by purchases, the 110 of one would drown the 14 of the other.
    """
    import numpy as np
    import tensorflow as tf

    from tff_rec.federated import secret_sharing
    from tff_rec.federated.encoding import FixedPoint

    point = FixedPoint(BOUND, BITS)
    parts = [[*contribution.update, contribution.item_gradient] for contribution in sent]
    rows = np.stack([np.concatenate([part.ravel() for part in own]) for own in parts])
    integers = point.encode(tf.constant(rows)).numpy().astype(np.int64)
    ring = secret_sharing.Ring(point.limit, DEVICES, shares=2, group_size=DEVICES, minimum_members=DEVICES)
    keys = secret_sharing.new_keys(DEVICES)
    result = secret_sharing.ring_round(integers, ring, keys=keys)
    if show:
        show_ring(integers, ring, keys, result.total)
    mean = point.decode(tf.constant(result.total)).numpy() / result.included.sum()
    pieces = np.split(mean, np.cumsum([part.size for part in parts[0]])[:-1])
    *update, item_gradient = [piece.reshape(part.shape) for piece, part in zip(pieces, parts[0], strict=True)]
    return update, item_gradient


def show_ring(integers: "np.ndarray", ring: "Ring", keys: list[bytes], total: "np.ndarray") -> None:
    """What passes between the parties, for one of the numbers."""
    import numpy as np

    from tff_rec.federated import secret_sharing

    place = np.argmax(np.abs(integers).min(axis=0))
    shares = secret_sharing.share(integers, ring, keys)
    uploads = secret_sharing.upload(shares, ring)
    print(f"each device has {integers.shape[1]} numbers, as integers; number {place} of them, modulo 2^64:")
    for device in range(DEVICES):
        kept, given = shares[device, :, place]
        print(
            f"device {device + 1} knows: {integers[device, place]} = {kept} (kept) + {given} (to device {2 - device})"
        )
    print(f"server sees: uploads {uploads[0, place]} and {uploads[1, place]}; their sum {total[place]}")
    exact = (total == integers.sum(axis=0)).all()
    print(f"ring's sum equals the sum of the integers in all places: {exact}")
    print("two devices are too few to hide: either could take its own number from the sum; use rings of 10 or more")


def recommend(device: Device, shared: Any, items: Any, articles: list[str]) -> None:
    """The first device's recommendations, formed on the device and at the server."""
    import numpy as np
    import tensorflow as tf

    for variable, value in zip(device.tower.weights[1:], shared.weights[1:], strict=True):
        variable.assign(value)
    table = tf.math.l2_normalize(items(tf.range(len(articles))), axis=1).numpy()
    query = tf.math.l2_normalize(device.tower(tf.constant([device.customer])), axis=1).numpy()[0]
    scores = table @ query
    right = np.mean(scores[device.positives][:, np.newaxis] > scores[device.decoys])
    print("\n4. recommendations for device 1")
    print(f"pairs of a purchase and a negative in the right order: {100 * right:.0f} %")
    allowed = np.setdiff1d(np.arange(len(articles)), device.positives)
    on_device = allowed[np.argsort(-scores[allowed], kind="stable")][:TOP]
    print(f"on the device: it fetches all {len(articles)} vectors ({table.nbytes} bytes), as all do, and ranks them")
    print("server sees: nothing of the query and nothing of the result; so small a table needs no requests in training")
    count = TOP + len(device.positives)
    ranked = np.argsort(-(table @ query), kind="stable")[:count]
    at_server = ranked[~np.isin(ranked, device.positives)][:TOP]
    print(f"at the server: it gets the query ({query.nbytes} bytes) and returns the best {count}")
    print("server sees: the query, so the taste it stands for, and the returned articles")
    print(f"on the device: {' '.join(articles[item] for item in on_device)}")
    print(f"at the server: {' '.join(articles[item] for item in at_server)}")


if __name__ == "__main__":
    cli.run(main, DemoOptions, __doc__)
