import numpy as np

from fnn._formulas import activations
from fnn._layout import Layout

LAYOUT = Layout((3, 4, 2), (activations.relu, activations.identity))


def test_the_blocks_follow_each_other_and_the_bias_is_the_last_row():
    flat = np.arange(26.0)
    assert LAYOUT.offsets == (0, 16, 26)
    assert LAYOUT.n_parameters == 26
    assert LAYOUT.n_layers == 2
    assert LAYOUT.shapes == ((3, 4), (4, 2))
    np.testing.assert_array_equal(LAYOUT.weights(flat)[0], np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(LAYOUT.biases(flat)[0], [12, 13, 14, 15])
    np.testing.assert_array_equal(LAYOUT.weights(flat)[1], np.arange(16.0, 24).reshape(4, 2))
    np.testing.assert_array_equal(LAYOUT.biases(flat)[1], [24, 25])


def test_a_corner_adds_three_rows_behind_the_bias():
    layout = Layout((3, 2, 4, 1), (activations.corner, activations.relu, activations.corner))
    flat = np.arange(layout.n_parameters)
    assert layout.offsets == (0, 14, 26, 34)
    assert layout.bends == (True, False, True)
    assert [block.shape for block in layout.blocks(flat)] == [(4, 2), (3, 4), (5, 1)]
    assert [corner.tolist() for corner in layout.corners(flat)] == [
        [[8, 9], [10, 11], [12, 13]],
        [],
        [[31], [32], [33]],
    ]
    assert layout.biases(flat)[2].tolist() == [30]


def test_views_write_into_the_vector():
    flat = np.zeros(26)
    LAYOUT.weights(flat)[1][3, 1] = 1
    LAYOUT.biases(flat)[0][0] = 2
    assert np.flatnonzero(flat).tolist() == [12, 23]


def test_the_first_layer_costs_no_back_propagated_sum():
    assert LAYOUT.operations == 4 * 12 + 6 * 8
    assert Layout((5, 7), (activations.identity,)).operations == 4 * 35
