import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fnn
from fnn._cli import _read_npz, main

SOURCE = str(Path(fnn.__file__).parent.parent)
RNG = np.random.default_rng(3)
X = RNG.normal(size=(200, 4))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty directory of one's own."""
    monkeypatch.chdir(tmp_path)


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fnn", *arguments],
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def accuracy(text):
    return float(re.search(r"^test accuracy ([\d.]+) %", text, re.MULTILINE)[1])


def refused(capsys, message, *arguments, status=2):
    """Expect one line on stderr, this status, and no file."""
    before = sorted(os.listdir())
    try:
        code = main(list(arguments))
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    assert code == status
    lines = [line for line in captured.err.splitlines() if not line.startswith("epoch ")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith(f"fnn: {message}"), lines[0]
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("backend_name", fnn.available_backends())
def test_the_main_job(monkeypatch, backend_name):
    monkeypatch.setenv("FNN_BACKEND", backend_name)
    begin = time.monotonic()
    process = start("train")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"backend: {backend_name}\n" in out
    assert accuracy(out) >= 96
    assert "1      (64, 32)  relu             2,080\n" in out
    assert re.search(r"^trained 40 epochs in \S+ s, \S+ us per sample$", out, re.MULTILINE)
    assert out.endswith("saved digits.fnn\n")
    assert err.splitlines()[-1].startswith("epoch 40/40, loss ")
    assert os.listdir() == ["digits.fnn"]
    x, labels = fnn.load_digits()
    assert np.mean(fnn.load("digits.fnn").predict_class(x) == labels) > 0.98
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("seed", range(6))
def test_the_defaults_reach_96_percent_for_any_seed(capsys, seed):
    assert main(["train", "--seed", str(seed), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert accuracy(captured.out) >= 96
    assert captured.err == ""


@pytest.mark.parametrize("seed", range(3))
def test_the_article_s_way(capsys, seed):
    online = ["--batch-size", "1", "--optimizer", "sgd", "--loss", "squared_error"]
    assert main(["train", *online, "--seed", str(seed), "--epochs", "15"]) == 0
    assert accuracy(capsys.readouterr().out) >= 95
    net = fnn.load("digits.fnn")
    assert net.layout.activations[-1].name == "identity"
    assert np.abs(net.parameters).max() <= 1


def test_the_options_reach_the_network(capsys):
    same = ["--hidden", "20,15", "--activation", "leaky_relu", "--epochs", "2", "--seed", "4", "--dtype", "float64"]
    steps = ["--batch-size", "50", "--learning-rate", "0.05", "--momentum", "0.5", "--saturation", "none"]
    main(["train", *same, *steps, "--threads", "1", "--test-fraction", "0.5", "--output", "net.model"])
    assert "899 rows to train on, 898 held out" in capsys.readouterr().out
    net = fnn.load("net.model")
    assert net.layout.sizes == (64, 20, 15, 10)
    assert [a.name for a in net.layout.activations] == ["leaky_relu", "leaky_relu", "softmax"]
    assert net.dtype == np.float64
    main(["train", *same, "--saturation", "0.05"])
    limited = fnn.load("digits.fnn").parameters
    assert np.abs(limited).max() <= 0.05 < np.abs(net.parameters).max()


def test_steps_are_as_asked(capsys, monkeypatch):
    used = []

    def spy(self, x, y, **options):
        used.append((options["optimizer"], options["batch_size"], options["saturation"]))
        return real(self, x, y, **options)

    real = fnn.Network.fit
    monkeypatch.setattr(fnn.Network, "fit", spy)
    quick = ["train", "--epochs", "1", "--quiet"]
    for arguments in (
        [],
        ["--batch-size", "1"],
        ["--batch-size", "1", "--loss", "squared_error"],
        ["--learning-rate", "0.5", "--momentum", "0.25", "--batch-size", "64", "--saturation", "none"],
        ["--dropout", "0.5"],
        ["--dropout", "0.5", "--loss", "squared_error"],
        ["--dropout", "0", "--batch-size", "1"],
        ["--dropout", "0.5", "--learning-rate", "0.5"],
    ):
        main(quick + arguments)
    assert used == [
        (fnn.SGD(0.05, 0.9), 16, 1.0),
        (fnn.SGD(0.05), 1, 1.0),
        (fnn.SGD(0.01), 1, 1.0),
        (fnn.SGD(0.5, 0.25), 64, None),
        (fnn.SGD(0.02, 0.9), 16, 1.0),
        (fnn.SGD(0.005, 0.9), 16, 1.0),
        (fnn.SGD(0.05), 1, 1.0),
        (fnn.SGD(0.5, 0.9), 16, 1.0),
    ]


@pytest.mark.parametrize(
    ("asked", "shares"), [([], (0, 0, 0, 0)), (["0.5"], (0, 0.5, 0.5, 0)), (["0.2,0.5"], (0, 0.2, 0.5, 0))]
)
def test_dropout_is_of_the_inner_layers(capsys, asked, shares):
    options = [option for share in asked for option in ("--dropout", share)]
    assert main(["train", "--hidden", "20,15", "--epochs", "2", "--saturation", "none", "--quiet", *options]) == 0
    net = fnn.load("digits.fnn")
    assert net.layout.dropouts == shares
    assert ("relu, dropout 0.5" in capsys.readouterr().out) == (0.5 in shares)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error", "poisson"])
def test_the_defaults_go_with_dropout(capsys, loss, seed):
    asked = ["--hidden", "64,64", "--dropout", "0.5", "--loss", loss, "--target", "classes"]
    assert main(["train", *asked, "--seed", str(seed), "--quiet"]) == 0
    assert accuracy(capsys.readouterr().out) >= 90


@pytest.mark.parametrize("batch_size", ["16", "1"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error", "poisson"])
def test_the_defaults_go_with_three_inner_layers(capsys, loss, batch_size):
    asked = ["--hidden", "64,64,64", "--loss", loss, "--target", "classes", "--batch-size", batch_size]
    assert main(["train", *asked, "--quiet"]) == 0
    assert accuracy(capsys.readouterr().out) >= 95


def test_no_hidden_layer_makes_a_linear_model(capsys):
    assert main(["train", "--hidden", "", "--epochs", "3"]) == 0
    assert fnn.load("digits.fnn").layout.sizes == (64, 10)


def test_classes_from_an_archive(capsys):
    np.savez("blobs.npz", x=X, y=LABELS)
    assert main(["train", "blobs.npz", "--epochs", "60"]) == 0
    assert accuracy(capsys.readouterr().out) > 85
    net = fnn.load("blobs.fnn")
    assert net.layout.sizes == (4, 32, 3)
    assert net.layout.activations[-1].name == "softmax"


@pytest.mark.parametrize("header", ["", "a,b,c,d,class\n", '"0","1","2","3","class"\n', "\ufeffa,b,c,d,class\n"])
def test_classes_from_a_table(capsys, header):
    rows = "\n".join(",".join(map(str, [*row, label])) for row, label in zip(X, LABELS, strict=True))
    Path("blobs.csv").write_text(header + rows + "\n", encoding="utf-8")
    assert main(["train", "blobs.csv", "--epochs", "5", "--quiet"]) == 0
    assert "160 rows to train on, 40 held out" in capsys.readouterr().out
    assert fnn.load("blobs.fnn").layout.sizes == (4, 32, 3)


@pytest.mark.parametrize("choice", [["--loss", "squared_error"], ["--target", "regression"]])
def test_a_regression(capsys, choice):
    np.savez("plane.npz", x=X, y=X @ [1, -2, 0.5, 0])
    assert main(["train", "plane.npz", *choice, "--epochs", "60"]) == 0
    found = re.search(r"^test R2 ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert float(found[1]) > 0.95
    assert fnn.load("plane.fnn").layout.sizes == (4, 32, 1)


def test_two_classes_through_one_output(capsys):
    np.savez("two.npz", x=X, y=LABELS[:, None] > 0)
    assert main(["train", "two.npz", "--loss", "binary_cross_entropy", "--epochs", "60"]) == 0
    assert accuracy(capsys.readouterr().out) > 85
    net = fnn.load("two.fnn")
    assert net.layout.sizes == (4, 32, 1)
    assert net.layout.activations[-1].name == "sigmoid"


def test_one_hot_rows_and_rows_of_several_outputs(capsys):
    np.savez("rows.npz", x=X, y=np.eye(3)[LABELS])
    for loss, target in (
        ("cross_entropy", "classes"),
        ("squared_error", "classes"),
        ("binary_cross_entropy", "classes"),
    ):
        assert main(["train", "rows.npz", "--loss", loss, "--target", target, "--epochs", "30"]) == 0
        assert accuracy(capsys.readouterr().out) > 75
    assert main(["train", "rows.npz", "--target", "regression", "--epochs", "30"]) == 0
    assert "test R2 0." in capsys.readouterr().out
    assert fnn.load("rows.fnn").layout.sizes == (4, 32, 3)


def test_a_column_of_labels_and_a_single_class(capsys):
    np.savez("column.npz", x=X, y=LABELS[:, None])
    np.savez("one.npz", x=X, y=0 * LABELS)
    for name, outputs in (("column", 3), ("one", 2)):
        assert main(["train", f"{name}.npz", "--epochs", "1"]) == 0
        assert fnn.load(f"{name}.fnn").layout.sizes == (4, 32, outputs)


def test_labels_for_squared_error_become_rows(capsys):
    np.savez("blobs.npz", x=X, y=LABELS)
    assert main(["train", "blobs.npz", "--loss", "squared_error", "--target", "classes", "--epochs", "60"]) == 0
    assert accuracy(capsys.readouterr().out) > 75
    assert fnn.load("blobs.fnn").layout.sizes == (4, 32, 3)


def test_info_describes_a_saved_network(capsys):
    net = fnn.Network([3, 2], dtype="float64", init="zeros")
    net.parameters[:] = np.arange(8) - 2.5
    net.save("net.fnn")
    assert main(["info", "net.fnn"]) == 0
    size = os.stat("net.fnn").st_size
    assert (
        capsys.readouterr().out
        == f"net.fnn: {size} bytes, dtype float64\n{net.summary()}\nparameters from -2.5 to 4.5\n"
    )


def test_config_and_version(capsys):
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert f"backend: {fnn.backend()}" in out
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"fnn {fnn.__version__}\n"


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["info", "--help"]])
def test_help_fits_on_a_terminal(capsys, command):
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith("usage: fnn ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "error: the following arguments are required: {train,info,config} (see fnn --help)"),
        ("fly", "error: argument {train,info,config}: invalid choice: 'fly'"),
        ("train --epochs many", "error: argument --epochs: invalid int value: 'many' (see fnn train --help)"),
        ("train --epochs 0", "error: epochs: expected an integer >= 1, got 0"),
        ("train --batch-size 0", "error: batch_size: expected an integer >= 1, got 0"),
        ("train --hidden 3,x", "error: argument --hidden: expected sizes like 64,32, got '3,x' (see fnn train --help)"),
        ("train --hidden 3,0", "error: --hidden: expected an integer >= 1, got 0"),
        ("train --dropout half", "error: argument --dropout: expected shares like 0.5 or 0.2,0.5, got 'half' (see fnn"),
        ("train --dropout 1", "error: dropout: expected a number in [0, 1), got 1.0"),
        ("train --hidden 9,8 --dropout 0.5,nan", "error: dropout: expected a number in [0, 1), got nan"),
        ("train --dropout 0.2,0.5", "error: dropout: expected one number, or 1, one a hidden layer, got 2"),
        ("train --hidden= --dropout 0.5", "error: --dropout: expected none without inner layers, got 0.5"),
        ("train --activation softmax", "error: argument --activation: invalid choice: 'softmax'"),
        ("train --loss mse", "error: argument --loss: invalid choice: 'mse'"),
        ("train --optimizer adagrad", "error: argument --optimizer: invalid choice: 'adagrad'"),
        ("train --optimizer adam --momentum 0.9", "error: --momentum: expected none with --optimizer adam, got 0.9"),
        ("train --optimizer fista --momentum 0.9", "error: --momentum: expected none with --optimizer fista, got 0.9"),
        ("train --learning-rate 0", "error: learning_rate: expected a finite number > 0, got 0.0"),
        ("train --momentum 1", "error: momentum: expected a number in [0, 1), got 1.0"),
        ("train --saturation wide", "error: --saturation: expected a number or none, got 'wide'"),
        ("train --saturation 0", "error: saturation: expected None or a finite number > 0, got 0.0"),
        ("train --seed -1", "error: seed: expected an integer >= 0, None or a numpy Generator, got -1"),
        ("train --threads 0", "error: threads: expected an integer >= 1, got 0"),
        ("train --test-fraction 0", "error: --test-fraction: expected a number between 0 and 1, got 0.0"),
        ("train --test-fraction nan", "error: --test-fraction: expected a number between 0 and 1, got nan"),
        ("train --output nowhere/x.fnn", "error: --output: expected a file in a directory that exists, got nowhere"),
        ("train --output .", "error: --output: expected a file in a directory that exists, got ."),
        ("train --target regression", "error: --target regression: expected DATA and --loss squared_error"),
        ("train none.npz", "error: [Errno 2] No such file or directory: 'none.npz'"),
        ("train none.csv", "error: [Errno 2] No such file or directory: 'none.csv'"),
        ("train none.txt", "error: none.txt: expected a .npz or .csv file"),
        ("info none.fnn", "error: [Errno 2] No such file or directory: 'none.fnn'"),
    ],
)
def test_wrong_arguments_take_one_line(capsys, arguments, message):
    refused(capsys, message, *arguments.split())


def archive(**arrays):
    def write(path):
        np.savez(path, **arrays)

    return write


def text(content):
    return lambda path: path.write_text(content)


def cut_archive(path):
    np.savez_compressed(path, x=X, y=LABELS)
    content = bytearray(path.read_bytes())
    content[200:1000] = bytes(800)
    path.write_bytes(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the autouse fixture is not used here
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=40))
def test_a_damaged_archive_is_a_value_error(tmp_path_factory, place, change):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez_compressed(path, x=X, y=LABELS)
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + len(change)] = change
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # not every byte of an archive matters
        assert _read_npz(path)[0].ndim == 2


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("d.npz", text("x,y"), "d.npz: expected a NumPy archive with arrays x and y, got another kind of file"),
        ("d.npz", cut_archive, "d.npz: "),
        ("d.npz", archive(x=X, z=LABELS), "d.npz: expected arrays x and y, got x, z"),
        ("d.npz", archive(x=np.array([{}]), y=LABELS), "d.npz: Object arrays cannot be loaded"),
        ("d.npz", archive(x=X, y=LABELS.astype(str)), "d.npz: y: expected real numbers, got ndarray of dtype <U21"),
        (
            "d.npz",
            archive(x=X[0], y=LABELS),
            "d.npz: expected x (rows, columns) and y (rows,) or (rows, outputs), got (4,) and (200,)",
        ),
        (
            "d.npz",
            archive(x=X[:0], y=LABELS[:0]),
            "d.npz: expected x (rows, columns) and y (rows,) or (rows, outputs), got (0, 4) and (0,)",
        ),
        ("d.npz", archive(x=X, y=LABELS[:9]), "y: expected 200 rows, as many as x has, got shape (9,)"),
        (
            "d.npz",
            archive(x=X, y=X[:, 0] / 8),
            f"y: expected class labels 0, 1, 2, ..., got {X[0, 0] / 8} in row 0; for numbers use --target regression",
        ),
        (
            "d.npz",
            archive(x=X[:1], y=LABELS[:1]),
            "x: expected at least 2 rows, one to train on and one to hold out, got 1",
        ),
        (
            "d.npz",
            archive(x=np.where(np.arange(800).reshape(200, 4) == 402, np.nan, X), y=LABELS),
            "x: expected finite numbers, got nan in row 100, column 2",
        ),
        ("d.csv", text(""), "d.csv: expected rows of at least two columns, got shape (0, 1)"),
        ("d.csv", text("a,b\n"), "d.csv: expected rows of at least two columns, got shape (0, 1)"),
        ("d.csv", text("1\n2\n"), "d.csv: expected rows of at least two columns, got shape (2, 1)"),
        ("d.csv", text("1,2\nthree,4\n"), "d.csv: line 2, column 1: expected a number, got 'three'"),
        ("d.csv", text("a,b\n\n1,2\n\n3,\n"), "d.csv: line 5, column 2: expected a number, got ''; classes are"),
        ("d.csv", text('a,b\n1,2\n"1_0",3\n'), "d.csv: line 3, column 1: expected a number, got '1_0'"),
        ("d.csv", text("1,2\n3\n"), "d.csv: line 2: expected 2 columns as in the lines before, got 1"),
        ("d.csv", text("a,b,c\n1,2\n3,4,5\n"), "d.csv: line 3: expected 2 columns as in the lines before, got 3"),
        ("d.csv", text("1,2\n3," + 150_000 * "x"), "d.csv: line 2: field larger than field limit (131072)"),
        (
            "d.csv",
            text("height,rich\n1,yes\n2,no\n"),
            "d.csv: line 2, column 2: expected a number, got 'yes'; classes are whole numbers 0, 1, 2, ...",
        ),
        ("d.csv", text("1,2\n\n   \n"), "d.csv: line 3: expected 2 columns as in the lines before, got 1"),
        (
            "d.csv",
            lambda path: path.write_bytes(b"a,b\n1,\xff\n"),
            "d.csv: line 2: expected text in UTF-8, got the byte 0xff",
        ),
        (
            "d.csv",
            lambda path: path.write_bytes("ä,b\r\n".encode("utf-8-sig") + b"1,2\r\n" * 9999 + b"3,\xe4\r\n"),
            "d.csv: line 10001: expected text in UTF-8, got the byte 0xe4",
        ),
    ],
)
def test_bad_data_take_one_line(capsys, tmp_path, name, write, message):
    write(tmp_path / name)
    refused(capsys, f"error: {message}", "train", name)


