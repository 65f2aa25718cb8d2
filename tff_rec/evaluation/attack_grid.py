"""Protections by attacks: every attack of the suite from the view that every protection leaves to be seen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tff_rec.evaluation import attack_sums, attacks, inference_attacks, malicious_server, request_attacks
from tff_rec.evaluation import attack_views as views
from tff_rec.evaluation.attack_scores import Guesses, Score, score_items, score_users
from tff_rec.federated.encoding import Encode
from tff_rec.federated.requests import ItemSets

Say = Callable[[str], None]
Aggregate = Callable[[views.Subject], tuple[Encode | None, attack_sums.Sums]]
ROWS, DIRECTIONS, WHOSE = "non-zero rows", "directions", "directions: whose"
REQUESTS, ALONE, MEMBERSHIP = "requests, 10 rounds", "single requester", "membership"
AUTHORED, SINGLED_OUT = "authored vectors", "authored, singled out"
_ROUNDS_COUNTED = 10
_TRIALS = 40
_POPULAR = (0.01, 0.5)


@dataclasses.dataclass(frozen=True)
class Protection:
    """A way to train, and what of it is seen.

    Attributes:
        name: Of its row.
        model: Which of the trained models it gives.
        decoys: How devices ask for rows; None where all receive the whole table.
        aggregate: What devices encode, and what is seen of a cohort.
        users_of_a_sum: Devices whose contributions are added up before anything is seen; 0 for the cohort.
    """

    name: str
    model: str
    decoys: views.Decoys | None
    aggregate: Aggregate
    users_of_a_sum: int = 0


@dataclasses.dataclass(frozen=True)
class Study:
    """Who is attacked.

    Attributes:
        subjects: Models by name, each with the same users' histories.
        steady: Name of the model under which devices are watched.
        users: int64, those who are attacked.
        cohort: Devices of a round.
        members: bool [all users], whose histories models were trained on.
        attributes: bool [all users] by name, what may be inferred of users.
        covers: By user, int64 [n]: items as popular as those that the user has.
    """

    subjects: Mapping[str, views.Subject]
    steady: str
    users: np.ndarray
    cohort: int
    members: np.ndarray
    attributes: Mapping[str, np.ndarray]
    covers: Sequence[np.ndarray]

    @property
    def subject(self) -> views.Subject:
        """With the model under which devices are watched."""
        return self.subjects[self.steady]

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.subject.seed


Row = dict[str, Score]


def protections(noise_multipliers: Mapping[float, float], ring_sizes: Sequence[int] = (10,)) -> list[Protection]:
    """The grid's rows; noise multipliers by ε, of which a model `dp ε` was trained, and the sizes of rings."""
    rows = [
        Protection("plain: own rows only", "own rows", views.no_decoys, _uploads, 1),
        Protection("fresh decoys", "fresh decoys", views.fresh_decoys, _uploads, 1),
        Protection("persistent decoys", "persistent decoys", views.persistent_decoys, _uploads, 1),
        Protection("persistent decoys, secure sum", "persistent decoys", views.persistent_decoys, _secure),
        Protection("the same, minimum of 3", "persistent decoys", views.persistent_decoys, _secure_of_three),
        Protection("whole table", "table", None, _uploads, 1),
        Protection("secure sum", "table", None, _secure),
    ]
    rows += [Protection(f"ring of {size:,}", "table", None, _ring(size), size) for size in ring_sizes]
    return rows + [
        Protection(f"DP, ε = {epsilon:g}", model_with_noise(epsilon), None, _noisy(multiplier))
        for epsilon, multiplier in sorted(noise_multipliers.items(), reverse=True)
    ]


def model_with_noise(epsilon: float) -> str:
    """Name of the model that was trained with user-level differential privacy."""
    return f"dp {epsilon:g}"


