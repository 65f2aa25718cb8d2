"""Ranges of options, as they are named on the command line; no TensorFlow."""

from collections.abc import Iterable

from tff_rec.errors import InputError


def check_whole_numbers(numbers: Iterable[tuple[str, int, int]]) -> None:
    """Raises InputError unless each (option, number, least) is at least the least."""
    for name, value, least in numbers:
        if value < least:
            raise InputError(f"--{name} is {value}; give {least} or more.")


def check_positive_numbers(numbers: Iterable[tuple[str, float | None]]) -> None:
    """Raises InputError unless each (option, number) is positive and finite, or None."""
    for name, number in numbers:
        if number is not None and not 0 < number < float("inf"):
            raise InputError(f"--{name} is {number}; give a positive number.")


def check_rates(rates: Iterable[tuple[str, float]]) -> None:
    """Raises InputError unless each (option, rate) is from 0 to below 1."""
    for name, rate in rates:
        if not 0 <= rate < 1:
            raise InputError(f"--{name} is {rate}; give a number from 0 to below 1.")


def check_ring(shares: int, size: int, cohort: int) -> None:
    """Raises InputError unless a cohort has rings of the size, and these as many members as shares."""
    if size < shares:
        raise InputError(
            f"--training.ring-size {size} is below --training.ring-shares {shares}; a ring needs as many devices as "
            "shares."
        )
    if cohort < size:
        raise InputError(
            f"--training.clients-per-round {cohort} is below --training.ring-size {size}; make the cohort larger or "
            "the ring smaller."
        )