LABEL_FAULT = "expected class labels 0, 1, 2, ..., got {}; for numbers use --target regression"


@pytest.mark.parametrize(
    ("content", "options", "place", "fault"),
    [
        ("a,b\n1,0\n2,-1\n", [], "line 3, column 2", LABEL_FAULT.format(-1.0)),
        ("1,0,0\n\n2,3,0.5\n", [], "line 3, column 3", LABEL_FAULT.format(0.5)),
        ("1,nan\n2,0\n", [], "line 1, column 2", LABEL_FAULT.format("nan")),
        ("\ufeffa,b\r\n\r\n1,0\r\nnan,1\r\n", [], "line 4, column 1", "expected finite numbers, got nan"),
        ("a,b,c\n1,2,0\n3,-inf,1\n", [], "line 3, column 2", "expected finite numbers, got -inf"),
        ("1,2,0\n3,1e39,1\n", [], "line 2, column 2", "expected finite numbers, got 1e+39; it is beyond float32"),
        ("a,b\n1,2\n3,inf\n", ["--target", "regression"], "line 3, column 2", "expected finite numbers, got inf"),
        ("a,b\n1,2\n3,-4\n", ["--loss", "poisson"], "line 3, column 2", "expected numbers >= 0, got -4.0"),
        ('"a","b"\n"1\n","2"\n"nan","4"\n', ["--target", "regression"], "line 4, column 1", "expected finite numbers"),
    ],
)
def test_a_bad_value_of_a_table_is_told_of_by_line_and_column(capsys, content, options, place, fault):
    Path("d.csv").write_text(content, encoding="utf-8", newline="")
    refused(capsys, f"error: d.csv: {place}: {fault}", "train", "d.csv", *options)


