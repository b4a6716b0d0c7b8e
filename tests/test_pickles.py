"""Pickles name the module that a class was in when they were written, and load where it has moved since."""

import pickle

import pytest

import fnn
from fnn import _layer_views, _one_at_a_time

MOVED = [
    ("_estimator", "MLPClassifier", fnn.MLPClassifier),
    ("_estimator", "MLPRegressor", fnn.MLPRegressor),
    ("_network", "Input", fnn.Input),
    ("_network", "Dense", fnn.Dense),
    ("_network", "LayerViews", _layer_views.LayerViews),
    ("_float_neural_net", "Options", fnn.Options),
    ("_pass_state", "OneAtATime", _one_at_a_time.OneAtATime),
]


@pytest.mark.parametrize(("module", "name", "found"), MOVED, ids=[name for _, name, _ in MOVED])
def test_classes_are_found_where_they_were(module, name, found):
    assert found.__module__ != f"fnn.{module}"
    assert pickle.loads(f"cfnn.{module}\n{name}\n.".encode()) is found
