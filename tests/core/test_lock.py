"""One writer for each place: others are refused, dead ones forgotten, on drives with and without locks."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from striate.core import lock as locking
from striate.core.errors import UsageError, WriteError
from striate.core.lock import sole_writer

HOLD = """
import sys
from pathlib import Path
from striate.core.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["system", "file"])
def drive(request, monkeypatch):
    """Locks of the system, or a file system that has none."""
    if request.param == "file":

        def no_locks(*words):
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(locking.fcntl, "lockf", no_locks)
    return request.param


def test_a_second_writer_is_refused_and_the_lock_leaves_nothing(tmp_path: Path, drive: str) -> None:
    target = tmp_path / "run"
    with (
        sole_writer(target),
        pytest.raises(UsageError, match="is being written by this process"),
        sole_writer(target),
    ):
        pass
    with sole_writer(target):
        pass
    assert list(tmp_path.iterdir()) == []


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    process = holder(tmp_path / "p.csv")
    with (
        pytest.raises(UsageError, match=rf"p\.csv is being written by process {process.pid}: wait"),
        sole_writer(tmp_path / "p.csv"),
    ):
        pass
    process.kill()
    process.communicate()
    with sole_writer(tmp_path / "p.csv"):
        pass


def test_without_system_locks_the_living_are_respected_and_the_dead_not(tmp_path: Path, monkeypatch) -> None:
    process = holder(tmp_path / "p.csv")

    def no_locks(*words):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locking.fcntl, "lockf", no_locks)
    with pytest.raises(UsageError, match=f"by process {process.pid}"), sole_writer(tmp_path / "p.csv"):
        pass
    process.kill()
    process.communicate()
    with sole_writer(tmp_path / "p.csv"):
        pass


@pytest.mark.parametrize(("age_s", "free"), [(5, False), (3600, True)])
def test_a_lock_of_another_machine_ages(tmp_path: Path, monkeypatch, age_s: int, free: bool) -> None:
    lock = tmp_path / ".run.lock"
    lock.write_text(json.dumps({"machine": "elsewhere", "process": 1}))
    now = lock.stat().st_mtime
    os.utime(lock, (now - age_s, now - age_s))

    def no_locks(*words):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locking.fcntl, "lockf", no_locks)
    monkeypatch.setattr(locking.time, "time", lambda: now)
    if free:
        with sole_writer(tmp_path / "run"):
            assert json.loads(lock.read_text())["machine"] == socket.gethostname()
    else:
        with pytest.raises(UsageError, match="by process 1 on elsewhere"), sole_writer(tmp_path / "run"):
            pass


def test_of_many_threads_one_writes(tmp_path: Path, drive: str) -> None:
    inside, refused = [], []
    gate, done = threading.Barrier(8), threading.Event()

    def write() -> None:
        gate.wait()
        try:
            with sole_writer(tmp_path / "run"):
                inside.append(1)
                done.wait(10)
        except UsageError:
            refused.append(1)
            if len(refused) == 7:
                done.set()

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(inside), len(refused)) == (1, 7)


@pytest.mark.parametrize("writes", [False, True])
def test_a_folder_made_for_the_lock_goes_unless_something_was_written(tmp_path: Path, writes: bool) -> None:
    with sole_writer(tmp_path / "runs" / "one"):
        if writes:
            (tmp_path / "runs" / "one").mkdir()
    assert (tmp_path / "runs").exists() == writes


def test_a_place_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="can't write"), sole_writer(tmp_path / "file" / "run"):
        pass
