"""Patching scikit-learn: its names lead to fnn's training, with its numbers, and come back exactly."""

import copy
import copyreg
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import _multilayer_perceptron
from sklearn.preprocessing import scale

import fnn
from fnn import _dispatch, _patched
from fnn._estimator_solvers import StochasticSolver
from interpreter import python

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
MODULES = (neural_network, _multilayer_perceptron)
NAMES = ("MLPClassifier", "MLPRegressor")
STOCK = {name: getattr(neural_network, name) for name in NAMES}
DATA = {"MLPClassifier": load_wine(return_X_y=True), "MLPRegressor": load_diabetes(return_X_y=True)}
DATA = {name: (scale(x), y if name == "MLPClassifier" else scale(y)) for name, (x, y) in DATA.items()}


@pytest.fixture(autouse=True)
def _unpatched_afterwards():
    yield
    fnn.unpatch_sklearn()
    assert all(getattr(module, name) is STOCK[name] for module in MODULES for name in NAMES)


@pytest.fixture
def trained_here(monkeypatch):
    """Counts the epochs of fnn's kernels."""
    calls, kernels = [], _dispatch.kernels
    original = kernels.train_epoch
    monkeypatch.setattr(kernels, "train_epoch", lambda *data: calls.append(1) or original(*data))
    return calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}])
def test_a_patched_estimator_has_the_same_numbers(name, options, trained_here):
    x, y = DATA[name]
    fnn.patch_sklearn()
    patched = getattr(neural_network, name)
    here, there = (cls(max_iter=8, random_state=3, **options).fit(x, y) for cls in (patched, STOCK[name]))
    assert trained_here
    assert type(here) is patched is not STOCK[name]
    np.testing.assert_allclose(here.loss_, there.loss_, rtol=1e-8)
    np.testing.assert_allclose(here.predict(x), there.predict(x), rtol=1e-6, atol=1e-8)
    assert repr(here) == repr(there)
    assert here.get_params() == there.get_params()
    assert here.n_iter_ == there.n_iter_
    if name == "MLPClassifier":
        np.testing.assert_allclose(here.predict_proba(x), there.predict_proba(x), rtol=1e-6)
        np.testing.assert_allclose(here.predict_log_proba(x), there.predict_log_proba(x), rtol=1e-6)


def test_patching_twice_and_by_name():
    assert not fnn.sklearn_is_patched()
    fnn.patch_sklearn()
    fnn.patch_sklearn()
    assert fnn.sklearn_is_patched()
    fnn.unpatch_sklearn("MLPRegressor")
    assert fnn.sklearn_is_patched("MLPClassifier")
    assert not fnn.sklearn_is_patched()
    assert neural_network.MLPRegressor is STOCK["MLPRegressor"]
    fnn.unpatch_sklearn()
    assert not fnn.sklearn_is_patched("MLPClassifier")
    assert not set(copyreg.dispatch_table) & set(STOCK.values())
    fnn.unpatch_sklearn()
    fnn.patch_sklearn(["MLPRegressor"])
    assert neural_network.MLPClassifier is STOCK["MLPClassifier"]
    assert neural_network.MLPRegressor is _patched.MLPRegressor


@pytest.mark.parametrize("function", [fnn.patch_sklearn, fnn.unpatch_sklearn, fnn.sklearn_is_patched])
def test_unknown_names_are_refused(function):
    with pytest.raises(ValueError, match=r"^name: expected MLPClassifier or MLPRegressor, got 'SVC'$"):
        function("SVC")
    for wrong in (7, [["MLPClassifier"]]):
        with pytest.raises(ValueError, match=r"^name: expected MLPClassifier or MLPRegressor, got "):
            function(wrong)
    with pytest.raises(ValueError, match=r"^verbose: expected 0 or 1, got 2$"):
        fnn.patch_sklearn(verbose=2)
    assert not fnn.sklearn_is_patched("MLPClassifier")


def test_instances_before_and_after():
    before = STOCK["MLPClassifier"]()
    fnn.patch_sklearn()
    after = neural_network.MLPClassifier()
    for one in (before, after, clone(after), clone(before)):
        assert isinstance(one, STOCK["MLPClassifier"])
        assert isinstance(one, neural_network.MLPClassifier)
        assert not isinstance(one, neural_network.MLPRegressor)
    assert type(clone(after)) is neural_network.MLPClassifier
    with pytest.raises(ValueError, match="The 'alpha' parameter of MLPClassifier must be"):
        neural_network.MLPClassifier(alpha=-1).fit(*DATA["MLPClassifier"])


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_load_patched_or_not(protocol):
    x, y = DATA["MLPClassifier"]
    fnn.patch_sklearn()
    model = neural_network.MLPClassifier(max_iter=5, random_state=0).fit(x, y)
    written = pickle.dumps(model, protocol)
    expected = model.predict_proba(x)
    fnn.unpatch_sklearn()
    assert pickle.dumps(model, protocol)
    for read in (pickle.loads(written), copy.deepcopy(model)):
        assert type(read) is _patched.MLPClassifier
        assert (read.predict_proba(x) == expected).all()
    read = pickle.loads(written)
    model.partial_fit(x, y)
    read.partial_fit(x, y)
    assert read.loss_ == model.loss_


