"""Training in forked and spawned processes, under joblib, in several Python threads, and what it leaves behind.

Each script runs in an interpreter of its own with a time limit, so that a process that hangs is a failure.
"""

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

import fnn
from interpreter import python
from training import fitted

START_METHODS = multiprocessing.get_all_start_methods()
BEST = fnn.available_backends()[0]
# A fork while another thread is inside one of NumPy's products can hang in OpenBLAS, without fnn too; only the compiled
# backends train without such products.
WITHOUT_BLAS = [name for name in [BEST] if name != "numpy"]
# Python 3.12 and newer warn of a fork where other threads run: that is what these tests are about.
FORKS = "-W", "ignore::DeprecationWarning"


@pytest.fixture
def run(tmp_path):
    """Run a script, given as text, from a file, as spawned processes need it; it must succeed."""

    def run_script(text, **environment):
        script = tmp_path / "script.py"
        script.write_text(dedent(text))
        done = python(script, *FORKS, timeout=100, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    return run_script


@pytest.mark.parametrize("backend", sorted({BEST, "numpy"}))
@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_trains_after_its_parent(run, method, backend):
    run(
        f"""
        import multiprocessing
        from training import fitted

        if __name__ == "__main__":
            here = fitted()
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                assert pool.map(fitted, [0, 0, 0]) == [here] * 3
                pool.close()
                pool.join()
            assert fitted() == here
        """,
        FNN_BACKEND=backend,
    )


@pytest.mark.parametrize("backend", WITHOUT_BLAS)
@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_trains_while_another_thread_of_its_parent_does(run, method, backend):
    run(
        f"""
        import multiprocessing
        from training import Background, fitted

        def train(sending):
            sending.send(fitted())

        if __name__ == "__main__":
            here = fitted()
            context = multiprocessing.get_context("{method}")
            with Background():
                for _ in range({5 if method == "fork" else 1}):
                    receiving, sending = context.Pipe(duplex=False)
                    child = context.Process(target=train, args=(sending,))
                    child.start()
                    sending.close()
                    assert receiving.recv() == here
                    child.join()
                    assert child.exitcode == 0
        """,
        FNN_BACKEND=backend,
    )


@pytest.mark.parametrize("backend", WITHOUT_BLAS)
@pytest.mark.parametrize("fork", [name for name in ("fork",) if hasattr(os, name)])
def test_both_sides_of_a_bare_fork_train(run, fork, backend):
    """And the child's child; in the child no other thread exists, whatever the parent's other thread is doing."""
    run(
        f"""
        import os, threading
        from training import Background, fitted

        here = fitted()
        with Background():
            for _ in range(5):
                child = os.{fork}()
                if child == 0:
                    alone = threading.active_count() == 1
                    grandchild = os.{fork}()
                    right = alone and fitted() == here
                    if grandchild:
                        right = right and os.waitpid(grandchild, 0)[1] == 0
                    os._exit(0 if right else 1)
                assert fitted() == here
                assert os.waitpid(child, 0)[1] == 0
        """,
        FNN_BACKEND=backend,
    )


@pytest.mark.parametrize("backend", WITHOUT_BLAS)
@pytest.mark.parametrize("fork", [name for name in ("fork",) if hasattr(os, name)])
def test_both_sides_of_a_fork_between_two_epochs_train_on(run, fork, backend):
    """The child's team is gone but for itself."""
    run(
        f"""
        import os
        from training import problem

        options = dict(loss="cross_entropy", batch_size=128, epochs=4, threads=3)
        straight, x, labels = problem()
        straight.fit(x, labels, **options)
        children = []

        def fork_once(network, history):
            if history.epochs == 2:
                children.append(os.{fork}())

        network, x, labels = problem()
        network.fit(x, labels, callbacks=fork_once, **options)
        right = network.parameters.tobytes() == straight.parameters.tobytes()
        del network
        if children[0] == 0:
            os._exit(0 if right else 1)
        assert right
        assert os.waitpid(children[0], 0)[1] == 0
        """,
        FNN_BACKEND=backend,
    )


@pytest.mark.parametrize("limit", [1, 2])
def test_joblib_s_processes_keep_its_limit(run, limit):
    run(
        f"""
        import os
        from joblib import Parallel, delayed, parallel_config
        from training import fitted, fitted_and_threads

        if __name__ == "__main__":
            alone = [fitted(seed) for seed in range(3)]
            with parallel_config("loky", n_jobs=2, inner_max_num_threads={limit}):
                found = Parallel()(delayed(fitted_and_threads)(seed) for seed in range(3))
            assert [bits for bits, _ in found] == alone
            assert {{threads for _, threads in found}} == {{min({limit}, len(os.sched_getaffinity(0)))}}
            assert fitted() == alone[0]
        """
    )


def test_joblib_s_processes_share_the_cpus(run):
    """Without a limit of the user's, loky gives each worker its part of the CPUs."""
    run(
        """
        import joblib
        from training import fitted, fitted_and_threads

        if __name__ == "__main__":
            found = joblib.Parallel(n_jobs=joblib.cpu_count())(joblib.delayed(fitted_and_threads)(0) for _ in range(3))
            assert found == [(fitted(), 1)] * 3
        """
    )


def test_joblib_s_threads_keep_threadpoolctl_s_limit(run):
    """Joblib's threads set no limit of their own, and threadpoolctl's holds in them as in the thread that set it."""
    run(
        """
        import fnn
        from joblib import Parallel, delayed
        from threadpoolctl import threadpool_limits
        from training import fitted, fitted_and_threads

        alone, free = [fitted(seed) for seed in range(6)], fnn.get_threads()
        for limit, threads in ((None, free), (1, 1)):
            with threadpool_limits(limit):
                found = Parallel(n_jobs=3, backend="threading")(delayed(fitted_and_threads)(seed) for seed in range(6))
            assert found == [(bits, threads) for bits in alone], limit
        """
    )


def test_several_threads_train_at_once(backend):
    """Each with the bits that it gets alone, whatever the others do."""
    alone = [fitted(seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fitted, range(6)))
    assert together == alone
    assert len(set(alone)) == 6


def test_a_training_keeps_the_backend_that_it_began_with():
    """Others switch meanwhile: what comes out is what one of the backends gives, never a mixture."""
    before, names = fnn.backend(), fnn.available_backends()
    try:
        right = set()
        for name in names:
            fnn.set_backend(name)
            right.add(fitted())
        with ThreadPoolExecutor(3) as pool:
            trained = [pool.submit(fitted) for _ in range(12)]
            while not all(future.done() for future in trained):
                for name in names:
                    fnn.set_backend(name)
        assert {future.result() for future in trained} <= right
    finally:
        fnn.set_backend(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [name for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name)])
