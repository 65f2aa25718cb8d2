"""Writes generated data in MovieLens' files, by default of ML-20M's size: 138,493 users, 20 million ratings.

It is read as any edition: scripts/prepare_data.py --data.source ml-20m --data.path DIR.
"""

import dataclasses
import pathlib
import time

from tff_rec import cli
from tff_rec.errors import InputError


@dataclasses.dataclass(frozen=True)
class MakeOptions:
    """What to make.

    Attributes:
        output: Folder to write to.
        users: Number of users.
        movies: Number of movies.
        ratings: Number of ratings.
        tags: Number of tags that users gave to movies.
        seed: Of everything random.
    """

    output: pathlib.Path
    users: int = 138_493
    movies: int = 27_278
    ratings: int = 20_000_263
    tags: int = 465_564
    seed: int = 0


def main(options: MakeOptions) -> None:
    began = time.perf_counter()
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; give 0 or more.")
    if options.output.exists():
        raise InputError(f"--output {options.output} exists; give the path of a folder to make.")
    from tff_rec.data import synthetic_movielens

    size = synthetic_movielens.MovieLensSize(options.users, options.movies, options.ratings, options.tags, options.seed)
    print(f"drawing {size.ratings:,} ratings", flush=True)
    data = synthetic_movielens.generate_movielens(size)
    beside = options.output.with_name(f"{options.output.name}.partial")
    print(f"writing to {options.output}", flush=True)
    synthetic_movielens.write_movielens(data, beside)
    beside.rename(options.output)
    print(f"done in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    cli.run(main, MakeOptions, __doc__)
