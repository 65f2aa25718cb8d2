"""Made-up studies in the shape that scripts/compare.py writes; none of their numbers was measured."""

import json
import zlib

import numpy as np

METRICS = ["hit_rate_10", "ndcg_10", "hit_rate_20", "mrr"]
ENVIRONMENT = {
    "python": "3.11",
    "tensorflow": "2.14.1",
    "tensorflow_federated": "0.87.0",
    "cpus": 2,
    "machine": "x86_64",
}
METHODS = {
    "attention-central": ("Attention tower, centralised, all histories in one place", 4.0),
    "attention-federated": ("Attention tower, federated (cohort 100, secure sum)", 3.8),
    "bag-federated": ("Bag tower, federated", 3.0),
    "ials": ("iALS", 2.0),
    "ease": ("EASE", 2.4),
    "item-knn": ("item-kNN", 1.9),
    "popularity": ("Popularity (no communication)", 1.0),
    "alone": ("Each device alone", 0.5),
}
USERS = 200


def line(cell, strength, *, federated=False, epsilon=None, users=USERS, rng=None):
    """A made-up result of ranking and the ranks behind it; a larger strength ranks better."""
    rng = rng or np.random.default_rng(hash_of(cell["key"]))
    ranks = np.maximum(1, np.exp(rng.normal(5.5 - 0.4 * strength, 1.8, users))).astype(np.int32)
    found = {
        "hit_rate_10": 100 * np.mean(ranks <= 10),
        "ndcg_10": 100 * np.mean(np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0)),
        "hit_rate_20": 100 * np.mean(ranks <= 20),
        "mrr": 100 * np.mean(1 / ranks),
    }
    ndcg = found["ndcg_10"]
    rounds = range(10, 101, 10) if federated else ()
    record = {
        **{name: cell[name] for name in ("key", "table", "data", "method", "protocol", "seed", "label")},
        "status": "done",
        "config_hash": "0123abcd",
        "code_version": "made-up",
        "finished": "2026-01-01T00:00:00Z",
        "seconds": 12.5,
        "metrics": {name: {"value": value, "low": value * 0.85, "high": value * 1.15} for name, value in found.items()},
        "users": users,
        "validation": {"ndcg_10": ndcg},
        "chosen": {"dimension": 32, "learning_rate": 0.1},
        "grid": [
            {"hyperparameters": {"dimension": size}, "validation": {"ndcg_10": ndcg - size / 100}} for size in (16, 32)
        ],
        "curve": [
            {
                "round": number,
                "seconds": 0.4 * number,
                "bytes_per_device": 12_345.0 * number,
                "ndcg_10": ndcg * (1 - np.exp(-number / 30)),
            }
            for number in rounds
        ],
        "traffic": {"down": 2e5 * strength, "up": 1e5, "peers": 0} if federated else None,
        "epsilon": None if epsilon is None else {"epsilon": epsilon, "delta": 1e-5},
        "buckets": {
            way: [
                {"label": label, "users": 50 + 10 * n, "ndcg_10": ndcg * (0.5 + 0.3 * n)}
                for n, label in enumerate(labels)
            ]
            for way, labels in (
                ("popularity", ("least popular third", "middle third", "most popular third")),
                ("activity", ("under 20", "20 to 99", "100 or more")),
            )
        },
        "coverage": 0.1 * strength / 4,
        "popularity_bias": 90.0,
        "environment": ENVIRONMENT,
    }
    return record, ranks


def hash_of(text):
    return zlib.crc32(text.encode())


def cell(table, method, label, seed, *, data="made-up", protocol="loo-full", x=None):
    at = "" if x is None else f".{x['value']}"
    key = f"{table}.{data}.{protocol}.{method}{at}.{seed}"
    found = {
        "key": key,
        "table": table,
        "data": data,
        "method": method,
        "protocol": protocol,
        "seed": seed,
        "label": label,
    }
    return found if x is None else found | {"x": x}