def test_a_signal_ends_a_training(run, name, threads):
    """What its handler raises comes out of fit, the parameters are finite, and the network trains on."""
    output = run(
        f"""
        import os, signal, threading
        import numpy as np
        from training import problem

        class Signalled(Exception):
            pass

        def handle(number, frame):
            if number != signal.SIGINT:
                raise Signalled
            signal.default_int_handler(number, frame)

        signal.signal(signal.{name}, handle)
        network, x, labels = problem()
        options = dict(loss="cross_entropy", threads={threads}, batch_size=128)
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.{name}))

        def after_an_epoch(network, history):
            if history.epochs == 3:
                sender.start()

        try:
            network.fit(x, labels, epochs=10**9, callbacks=after_an_epoch, **options)
        except (KeyboardInterrupt, Signalled) as error:
            print(type(error).__name__)
        sender.join()
        assert threading.enumerate() == [threading.main_thread()]
        assert np.isfinite(network.parameters).all()
        network.fit(x, labels, epochs=1, **options)
        """
    )
    assert output == ("KeyboardInterrupt\n" if name == "SIGINT" else "Signalled\n")


LEFTOVERS = """
    import os, signal, sys, threading, time
    import numpy as np
    import fnn
    from training import problem

    def python_threads():
        return set(threading.enumerate())

    def tasks():
        return set(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else set()

    def stop(network, history):
        raise {error}

    network, x, labels = problem()
    network.predict(x)  # NumPy's BLAS has started what it keeps
    threads_before, tasks_before = python_threads(), tasks()
    options = dict(loss="cross_entropy", batch_size=128, threads=3)
    try:
        {call}
    except {expected}:
        print("raised")
    assert python_threads() == threads_before, threading.enumerate()
    while not tasks() <= tasks_before:  # the system takes a moment to bury a thread that Python has joined
        time.sleep(0.01)
"""
FIT = "network.fit(x, labels, callbacks=stop, **options)"
CALLS = {
    "fit": ("network.fit(x, labels, **options)", "()", "", ""),
    "gradient": ("network.loss_and_gradient(x, labels, 'cross_entropy', threads=3)", "()", "", ""),
    "callback": (FIT, "ZeroDivisionError", "ZeroDivisionError", "raised\n"),
    "Ctrl-C": (FIT, "KeyboardInterrupt", "KeyboardInterrupt", "raised\n"),
    "divergence": (
        "fnn.Network([300, 300, 10]).fit(x, np.ones((256, 10)), optimizer=fnn.SGD(1e9), batch_size=128, threads=3)",
        "fnn.DivergenceError",
        "",
        "raised\n",
    ),
    "bad data": ("network.fit(x, labels + 10, **options)", "ValueError", "", "raised\n"),
}