def test_a_pickle_loads_in_another_process(tmp_path):
    x, y = DATA["MLPClassifier"]
    fnn.patch_sklearn()
    model = neural_network.MLPClassifier(max_iter=5, random_state=0).fit(x, y)
    (tmp_path / "model").write_bytes(pickle.dumps((model, x, model.predict_proba(x))))
    done = python(
        "import pickle\n"
        f"model, x, expected = pickle.load(open({str(tmp_path / 'model')!r}, 'rb'))\n"
        "import fnn\nfrom sklearn.neural_network import MLPClassifier\n"
        "assert isinstance(model, MLPClassifier) and not fnn.sklearn_is_patched()\n"
        "assert (model.predict_proba(x) == expected).all()"
    )
    assert done.returncode == 0, done.stderr


def test_pickles_of_scikit_learn_itself(caplog):
    x, y = DATA["MLPClassifier"]
    model = STOCK["MLPClassifier"](max_iter=5, random_state=0).fit(x, y)
    written = pickle.dumps(model)
    fnn.patch_sklearn()
    again = pickle.loads(pickle.dumps(model))  # its class has no name of its own now
    assert type(again) is type(copy.deepcopy(model)) is STOCK["MLPClassifier"]
    assert (again.predict_proba(x) == model.predict_proba(x)).all()
    read = pickle.loads(written)
    assert type(read) is neural_network.MLPClassifier
    np.testing.assert_allclose(read.predict_proba(x), model.predict_proba(x), rtol=1e-10)
    read.partial_fit(x, y)
    model.partial_fit(x, y)
    assert read.loss_ == pytest.approx(model.loss_, rel=1e-10)
    assert caplog.messages == [
        "MLPClassifier: scikit-learn trains this one, for it goes on with scikit-learn's optimizer"
    ]


class OwnWeights(_patched.MLPClassifier):
    def _init_coef(self, fan_in, fan_out, dtype):
        coefs, intercepts = super()._init_coef(fan_in, fan_out, dtype)
        return 0 * coefs, intercepts


@pytest.mark.parametrize("verbose", [0, 1])
def test_what_is_not_supported_is_left_to_scikit_learn(verbose, trained_here, caplog, monkeypatch):
    x, y = DATA["MLPClassifier"]
    fnn.patch_sklearn(verbose=verbose)
    constraints = {**_patched.MLPClassifier._engine._parameter_constraints, "momentum": [None]}
    monkeypatch.setattr(_patched.MLPClassifier._engine, "_parameter_constraints", constraints)
    with caplog.at_level(logging.INFO, "fnn"):
        model = neural_network.MLPClassifier(max_iter=3, random_state=0, momentum=0.5).fit(x, y)
        assert not trained_here
        expected = STOCK["MLPClassifier"](max_iter=3, random_state=0, momentum=0.5).fit(x, y)
        assert model.loss_ == expected.loss_
        np.testing.assert_allclose(model.predict_proba(x), expected.predict_proba(x), rtol=1e-10)
    assert len(caplog.records) == verbose
    assert all("The 'momentum' parameter of MLPClassifier must be None. Got 0.5" in text for text in caplog.messages)
    assert all((record.name, record.levelname) == ("fnn", "WARNING") for record in caplog.records)


def test_a_parameter_of_a_later_scikit_learn(monkeypatch):
    monkeypatch.setattr(_patched, "_parameters", lambda estimator: {"alpha": 0.0001, "warmth": 0.0})
    model = _patched.MLPClassifier()
    model.warmth = 0.0
    assert model._reason_for_stock(False) is None
    model.warmth = 0.5
    assert model._reason_for_stock(False) == "fnn does not know warmth=0.5"


def test_a_subclass_with_methods_of_its_own_is_scikit_learns(trained_here, caplog):
    x, y = DATA["MLPClassifier"]
    model = OwnWeights(max_iter=1, random_state=0, learning_rate_init=1e-12).fit(x, y)
    assert not trained_here
    assert abs(model.coefs_[0]).max() < 1e-9
    assert caplog.messages == ["OwnWeights: scikit-learn trains this one, for it overrides _init_coef"]