def grid(study: Study, rows: Sequence[Protection], say: Say) -> dict[str, Row]:
    """Every attack on every protection: scores by protection and attack.

    Args:
        study: Who is attacked.
        rows: Protections.
        say: Is told of progress.
    """
    of_models: dict[str, Row] = {}
    results = {}
    for number, protection in enumerate(rows, 1):
        if protection.model not in of_models:
            say(f"model '{protection.model}': membership and attributes")
            of_models[protection.model] = on_model(study, study.subjects[protection.model])
        say(f"{number} of {len(rows)}, {protection.name}: what {len(study.users):,} devices send")
        seen = on_uploads(study, protection)
        results[protection.name] = seen | of_models[protection.model] | on_malice(study, protection)
    return results


def on_uploads(study: Study, protection: Protection) -> Row:
    """Attacks on what devices send and ask for under one protection."""
    encode, sums = protection.aggregate(study.subject)
    device = views.Device(study.subject, protection.decoys, encode)
    row, features, groups = _on_items(study, device, sums)
    row[REQUESTS] = _on_requests(study, device)
    for name, truth in study.attributes.items():
        scores = inference_attacks.attribute_scores(features, truth[study.users], groups, study.seed)
        row[f"{name} from uploads"] = score_users(scores, truth[study.users], study.seed)
    return row


def on_model(study: Study, subject: views.Subject) -> Row:
    """Attacks on a trained model: membership in training, and attributes from the queries that it serves."""
    longest = max(len(history) for history in subject.histories)
    losses = inference_attacks.losses_of(subject.model, subject.histories, longest)
    row = {MEMBERSHIP: score_users(-losses, study.members, study.seed)}
    queries = inference_attacks.queries_of(subject.model, [subject.histories[user] for user in study.users], longest)
    for name, truth in study.attributes.items():
        labels = truth[study.users]
        scores = inference_attacks.attribute_scores(queries, labels, np.arange(len(labels)), study.seed)
        row[f"{name} from queries"] = score_users(scores, labels, study.seed)
    return row


def _on_items(study: Study, device: views.Device, sums: attack_sums.Sums) -> tuple[Row, np.ndarray, np.ndarray]:
    """Attacks on items; and of every attacked user what the server has to learn attributes from, and the sum's number.

    Users of one sum share all that is seen.
    """
    subject, tower = study.subject, study.subject.model.query_tower
    found: dict[str, list[Guesses]] = {ROWS: [], DIRECTIONS: [], WHOSE: [], ALONE: []}
    features: list[np.ndarray] = []
    groups: list[int] = []
    number = 0
    for start in range(0, len(study.users), study.cohort):
        cohort = study.users[start : start + study.cohort]
        along: list[np.ndarray] = []
        for view in sums(device, cohort, 0):
            rows = (attacks.row_norms(view) > 0).astype(float)
            directions = attacks.gradients_of(view, tower)
            along += [directions] * len(view.members)
            features += [inference_attacks.upload_features(view, directions)] * len(view.members)
            groups += [number] * len(view.members)
            number += 1
            for place, user in enumerate(view.members):
                own, covers = subject.histories[user], _covers(study, view.decoys, place, user)
                found[ROWS].append(attacks.judged(rows, own, covers))
                found[DIRECTIONS].append(attacks.judged(directions, own, covers))
                alone = attacks.single_requester_scores(view, tower, place)
                if alone is not None:
                    filled = np.where(np.isnan(alone), 0.0, alone) if not _hidden(view.decoys) else alone
                    found[ALONE].append(attacks.judged(filled, own, covers))
        found[WHOSE] += _whose(study, device, cohort, np.array(along))
    row = {name: score_items(guesses, study.seed) for name, guesses in found.items()}
    return row, np.array(features), np.array(groups)


def _covers(study: Study, decoys: ItemSets | None, place: int, user: int) -> np.ndarray:
    """What hides a user's items: its decoys, or else the rest of the catalogue, of which items as popular stand."""
    return decoys[place] if decoys is not None and _hidden(decoys) else study.covers[user]


def _hidden(decoys: ItemSets | None) -> bool:
    return decoys is not None and len(decoys.items) > 0


