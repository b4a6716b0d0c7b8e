import hashlib
import json
import os
import re
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fnn
from fnn import _modelfile

V1 = Path(__file__).parent / "data" / "model-v1.fnn"
V2 = V1.with_name("model-v2.fnn")
V3 = V1.with_name("model-v3.fnn")
V4 = V1.with_name("model-v4.fnn")
V3_BYTES, V4_BYTES = V3.read_bytes(), V4.read_bytes()
LAYERS = [fnn.Input(3), fnn.Dense(4, "leaky_relu", slope=0.125), fnn.Dense(2, "tanh"), fnn.Dense(2, "softmax")]
V2_LAYERS = [
    fnn.Input(3),
    fnn.Dense(4, "leaky_relu", slope=0.125, rate_scale=2.5),
    fnn.Dense(3, "tanh", skip=1, skip_mode="concat"),
    fnn.Dense(2, "softmax", skip=2),
]
V3_LAYERS = [*V2_LAYERS[:2], fnn.Dense(3, "corner", skip=1, skip_mode="concat"), V2_LAYERS[3]]
V4_LAYERS = [
    fnn.Input(3, dropout=0.25),
    V2_LAYERS[1],
    fnn.Dense(3, "corner", skip=1, skip_mode="concat", dropout=0.5),
    V2_LAYERS[3],
]
HEADER = {
    "format": "fnn network",
    "sizes": [2, 1],
    "activations": [{"name": "relu"}],
    "skips": [[0, "add"]],
    "rate_scales": [1.0],
    "dtype": "float32",
    "count": 3,
}
HEADER_4 = HEADER | {"dropouts": [0.25, 0.0]}


def packed(header=None, values=(1.0, 2.0, 3.0), *, encoded=None, version=3, filler=b"\0", **changes):
    """A model file made by hand after docs/model-file.md, with whatever is to be wrong in it."""
    text = json.dumps((header or HEADER) | changes).encode() if encoded is None else encoded
    start = b"\x89FNN\r\n\x1a\n" + struct.pack("<II", version, len(text)) + text
    body = start + filler * (-len(start) % 64) + np.array(values, "<f4").tobytes()
    return body + hashlib.sha256(body).digest()


def load_bytes(directory, content):
    path = Path(directory) / "model.fnn"
    path.write_bytes(content)
    return fnn.load(path)


def test_a_file_made_by_hand_is_read(tmp_path):
    net = load_bytes(tmp_path, packed())
    assert net.layout.sizes == (2, 1)
    assert net.parameters.tolist() == [1, 2, 3]


def test_version_1_stays_readable():
    net = fnn.load(V1)
    assert repr(net) == f"Network({LAYERS}, dtype='float32')"
    assert net.parameters.tolist() == [(i - 17) / 32 for i in range(32)]


def test_version_2_stays_readable():
    net = fnn.load(V2)
    assert repr(net) == f"Network({V2_LAYERS}, dtype='float32')"
    assert net.parameters.tolist() == [(i - 24) / 32 for i in range(48)]


def test_version_3_stays_readable():
    net = fnn.load(V3)
    assert repr(net) == f"Network({V3_LAYERS}, dtype='float32')"
    assert net.parameters.tolist() == [(i - 24) / 32 for i in range(57)]
    assert net.corners[1].tolist() == [[(i - 24) / 32 for i in range(start, start + 3)] for start in (40, 43, 46)]


def test_version_4_stays_readable():
    net = fnn.load(V4)
    assert repr(net) == f"Network({V4_LAYERS}, dtype='float32')"
    assert net.parameters.tolist() == [(i - 24) / 32 for i in range(57)]


def test_a_version_4_made_by_hand_is_read(tmp_path):
    net = load_bytes(tmp_path, packed(HEADER_4, version=4))
    assert net.layout.dropouts == (0.25, 0.0)
    for version in (1, 2, 3):
        with pytest.raises(fnn.ModelFileError, match="damaged: expected a header with"):
            load_bytes(tmp_path, packed(HEADER_4, version=version))
    with pytest.raises(fnn.ModelFileError, match="damaged: expected a header with"):
        load_bytes(tmp_path, packed(version=4))


