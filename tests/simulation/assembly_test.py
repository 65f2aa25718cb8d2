"""Blocks are dealt out to TFF clients evenly, none lost, none with more than its share."""

import collections

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.simulation import assembly


def blocks_of(lengths):
    """Of two users each, told apart by their seeds."""
    return [
        collections.OrderedDict(history=np.zeros([2, length], np.int32), seed=np.full([2], number, np.int32))
        for number, length in enumerate(lengths)
    ]


def dealt(lengths, num_clients):
    """The numbers of each client's blocks."""
    datasets = assembly.as_datasets(blocks_of(lengths), num_clients)
    return [[int(block["seed"][0]) for block in dataset] for dataset in datasets]


class AsDatasetsTest(tf.test.TestCase):
    def test_long_blocks_are_spread(self):
        """Taken in turns the first client would have 17 + 5 + 3 + 2 = 27 of 43."""
        self.assertEqual(dealt([17, 7, 5, 4, 3, 3, 2, 2], 2), [[0, 4, 6, 7], [1, 2, 3, 5]])

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
    def test_every_block_goes_to_one_client_in_order_and_none_has_more_than_its_share(self, lengths, num_clients):
        hands = dealt(lengths, num_clients)
        self.assertLen(hands, min(num_clients, len(lengths)))
        self.assertCountEqual([number for hand in hands for number in hand], range(len(lengths)))
        for hand in hands:
            self.assertEqual(hand, sorted(hand))
            self.assertBetween(len(hand), 1, -(-len(lengths) // len(hands)))


if __name__ == "__main__":
    tf.test.main()
