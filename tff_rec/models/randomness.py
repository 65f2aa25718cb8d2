"""Counter-based random numbers, one stream a user.

A device draws its own dropout masks and negatives. In simulation many devices share one tensor, and what a device draws
must not depend on which others stand beside it. So every number is a hash of (the user's seed, a stream's name, a
counter): the 32-bit finalizer of MurmurHash3 (Appleby), applied to whole tensors. This is good enough to sample with
and no source of secrets.
"""

import zlib

import numpy as np
import tensorflow as tf


def bits(seeds: tf.Tensor, count: tf.Tensor | int, stream: str) -> tf.Tensor:
    """Random 32-bit words, equal for equal (seed, stream, counter).

    Args:
        seeds: int32 [users], one seed a user.
        count: Number of words a user, at the counters 0 to count - 1.
        stream: Name of what the numbers are for; other names give independent numbers.

    Returns:
        uint32 [users, count].
    """
    return bits_at(seeds, tf.range(count, dtype=tf.int32), stream)


def bits_at(seeds: tf.Tensor, counters: tf.Tensor, stream: str) -> tf.Tensor:
    """Random uint32 [users, n] at the given counters, int32 [n]; other arguments as in `bits`."""
    salt = tf.constant(zlib.crc32(stream.encode()), tf.uint32)
    keys = _mix(tf.bitwise.bitwise_xor(tf.bitcast(seeds, tf.uint32), salt))
    words = tf.bitcast(counters, tf.uint32) * tf.constant(0x9E3779B9, tf.uint32)
    return _mix(keys[:, tf.newaxis] + words[tf.newaxis, :])


def uniform(seeds: tf.Tensor, count: tf.Tensor | int, stream: str) -> tf.Tensor:
    """Random float32 [users, count] in [0, 1), 24 bits each; arguments as in `bits`."""
    return _as_uniform(bits(seeds, count, stream))


def uniform_at(seeds: tf.Tensor, counters: tf.Tensor, stream: str) -> tf.Tensor:
    """Random float32 [users, n] in [0, 1), 24 bits each; arguments as in `bits_at`."""
    return _as_uniform(bits_at(seeds, counters, stream))


def integers(seeds: tf.Tensor, count: tf.Tensor | int, bound: tf.Tensor | int, stream: str) -> tf.Tensor:
    """Random int32 [users, count] in [0, bound); arguments as in `bits`. Bias below bound / 2^24."""
    draws = tf.cast(uniform(seeds, count, stream) * tf.cast(bound, tf.float32), tf.int32)
    return tf.minimum(draws, tf.cast(bound, tf.int32) - 1)


def weighted(seeds: tf.Tensor, count: tf.Tensor | int, probabilities: np.ndarray, stream: str) -> tf.Tensor:
    """Random int32 [users, count] of the n places of `probabilities` (float32 [n]), by these; others as in `bits`."""
    cumulative = tf.constant(np.cumsum(probabilities, dtype=np.float64).astype(np.float32))
    draws = uniform(seeds, count, stream) * cumulative[-1]
    places = tf.searchsorted(cumulative, tf.reshape(draws, [-1]), side="right")
    return tf.reshape(tf.minimum(places, len(probabilities) - 1), tf.shape(draws))


def _as_uniform(words: tf.Tensor) -> tf.Tensor:
    words = tf.bitwise.right_shift(words, tf.constant(8, tf.uint32))
    return tf.cast(tf.bitcast(words, tf.int32), tf.float32) * (1.0 / (1 << 24))


def _mix(words: tf.Tensor) -> tf.Tensor:
    shift = tf.bitwise.right_shift
    for amount, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = tf.bitwise.bitwise_xor(words, shift(words, tf.constant(amount, tf.uint32)))
        words = words * tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(words, shift(words, tf.constant(16, tf.uint32)))