def _whose(study: Study, device: views.Device, cohort: np.ndarray, along: np.ndarray) -> list[Guesses]:
    """Asked of an item: all of the cohort; or those who asked for its row, where decoys hide who has it."""
    subject = study.subject
    has = request_attacks.membership(subject.sets(cohort), subject.num_items)
    asked = device.asked(cohort, 0)
    hidden = asked is not None and _hidden(asked[1])
    eligible = request_attacks.membership(asked[0], subject.num_items) if hidden and asked else np.ones_like(has)
    return attacks.whose(along, has, eligible)


def _on_requests(study: Study, device: views.Device) -> Score:
    """Counting requests over rounds."""
    if device.decoys is None:
        return score_items([], study.seed)
    subject, users = study.subject, study.users
    counts = np.zeros((len(users), subject.num_items), np.int32)
    first = None
    for number in range(_ROUNDS_COUNTED):
        asked = device.asked(users, number)
        assert asked is not None
        request_attacks.count_requests(counts, asked[0])
        first = asked[1] if first is None else first
    guesses = []
    for place, user in enumerate(users):
        scores, covers = counts[place].astype(float), _covers(study, first, place, user)
        guesses.append(attacks.judged(scores, subject.histories[user], covers, _ROUNDS_COUNTED - 0.5))
    return score_items(guesses, study.seed)


def on_malice(study: Study, protection: Protection) -> Row:
    """A server that authors vectors. Noise that it would add itself is no protection from it, and is left out."""
    subject, rng = study.subject, np.random.default_rng([study.seed, 5])
    device = views.Device(subject, protection.decoys, clipped=True)
    others = (protection.users_of_a_sum or study.cohort) - 1
    labels: list[bool] = []
    same: list[float] = []
    singled_out: list[float] = []
    asked = device.asked(study.users, 0)
    for item in _targets(study, rng):
        has = np.array([item in subject.histories[user] for user in study.users])
        may = has | (asked is None or not _hidden(asked[1]) or _asks(asked[0], item))
        if not np.any(has) or not np.any(may & ~has):
            continue
        for truth in (True, False):
            user = rng.choice(study.users[may & (has == truth)], 1)
            company = rng.choice(np.setdiff1d(study.users, user), min(others, len(study.users) - 1), replace=False)
            labels.append(truth)
            same.append(malicious_server.loudness(device, np.append(user, company), item, company[:0]))
            singled_out.append(malicious_server.loudness(device, user, item, company) if others else same[-1])
    truths = np.array(labels, bool)
    return {
        AUTHORED: score_users(np.array(same), truths, study.seed),
        SINGLED_OUT: score_users(np.array(singled_out), truths, study.seed),
    }


def _targets(study: Study, rng: np.random.Generator) -> np.ndarray:
    """Items that some of the attacked users have, neither nobody nor most."""
    subject = study.subject
    share = np.bincount(subject.sets(study.users).items, minlength=subject.num_items) / len(study.users)
    fit = np.flatnonzero((share >= _POPULAR[0]) & (share <= _POPULAR[1]))
    return rng.choice(fit, min(_TRIALS, len(fit)), replace=False)


def _asks(asked: ItemSets, item: int) -> np.ndarray:
    devices = np.repeat(np.arange(len(asked)), asked.sizes())
    return np.bincount(devices[asked.items == item], minlength=len(asked)) > 0


def _uploads(subject: views.Subject) -> tuple[Encode | None, attack_sums.Sums]:
    del subject
    return None, attack_sums.each_upload


def _secure(subject: views.Subject) -> tuple[Encode | None, attack_sums.Sums]:
    return attack_sums.secure_encode(subject), attack_sums.plain_sum


def _secure_of_three(subject: views.Subject) -> tuple[Encode | None, attack_sums.Sums]:
    return attack_sums.secure_encode(subject), attack_sums.held_back(attack_sums.plain_sum, 3)


def _ring(size: int) -> Aggregate:
    def aggregate(subject: views.Subject) -> tuple[Encode | None, attack_sums.Sums]:
        ring, encode = attack_sums.ring_of(subject, size)
        return encode, attack_sums.ring_sums(ring)

    return aggregate


def _noisy(multiplier: float) -> Aggregate:
    return lambda subject: (attack_sums.secure_encode(subject), attack_sums.noisy_sum(multiplier))
