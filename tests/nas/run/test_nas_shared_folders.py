"""Runs in folders that several machines share: the lock where there is no flock, the journal where there is no WAL."""

import errno
import fcntl
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nas.run import connection
from nas.run.directory import lock_run
from nas.run.file_systems import network_file_system
from nas.run.rows import Outcome
from nas.run.store import RunStore
from search_spaces import InputError


@pytest.fixture
def no_flock(monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def on_nfs(monkeypatch):
    monkeypatch.setattr(connection, "network_file_system", lambda path: "nfs4")


# The lock


def test_a_run_has_one_writer_wherever_its_folder_is_renamed(tmp_path):
    run, renamed = tmp_path / "run", tmp_path / "renamed"
    run.mkdir()
    with lock_run(run):
        run.rename(renamed)
        with pytest.raises(InputError, match=rf"is being written by process {os.getpid()} on "), lock_run(renamed):
            pass
    with lock_run(renamed):
        pass


@pytest.mark.usefixtures("no_flock")
def test_without_flock_a_file_is_the_lock(tmp_path):
    run, renamed = tmp_path / "run", tmp_path / "renamed"
    run.mkdir()
    with lock_run(run):
        run.rename(renamed)
        message = rf"is being written by process {os.getpid()} on .*; if that is gone, delete {renamed}/.lock.held$"
        with pytest.raises(InputError, match=message), lock_run(renamed):
            pass
    with lock_run(renamed), pytest.raises(ZeroDivisionError), lock_run(tmp_path):
        raise ZeroDivisionError
    assert not (renamed / ".lock.held").exists()
    assert not (tmp_path / ".lock.held").exists()


@pytest.mark.usefixtures("no_flock")
def test_a_lock_file_of_a_dead_process_of_this_machine_is_taken_over(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / ".lock.held").write_text(f"{socket.gethostname()}:{dead.pid}")
    with lock_run(tmp_path):
        assert (tmp_path / ".lock.held").read_text() == f"{socket.gethostname()}:{os.getpid()}"
    (tmp_path / ".lock.held").write_text(f"elsewhere:{dead.pid}")
    with pytest.raises(InputError, match=rf"written by process {dead.pid} on elsewhere"), lock_run(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_told_in_one_sentence(tmp_path):
    message = r"cannot lock the run \S+/none: No such file or directory$"
    with pytest.raises(InputError, match=message), lock_run(tmp_path / "none"):
        pass


# The journal


def journal_of(store):
    return store._db.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_local_store_has_a_wal_and_says_nothing(tmp_path, recwarn):
    RunStore(tmp_path / "trials.db", create=True).close()
    assert journal_of(RunStore(tmp_path / "trials.db")) == "wal"
    assert len(recwarn) == 0


@pytest.mark.usefixtures("on_nfs")
def test_a_store_on_a_network_file_system_has_a_rollback_journal_says_so_and_can_be_read(tmp_path):
    RunStore(tmp_path / "trials.db", create=True).close()
    with pytest.warns(UserWarning, match=r"lies on a network file system \(nfs4\): .* rollback journal"):
        store = RunStore(tmp_path / "trials.db")
    assert journal_of(store) == "delete"
    store.add_stage("toy", 0, 5)
    reader = RunStore(store.path, read_only=True)
    for number in range(3):
        trial = store.record_proposal("toy", {"left": "a"}, f"{number:016x}", number, 0.0, {"a": number})
        with reader.one_moment():
            assert [row.status for row in reader.trials()] == ["done"] * number + ["running"]
        store.record_outcome(trial, "toy", Outcome("done", 1.0), {"a": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.db"]


def test_a_store_that_came_from_a_local_disk_changes_its_journal(tmp_path, monkeypatch):
    store = RunStore(tmp_path / "trials.db", create=True)
    store.add_stage("toy", 0, 5)
    monkeypatch.setattr(connection, "network_file_system", lambda path: "nfs4")
    with pytest.raises(InputError, match=r"trials.db lies on a network file system \(nfs4\) and is open in another"):
        RunStore(tmp_path / "trials.db")
    store.close()
    with pytest.warns(UserWarning, match="rollback journal"):
        store = RunStore(tmp_path / "trials.db")
    assert (journal_of(store), [row.name for row in store.stages()]) == ("delete", ["toy"])


@pytest.mark.filterwarnings("ignore:.*rollback journal")
@pytest.mark.usefixtures("on_nfs")
def test_what_a_killed_writer_left_half_written_is_never_read(tmp_path):
    """The files of a writer that was killed inside a transaction, as they were copied."""
    RunStore(tmp_path / "trials.db", create=True).close()
    store = RunStore(tmp_path / "trials.db")
    store.add_stage("toy", 0, 5)
    store._db.execute("PRAGMA cache_size = 1")  # half of the transaction is on the disk
    store._db.execute("BEGIN IMMEDIATE")
    for number in range(200):
        store._db.execute("INSERT INTO stages VALUES (?, ?, 1, 0)", (f"{number:0500}", number))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("trials.db", "trials.db-journal"):
        shutil.copyfile(tmp_path / name, copy / name)
    assert (copy / "trials.db-journal").stat().st_size
    reader = RunStore(copy / "trials.db", read_only=True)
    assert [row.name for row in reader.stages()] == ["toy"]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.finish_stage("toy")


MOUNTS = """/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
me@there:/ /mnt/with\\040blank fuse.sshfs rw 0 0
/dev/sdc1 /mnt/fuse fuse.ntfs rw 0 0
scratch /scratch lustre rw 0 0
server:/old /late nfs rw 0 0
/dev/sdd1 /late ext4 rw 0 0
"""


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path):
    (tmp_path / "mounts").write_text(MOUNTS)
    expected = {
        "/data/run": None,
        "/home/me/run": "nfs4",
        "/home/local/run": None,
        "/homeless/run": None,
        "/mnt/with blank/run": "fuse.sshfs",
        "/mnt/fuse/run": None,
        "/scratch": "lustre",
        "/late/run": None,  # the later mount hides the earlier
    }
    paths = {path: network_file_system(type(tmp_path)(path), tmp_path / "mounts") for path in expected}
    assert paths == expected
    assert network_file_system(tmp_path, tmp_path / "none") is None


def test_a_mount_is_found_by_a_name_of_any_letters(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/a /mnt/données nfs4 rw 0 0\nserver:/b /mnt/my\\040own nfs rw 0 0\n", encoding="utf-8")
    assert network_file_system(Path("/mnt/données/run"), mounts) == "nfs4"
    assert network_file_system(Path("/mnt/my own/run"), mounts) == "nfs"
    assert network_file_system(Path("/mnt/other"), mounts) is None
