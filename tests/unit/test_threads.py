"""The pool of daemon threads."""

from __future__ import annotations

import threading

from worker.runtime.threads import Threads


def test_threads_are_made_as_they_are_needed_used_again_and_ended() -> None:
    before = set(threading.enumerate())
    pool, names, done = Threads(4, "test-pool"), set(), threading.Semaphore(0)

    def work() -> None:
        names.add(threading.current_thread())
        done.release()

    for _ in range(50):
        pool.submit(work)
        assert done.acquire(timeout=10)
    assert 1 <= len(names) <= 4
    assert all(thread.daemon for thread in names)
    pool.close()
    for thread in names:
        thread.join(10)
    assert set(threading.enumerate()) <= before


def test_work_runs_side_by_side_up_to_the_bound_and_waits_beyond_it() -> None:
    pool, inside, go_on, late = Threads(2, "test-pool"), threading.Barrier(3), threading.Event(), threading.Event()

    def work() -> None:
        inside.wait(10)
        go_on.wait(10)

    pool.submit(work)
    pool.submit(work)
    pool.submit(late.set)
    inside.wait(10)
    assert not late.is_set()
    pool.close()
    go_on.set()
    assert late.wait(10), "what was submitted is still run"