def test_between_the_two_solvers(caplog, monkeypatch):
    x, y = DATA["MLPRegressor"]
    fnn.patch_sklearn(verbose=0)
    model = neural_network.MLPRegressor(max_iter=3, random_state=0).fit(x, y)
    losses = [model.loss_]
    with monkeypatch.context() as patch:
        patch.setattr(_patched.MLPRegressor, "_reason_for_stock", lambda self, incremental: "a test")
        losses.append(model.partial_fit(x, y).loss_)
    losses += [model.partial_fit(x, y).loss_, model.fit(x, y).loss_, model.partial_fit(x, y).loss_]
    assert losses[0] > losses[1] > losses[2]
    assert losses[3] == losses[0]
    assert not caplog.messages


def who_trained(model, x, y):
    """A scorer, called where the fit was: whether it was fnn's, and in which process."""
    by_fnn = type(model) is _patched.MLPClassifier and isinstance(model._optimizer, StochasticSolver)
    return {"by_fnn": float(by_fnn), "process": os.getpid()}


@pytest.mark.parametrize("patched", [True, False])
def test_every_fit_of_a_grid_search_in_other_processes_is_of_fnn(patched):
    x, y = DATA["MLPClassifier"]
    if patched:
        fnn.patch_sklearn()
    model = neural_network.MLPClassifier(max_iter=2)
    search = GridSearchCV(model, {"alpha": [0.1, 1]}, cv=2, n_jobs=2, scoring=who_trained, refit="by_fnn").fit(x, y)
    splits = [f"split{number}_test_" for number in range(2)]
    assert [list(search.cv_results_[f"{split}by_fnn"]) for split in splits] == [[float(patched)] * 2] * 2
    assert os.getpid() not in {process for split in splits for process in search.cv_results_[f"{split}process"]}
    assert (type(search.best_estimator_) is _patched.MLPClassifier) == patched


SCRIPT = """
import sys
from sklearn.neural_network import MLPClassifier
import helper
print(__name__, MLPClassifier.__module__, sys.argv[1:], sys.path[0] == {folder!r}, helper.is_here)
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_a_program_runs_patched(as_module, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(SCRIPT.format(folder="" if as_module else str(tmp_path)))
    (tmp_path / "helper.py").write_text("is_here = True")
    monkeypatch.chdir(tmp_path)
    program = ["-m", "program"] if as_module else [str(tmp_path / "program.py")]
    done = python(f"from fnn.patch import main; main([*{program}, '-x', '1'])")
    assert done.stdout.split(" ", 2)[:2] == ["__main__", "fnn._patched"], done.stderr
    assert done.stdout.endswith("['-x', '1'] True True\n")


def test_a_script_that_cannot_be_opened_takes_one_line_and_python_s_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = python("from fnn.patch import main; main(['nofile.py'])")
    words = f"can't open file '{tmp_path / 'nofile.py'}': [Errno 2] No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"python -m fnn.patch: {words}")


@pytest.mark.parametrize("name", ["nomodule", "json", "json.nomodule", "nopackage.module", "os.path.x", ".relative"])
def test_a_module_that_is_not_there_takes_python_s_words_and_status(name):
    theirs = subprocess.run([sys.executable, "-m", name], capture_output=True, text=True)
    done = python(f"from fnn.patch import main; main(['-m', {name!r}])")
    words = theirs.stderr.removeprefix(f"{sys.executable}: ")
    assert (done.returncode, done.stdout, done.stderr) == (theirs.returncode, "", f"python -m fnn.patch: {words}")
    assert done.returncode == words.count("\n") == 1


@pytest.mark.parametrize(
    "code", ["import nomodule", "raise ImportError('mine')", "import runpy; runpy.run_module('nomodule')"]
)
def test_an_import_error_of_the_program_itself_keeps_its_traceback(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(code)
    done = python("from fnn.patch import main; main(['-m', 'program'])")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "program.py" in done.stderr


def test_a_folder_runs_by_its_main(tmp_path):
    (tmp_path / "__main__.py").write_text("print(__name__)")
    done = python(f"from fnn.patch import main; main([{str(tmp_path)!r}])")
    assert done.stdout == "__main__\n", done.stderr


def test_quiet(tmp_path):
    (tmp_path / "p.py").write_text("from fnn import _patched; print(_patched.Accelerated.verbosity)")
    for options, expected in ([], "1\n"), (["-q"], "0\n"):
        done = python(f"from fnn.patch import main; main([*{options}, {str(tmp_path / 'p.py')!r}])")
        assert done.stdout == expected, done.stderr


def test_without_scikit_learn_the_extra_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\nimport fnn\n"
        "for call in (fnn.patch_sklearn, lambda: fnn.from_sklearn(0), lambda: fnn.to_sklearn(0)):\n"
        "    try: call()\n    except ImportError as error: print(error)"
    )
    done = python(code)
    names = ("patch_sklearn", "from_sklearn", "to_sklearn")
    assert done.stdout.splitlines() == [f"fnn.{n} needs scikit-learn: pip install 'fnn[sklearn]'" for n in names]
