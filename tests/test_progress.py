import contextlib
import io
import os
import re
import sys

import numpy as np
import pytest

import fnn
from fnn import _progress

X, Y = np.ones((8, 2), np.float32), np.ones(8, np.float32)


class Clock:
    """In place of the module time: time that moves by `step` at every look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


def fit(epochs, **options):
    return fnn.Network([2, 1]).fit(X, Y, epochs=epochs, progress=True, **options)


def test_a_log_gets_a_line_now_and_then_and_the_last_epoch(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "time", Clock(0.25))
    fit(20, validation=(X, Y))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert 2 < len(lines) < 10
    assert "\r" not in captured.err
    assert lines[0].startswith("epoch 1/20, loss ")
    assert lines[-1].startswith("epoch 20/20, loss ")
    pattern = r"epoch \d+/20, loss \S+, validation loss \S+, r2 \S+, [\d,]+ samples/s, \S+ s (left|taken)"
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_a_quick_run_in_a_log_takes_two_lines(capsys):
    fit(50)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1/50", "epoch 50/50"]


def test_a_run_that_a_callback_ends_shows_its_last_epoch(capsys):
    fit(50, callbacks=[lambda net, history: history.epochs == 7])
    assert capsys.readouterr().err.splitlines()[-1].startswith("epoch 7/50, ")


def test_no_progress_no_line(capsys):
    fnn.Network([2, 1]).fit(X, Y)
    assert capsys.readouterr() == ("", "")


def in_terminal(monkeypatch, columns, train):
    """Call `train` with a pseudo-terminal as stderr and return what was written to it."""
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("COLUMNS", str(columns))
        train()
    text = b""
    with os.fdopen(leader, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # Linux says EIO at the end
        while piece := screen.read(1 << 16):
            text += piece
    return text.decode()


def test_a_terminal_line_is_rewritten_in_place(monkeypatch):
    monkeypatch.setattr(_progress, "time", Clock(0.2))
    text = in_terminal(monkeypatch, 200, lambda: fit(5))
    assert text.count("\n") == 1
    assert text.endswith("\n")
    shown = text.rstrip("\r\n").split("\r")[1:]
    assert [line.split(",")[0] for line in shown] == [f"epoch {n}/5" for n in range(1, 6)]


def test_a_terminal_is_left_on_a_new_line_after_an_error(monkeypatch):
    def stop(net, history):
        raise KeyboardInterrupt

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            fit(5, callbacks=[stop])

    def diverging():
        with pytest.raises(fnn.DivergenceError):
            fit(500, optimizer=fnn.SGD(10))

    for train in (interrupted, diverging):
        assert in_terminal(monkeypatch, 200, train).endswith("\n")


def test_a_narrow_terminal_never_wraps(monkeypatch):
    text = in_terminal(monkeypatch, 30, lambda: fit(3, validation=(X, Y)))
    lines = text.strip("\r\n").split("\r")
    assert lines[-1].startswith("epoch 3/3")
    assert all(len(line) <= 29 for line in lines)


def test_a_shorter_line_clears_the_longer_one(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(_progress, "time", Clock(1.0))
    monkeypatch.setenv("COLUMNS", "200")
    with _progress.Progress(2, 100, stream) as line:
        line.epoch("loss 0.123456789, and much more beside it")
        line.epoch("loss 1")
    longer, shorter = stream.getvalue().strip("\r\n").split("\r")
    assert len(shorter.rstrip()) < len(longer) == len(shorter)


class OutStream(io.StringIO):
    """As ipykernel's: no terminal, but it obeys a carriage return."""


OutStream.__module__ = "ipykernel.iostream"


def test_a_notebook_line_is_rewritten_in_place(monkeypatch):
    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(_progress, "time", Clock(0.2))
    fit(5)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\repoch") == 5


def test_a_long_epoch_moves_the_line(monkeypatch, backend):
    stream = OutStream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(_progress, "LIVE_SECONDS", 0.0)
    rows = np.ones((200_000, 64), np.float32)
    fnn.Network([64, 64, 1]).fit(rows, rows[:, 0], epochs=1, progress=True, batch_size=16, optimizer=fnn.SGD(1e-6))
    percents = [int(p) for p in re.findall(r"epoch 1/1, (\d+) %", stream.getvalue())]
    assert percents
    assert percents == sorted(percents)
    assert 0 <= percents[0] < 100


def test_ticks_say_how_far_the_epoch_is_and_what_is_left(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(_progress, "time", Clock(4.0))
    with _progress.Progress(2, 400, stream) as line:
        line.tick(100)
        line.tick(200)
        line.epoch("loss 3")
        line.tick(100)
    assert [text.split(", ")[:2] for text in stream.getvalue().splitlines()] == [
        ["epoch 1/2", "25 %"],
        ["epoch 1/2", "50 %"],
        ["epoch 1/2", "loss 3"],
        ["epoch 2/2", "25 %"],
    ]


def test_a_stream_that_fails_does_not_end_training(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert fit(3).epochs == 3


@pytest.mark.parametrize("missing", ["closed", "isatty", "flush"])
def test_a_stream_may_lack_what_is_not_write(monkeypatch, missing):
    members = {"text": "", "closed": False, "isatty": lambda self: False, "flush": lambda self: None}
    members["write"] = lambda self, text: setattr(self, "text", self.text + text)
    del members[missing]
    stream = type("Stream", (), members)()
    monkeypatch.setattr(sys, "stderr", stream)
    fit(3)
    assert stream.text.endswith("taken\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "0:01:00"), (3661.9, "1:01:01"), (360000, "100:00:00")],
)
def test_times_are_easy_to_read(seconds, text):
    assert _progress._clock(seconds) == text