def test_a_version_1_made_by_hand_is_read(tmp_path):
    old = {key: value for key, value in HEADER.items() if key not in ("skips", "rate_scales")}
    net = load_bytes(tmp_path, packed(old, version=1))
    assert repr(net) == "Network([2, 1], output='relu', dtype='float32')"
    with pytest.raises(fnn.ModelFileError, match="damaged: expected a header with"):
        load_bytes(tmp_path, packed(old))
    with pytest.raises(fnn.ModelFileError, match="damaged: expected a header with"):
        load_bytes(tmp_path, packed(version=1))


def test_the_same_network_makes_the_same_bytes(tmp_path):
    for path in (V3, V4):  # without dropout a file has the version that more releases read
        fnn.load(path).save(tmp_path / "again.fnn")
        assert (tmp_path / "again.fnn").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [str, Path])
def test_what_is_saved_is_loaded(tmp_path, dtype, kind):
    net = fnn.Network(V4_LAYERS, dtype=dtype, init="reference")
    net.parameters[:2] = [-0.0, np.finfo(dtype).smallest_subnormal]
    path = kind(tmp_path / "net.fnn")
    net.save(path)
    other = fnn.load(path)
    assert other.layout == net.layout
    assert other.dtype == net.dtype
    assert other.parameters.tobytes() == net.parameters.tobytes()
    other.fit(np.ones((2, 3)), [0, 1], loss="cross_entropy")


def test_the_parameters_begin_at_a_multiple_of_64(tmp_path):
    for width in range(1, 70, 7):
        net = fnn.Network([width, 1])
        net.save(tmp_path / "net.fnn")
        content = (tmp_path / "net.fnn").read_bytes()
        begin = len(content) - 32 - net.parameters.nbytes
        assert begin % 64 == 0
        assert content[begin:-32] == net.parameters.tobytes()