@pytest.mark.parametrize("what", CALLS)
def test_no_thread_is_left(run, what):
    call, expected, error, output = CALLS[what]
    assert run(LEFTOVERS.format(call=call, expected=expected, error=error)) == output


def test_an_idle_process_burns_no_cpu(run):
    """CPU time, not speed: one thread that spun would use all of the second that the process sleeps."""
    run(
        """
        import os, time
        from training import fitted

        fitted(threads=3)
        time.sleep(0.3)  # NumPy's BLAS may spin a little after its last product
        before = os.times()
        time.sleep(1)
        after = os.times()
        used = after.user + after.system - before.user - before.system
        assert used < 0.5, used
        """
    )


def test_a_team_between_two_epochs_burns_no_cpu(run):
    run(
        """
        import os, time
        from training import problem

        used = []

        def sleep(network, history):
            time.sleep(0.3)  # NumPy's BLAS may spin a little after its last product
            before = os.times()
            time.sleep(1)
            after = os.times()
            used.append(after.user + after.system - before.user - before.system)

        network, x, labels = problem()
        network.fit(x, labels, loss="cross_entropy", batch_size=128, epochs=2, threads=3, callbacks=sleep)
        assert len(used) == 2 and max(used) < 0.5, used
        """
    )


@pytest.mark.parametrize("backend", WITHOUT_BLAS)
@pytest.mark.parametrize("timer", [name for name in ("setitimer",) if hasattr(signal, name)])
def test_threads_that_wait_long_for_another_burn_no_cpu(run, timer, backend):
    """Two wait for the first, which is in a signal's handler in the midst of an epoch."""
    run(
        f"""
        import os, signal, time
        import numpy as np
        from training import problem

        used = []

        def sleep(number, frame):
            before = os.times()
            time.sleep(1)
            after = os.times()
            used.append(after.user + after.system - before.user - before.system)

        network, x, labels = problem()
        x, labels = np.tile(x, (60, 1)), np.tile(labels, 60)
        signal.signal(signal.SIGALRM, sleep)
        signal.{timer}(signal.ITIMER_REAL, 0.01)
        network.fit(x, labels, loss="cross_entropy", batch_size=128, epochs=2, threads=3)
        assert len(used) == 1 and used[0] < 0.5, used
        """,
        FNN_BACKEND=backend,
    )