def write(folder, plan, records):
    """Writes a study; `records` are lines with their ranks, or None for a cell without."""
    (folder / "ranks").mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text('name = "made-up"\n')
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record, _ in records))
    for record, ranks in records:
        if ranks is not None:
            np.save(folder / "ranks" / f"{record['key']}.npy", ranks)


def failed(of):
    names = ("key", "table", "data", "method", "protocol", "seed", "label")
    about = {name: of[name] for name in names}
    return about | {
        "status": "failed",
        "error": "the grid holds no number | at all",
        "config_hash": "0",
        "seconds": 1.0,
    }


def whole(folder):
    """A study with all there can be: two protocols, sweeps, a failed cell, cells that were not run, published rows."""
    cells, records = [], []
    for protocol in ("loo-full", "loo-99"):
        for method, (label, strength) in METHODS.items():
            for seed in range(3):
                of = cell("headline", method, label, seed, protocol=protocol)
                cells.append(of)
                if method == "ials" and seed == 1:
                    records.append((failed(of), None))
                elif method != "alone":
                    federated = "federated" in method
                    epsilon = 8.0 if method == "bag-federated" else 2.0 if federated else None
                    records.append(line(of, strength, federated=federated, epsilon=epsilon))
    for name, unit, values in (
        ("cohort size", "users", (10, 100, 1000)),
        ("ε", "", (0.5, 2.0, 8.0, None)),
        ("local steps", "steps", (1, 4, 16)),
    ):
        table = f"sweep-{name.replace(' ', '-')}"
        for value in values:
            for method, strength in (("attention-federated", 3.8), ("bag-federated", 3.0)):
                of = cell(table, method, method, 0, x={"name": name, "unit": unit, "value": value})
                cells.append(of)
                if name != "local steps":
                    records.append(line(of, strength - 1 / (value or 10), federated=True))
    published = [
        {
            "label": "SASRec with full softmax",
            "source": "A. Author et al. 2021, table 3",
            "data": "made-up",
            "values": {"hit_rate_10": 31.0, "ndcg_10": 18.0},
        }
    ]
    tables = [
        {
            "id": "headline",
            "title": "Federated against centralised against baselines",
            "caption": "A made-up table.",
            "protocol": "loo-full",
            "metrics": METRICS,
            "published": published,
        }
    ]
    tables += [
        {"id": name, "title": title, "caption": "", "protocol": "loo-full", "metrics": ["ndcg_10"], "kind": "sweep"}
        for name, title in (
            ("sweep-cohort-size", "Quality against cohort size"),
            ("sweep-ε", "Quality against privacy"),
            ("sweep-local-steps", "Quality against local steps"),
        )
    ]
    plan = {"name": "made-up", "title": "A made-up study: nothing here was measured", "cells": cells, "tables": tables}
    write(folder, plan, records)
    return plan, records


def small(folder, metric="ndcg_10"):
    """One table: a method with two seeds, one with a seed that failed, one that was not run."""
    methods = {"central": "centralised", "federated": "federated", "alone": "each device alone"}
    cells = [cell("main", method, label, seed) for method, label in methods.items() for seed in (0, 1)]
    records = [line(cells[0], 4.0), line(cells[1], 4.0), line(cells[2], 3.8, federated=True, epsilon=2.0)]
    if metric != "ndcg_10":
        for record, _ in records:
            record["metrics"][metric] = record["metrics"]["ndcg_10"]
    records.append((failed(cells[3]), None))
    table = {
        "id": "main",
        "title": "What federation costs",
        "caption": "Made up.",
        "protocol": "loo-full",
        "metrics": [metric],
        "published": [{"label": "SASRec", "source": "nobody", "data": "made-up", "values": {metric: 18.25}}],
    }
    plan = {"name": "small", "title": "A small made-up study", "cells": cells, "tables": [table]}
    write(folder, plan, records)
    return plan, records