def test_a_bad_table_is_not_told_of_in_numpy_s_words(capsys):
    for content in ("1,2\n3\n", "1,2\nthree,4\n", "1,yes\n2,no\n"):
        Path("d.csv").write_text(content)
        assert main(["train", "d.csv"]) == 2
        assert not re.search("usecols|row|convert", capsys.readouterr().err)


def test_a_damaged_model_takes_one_line(capsys):
    Path("net.fnn").write_text("hello")
    refused(capsys, "error: net.fnn: not a model file of fnn: expected", "info", "net.fnn")


def test_divergence_has_a_status_of_its_own(capsys):
    np.savez("wild.npz", x=1e6 * X, y=X[:, 0])
    refused(capsys, "error: epoch 1: ", "train", "wild.npz", "--target", "regression", status=1)


def test_too_little_memory_takes_one_line(capsys, monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(fnn, "Network", full)
    refused(capsys, "error: out of memory; use a smaller network or batch", "train")


def test_ctrl_c_ends_with_130_and_one_line():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with none
    try:
        with start("train", "--epochs", "10000000", bufsize=1) as process:
            assert process.stderr.readline().startswith("epoch 1/10000000, ")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "fnn: interrupted, nothing was saved"
    assert "Traceback" not in err
    assert os.listdir() == []


@pytest.mark.parametrize("arguments", [["config"], ["train", "--epochs", "2", "--quiet"]])
def test_nobody_reading_the_output_does_no_harm(arguments):
    with start(*arguments) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")
    assert os.path.exists("digits.fnn") == (arguments[0] == "train")


def test_the_model_does_not_overwrite_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = "1,2,0\n3,4,1\n" * 20
    Path("table.csv").write_text(table)
    assert main(["train", "table.csv", "--output", "./table.csv"]) == 2
    assert "--output: expected another file than the data, got table.csv" in capsys.readouterr().err
    assert Path("table.csv").read_text() == table


def test_binary_cross_entropy_takes_the_digits_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--quiet", "--loss", "binary_cross_entropy", "--epochs", "5"]) == 0
    assert re.search(r"test accuracy 9\d", capsys.readouterr().out)
