from importlib import resources

import numpy as np
from sklearn import datasets

import fnn


def test_the_digits_are_scikit_learns():
    x, labels = fnn.load_digits()
    theirs = datasets.load_digits()
    assert x.dtype == np.float32
    assert labels.dtype == np.intp
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x * 16, theirs.data)
    np.testing.assert_array_equal(labels, theirs.target)


def test_every_call_gives_new_arrays():
    x, labels = fnn.load_digits()
    x[:], labels[:] = 7, 7
    again, labels_again = fnn.load_digits()
    assert again.max() == 1
    assert labels_again.tolist()[:10] == list(range(10))


def test_the_file_is_small_and_its_licence_stands_beside_it():
    data = resources.files("fnn").joinpath("data")
    assert len(data.joinpath("digits.npz").read_bytes()) < 150_000
    licence = data.joinpath("LICENSE-digits.txt").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "creativecommons.org/licenses/by/4.0"):
        assert words in licence
