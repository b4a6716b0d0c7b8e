"""Numbers below the smallest normal one while a network trains: CPUs that are slow with them round them to 0."""

import pytest

import agreement
from fnn import _dispatch

DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_training_flushes_where_that_is_faster(backend, dtype, threads):
    agreement.check_subnormals(_dispatch.kernels, dtype, threads, backend != "numpy" and agreement.FLUSHES)