@given(st.integers(0, len(V4_BYTES) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(tmp_path_factory, place, change):
    damaged = bytearray(V4_BYTES)
    damaged[place] ^= change
    with pytest.raises(fnn.ModelFileError):
        load_bytes(tmp_path_factory.getbasetemp(), damaged)


@given(st.integers(0, len(V4_BYTES) - 1), st.binary(max_size=40))
def test_no_cut_and_no_replaced_end_goes_unnoticed(tmp_path_factory, length, end):
    if V4_BYTES[:length] + end != V4_BYTES:
        with pytest.raises(fnn.ModelFileError):
            load_bytes(tmp_path_factory.getbasetemp(), V4_BYTES[:length] + end)


@given(st.integers(0, len(V4_BYTES)), st.binary(min_size=1, max_size=80))
def test_nothing_inserted_goes_unnoticed(tmp_path_factory, place, extra):
    with pytest.raises(fnn.ModelFileError):
        load_bytes(tmp_path_factory.getbasetemp(), V4_BYTES[:place] + extra + V4_BYTES[place:])


@given(st.binary(max_size=300))
def test_a_header_of_anything_is_an_error_and_nothing_worse(tmp_path_factory, junk):
    with pytest.raises(fnn.ModelFileError):
        load_bytes(tmp_path_factory.getbasetemp(), packed(encoded=junk))


def json_values(floats):
    """Any JSON with these floats; its texts are too short for the names of activations and of their keys."""
    texts = st.text(max_size=3)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=6,
    )


OTHER_VALUES = st.sampled_from(sorted(HEADER)).flatmap(
    lambda key: st.tuples(st.just(key), json_values(st.floats(max_value=0) if key == "rate_scales" else st.floats()))
)  # of a key of HEADER: its own at most, or what no network has


@given(OTHER_VALUES)
def test_a_key_with_any_other_value_is_an_error(tmp_path_factory, other):
    key, value = other
    if value != HEADER[key] or type(value) is not type(HEADER[key]):
        with pytest.raises(fnn.ModelFileError):
            load_bytes(tmp_path_factory.getbasetemp(), packed(**{key: value}))


RAW = json.dumps(HEADER).encode()

BAD_FILES = {
    "empty": (b"", "not a model file of fnn: expected b'\\x89FNN\\r\\n\\x1a\\n' at its start, got b''"),
    "foreign": (b"\x93NUMPY\x01\x00v\x00{'descr'", "not a model file of fnn: expected b'\\x89FNN"),
    "text mode": (
        V3_BYTES.replace(b"\r\n", b"\n"),
        "damaged, as by a transfer in text mode: expected b'\\x89FNN\\r\\n",
    ),
    "7 bits": (bytes(b & 127 for b in V3_BYTES), "damaged, as by a transfer in text mode"),
    "magic only": (V3_BYTES[:8], "cut short: expected at least 16 bytes, got 8"),
    "version 0": (packed(version=0), "expected format version 1 to 4, got 0"),
    "version 5": (packed(version=5), "expected format version 1 to 4, got 5"),
    "a corner before its time": (
        packed(activations=[{"name": "corner"}], count=6, values=[1.0] * 6, version=2),
        "damaged: expected no corner in version 2",
    ),
    "a corner without its numbers": (
        packed(activations=[{"name": "corner"}]),
        "damaged: its sizes make 6 parameters, got a count of 3",
    ),
    "a corner with a slope": (
        packed(activations=[{"name": "corner", "slope": 0.5}], count=6, values=[1.0] * 6),
        "damaged: expected an activation with its name, got {'name': 'corner', 'slope': 0.5}",
    ),
    "cut": (V3_BYTES[:-1], f"damaged: expected {len(V3_BYTES)} bytes, got {len(V3_BYTES) - 1}"),
    "extended": (V3_BYTES + b"\0", f"damaged: expected {len(V3_BYTES)} bytes, got {len(V3_BYTES) + 1}"),
    "huge header": (
        V3_BYTES[:12] + b"\xff" * 4 + V3_BYTES[16:],
        f"damaged: its header should have 4294967295 bytes, got a file of {len(V3_BYTES)}",
    ),
    "checksum": (V3_BYTES[:-1] + b"\0", "damaged: expected SHA-256"),
    "no JSON": (packed(encoded=b"{"), "damaged: its header is not the JSON expected, "),
    "no UTF-8": (packed(encoded=b'"\xff"'), "damaged: its header is not the JSON expected, "),
    "deep": (packed(encoded=b"[" * 200_000), "damaged: its header is not the JSON expected, "),
    "many digits": (
        packed(encoded=b'{"count": ' + b"9" * 5000 + b"}"),
        "damaged: its header is not the JSON expected, ",
    ),
    "a list": (packed(encoded=b"[1]"), "damaged: expected a header with ['activations', 'count', "),
    "duplicate key": (
        packed(encoded=RAW.replace(b'"count"', b'"count": 3, "count"')),
        "damaged: its header is not the JSON expected, a key stands twice",
    ),
    "NaN": (packed(count=float("nan")), "damaged: its header is not the JSON expected, NaN is no number"),
    "extra key": (packed(more=1), "damaged: expected a header with"),
    "another format": (packed(format="fnn forest"), "damaged: expected a header with"),
    "one size": (packed(sizes=[2]), "damaged: expected sizes to be at least two integers >= 1"),
    "size 0": (packed(sizes=[2, 0]), "damaged: expected sizes to be at least two integers >= 1"),
    "size true": (packed(sizes=[2, True]), "damaged: expected sizes to be at least two integers >= 1"),
    "size 1.0": (packed(sizes=[2, 1.0]), "damaged: expected sizes to be at least two integers >= 1"),
    "absurd sizes": (
        packed(sizes=[2**40, 2**40], count=2**80 + 2**40),
        f"damaged: its sizes make {2**80 + 2**40} parameters, got a count of {2**80 + 2**40}",
    ),
    "sizes that wrap": (
        packed(sizes=[2**32 - 1, 2**32], count=0),
        f"damaged: its sizes make {2**64} parameters, got a count of 0",
    ),
    "large sizes": (
        packed(sizes=[2**29 - 1, 2**29], count=2**58),
        f"damaged: expected {256 + 4 * 2**58 + 32} bytes, got 300",
    ),
    "another count": (packed(count=4), "damaged: its sizes make 3 parameters, got a count of 4"),
    "count 3.0": (packed(count=3.0), "damaged: its sizes make 3 parameters, got a count of 3.0"),
    "two activations": (packed(activations=[{"name": "relu"}] * 2), "damaged: expected 1 activations"),
    "unknown activation": (
        packed(activations=[{"name": "cube"}]),
        "damaged: expected an activation with its name, got {'name': 'cube'}",
    ),
    "activation as text": (packed(activations=["relu"]), "damaged: expected an activation with its name, got relu"),
    "a slope for relu": (
        packed(activations=[{"name": "relu", "slope": 0.5}]),
        "damaged: expected an activation with its name, got {'name': 'relu', 'slope': 0.5}",
    ),
    "no slope": (
        packed(activations=[{"name": "leaky_relu"}]),
        "damaged: expected an activation with its name, got {'name': 'leaky_relu'}",
    ),
    "a slope of text": (
        packed(activations=[{"name": "leaky_relu", "slope": "steep"}]),
        "damaged: expected the slope of leaky_relu, got steep",
    ),
    "a negative slope": (
        packed(activations=[{"name": "leaky_relu", "slope": -0.5}]),
        "damaged: slope: expected a finite number >= 0, got -0.5",
    ),
    "an infinite slope": (
        packed(encoded=RAW.replace(b'"relu"', b'"leaky_relu", "slope": 1e999')),
        "damaged: slope: expected a finite number >= 0, got inf",
    ),
    "softmax inside": (
        packed(
            sizes=[1, 1, 1],
            activations=[{"name": "softmax"}, {"name": "relu"}],
            skips=[[0, "add"]] * 2,
            rate_scales=[1.0] * 2,
            count=4,
        ),
        "damaged: expected softmax and exp on the last layer only",
    ),
    "two skips": (packed(skips=[[0, "add"]] * 2), "damaged: expected 1 skips"),
    "a skip of text": (packed(skips=["add"]), "damaged: expected a skip as [layers, mode], got add"),
    "a skip back": (packed(skips=[[-1, "add"]]), "damaged: expected a skip as [layers, mode], got [-1, 'add']"),
    "an unknown skip": (packed(skips=[[0, "sum"]]), "damaged: expected a skip as [layers, mode], got [0, 'sum']"),
    "a skip beyond the input": (
        packed(skips=[[1, "add"]]),
        "damaged: layer 1: expected a skip of at most 0, which reaches the input, got 1",
    ),
    "two rate scales": (packed(rate_scales=[1.0, 1.0]), "damaged: expected 1 rate scales, finite numbers > 0"),
    "rate scale 1": (packed(rate_scales=[1]), "damaged: expected 1 rate scales, finite numbers > 0"),
    "rate scale 0": (packed(rate_scales=[0.0]), "damaged: expected 1 rate scales, finite numbers > 0"),
    "an infinite rate scale": (
        packed(encoded=RAW.replace(b"[1.0]", b"[1e999]")),
        "damaged: expected 1 rate scales, finite numbers > 0",
    ),
    **{
        f"dropouts {shares}": (
            packed(HEADER_4, version=4, dropouts=shares),
            "damaged: expected 2 dropouts, numbers in [0, 1), the last of them 0.0",
        )
        for shares in ([0.5], [0.5, 0.0, 0.0], [0.5, 0.5], [1.0, 0.0], [-0.5, 0.0], [0, 0.0], ["half", 0.0], 0.5, {})
    },
    "an infinite dropout": (
        packed(encoded=json.dumps(HEADER_4).encode().replace(b"[0.25,", b"[1e999,"), version=4),
        "damaged: expected 2 dropouts, numbers in [0, 1), the last of them 0.0",
    ),
    "float16": (packed(dtype="float16"), "damaged: expected dtype float32 or float64, got 'float16'"),
    "float64 of too few bytes": (packed(dtype="float64"), "damaged: expected 248 bytes, got 236"),
    "a list for dtype": (packed(dtype=[]), "damaged: expected dtype float32 or float64, got []"),
    "padding": (packed(filler=b" "), "damaged: expected zeros between header and parameters"),
    "nan": (packed(values=[1, np.nan, 3]), "expected finite parameters, got nan"),
    "inf": (packed(values=[1, 2, -np.inf]), "expected finite parameters, got -inf"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_says_what_was_expected(tmp_path, case):
    content, message = BAD_FILES[case]
    with pytest.raises(
        fnn.ModelFileError, match=f"^{re.escape(str(tmp_path))}.model.fnn: {re.escape(message)}"
    ) as caught:
        load_bytes(tmp_path, content)
    assert isinstance(caught.value, ValueError)


def test_a_missing_file_and_a_directory_are_the_system_s_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "none.fnn")
    with pytest.raises(IsADirectoryError):
        fnn.load(tmp_path)


def test_saving_replaces_a_file_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "net.fnn"
    path.write_bytes(b"old" * 10_000)
    fnn.load(V3).save(path)
    assert path.read_bytes() == V3_BYTES
    assert os.listdir(tmp_path) == ["net.fnn"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "net.fnn"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(_modelfile.os, step, fail)
    with pytest.raises(type(error)):
        fnn.load(V3).save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.fnn"]


def test_saving_into_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fnn.load(V3).save(tmp_path / "nowhere" / "net.fnn")
    assert os.listdir(tmp_path) == []


def test_only_files_are_replaced(tmp_path):
    message = "expected a file or nothing there, got a directory or a device$"
    for target in (tmp_path, "/dev/null"):
        with pytest.raises(fnn.ModelFileError, match=message):
            fnn.load(V3).save(target)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_not_saved(tmp_path, bad):
    net = fnn.load(V1)
    net.parameters[5] = bad
    with pytest.raises(
        fnn.ModelFileError, match="expected finite parameters, got NaN or infinity; nothing was written"
    ):
        net.save(tmp_path / "net.fnn")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_is_honoured(tmp_path, umask):
    before = os.umask(umask)
    try:
        fnn.load(V3).save(tmp_path / "net.fnn")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "net.fnn").stat().st_mode) == 0o666 & ~umask


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.fnn", tmp_path / "real" / "net.fnn"
    link.symlink_to(target)
    fnn.load(V3).save(link)  # the target does not exist yet
    fnn.load(V3).save(link)
    assert link.is_symlink()
    assert target.read_bytes() == V3_BYTES
    assert os.listdir(tmp_path / "real") == ["net.fnn"]
    assert fnn.load(link).layout.sizes == (3, 4, 3, 2)


def test_a_path_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fnn.load(V3).save("net.fnn")
    assert fnn.load("net.fnn").layout.sizes == (3, 4, 3, 2)


def test_a_path_may_be_bytes(tmp_path):
    path = os.fsencode(tmp_path / "net.fnn")
    fnn.load(V3).save(path)
    assert fnn.load(path).layout.sizes == (3, 4, 3, 2)


def test_the_number_of_an_open_file_is_no_path(tmp_path):
    (tmp_path / "net.fnn").write_bytes(V3_BYTES)
    with (tmp_path / "net.fnn").open("rb") as file:
        for call in (fnn.load, fnn.load(V3).save, fnn.FloatNeuralNet([2, 1]).uncheckpoint):
            with pytest.raises(TypeError, match="int"):
                call(file.fileno())
        assert os.fstat(file.fileno()).st_size == len(V3_BYTES)  # still open


def test_sizes_of_thousands_of_digits_are_refused(tmp_path):
    huge = 10**4000
    with pytest.raises(fnn.ModelFileError, match="expected sizes"):
        load_bytes(tmp_path, packed(sizes=[huge, huge], count=1))


def test_a_named_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fnn.ModelFileError, match="expected a regular file"):
        fnn.load(tmp_path / "pipe")
