import errno
import io
import math
import os
import pickle
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nas.run.rows import Outcome
from nas.run.store import RunStore
from search_spaces import InputError

STATE = {"weights": torch.arange(3.0), "history": [1, None, "x"], "flag": True}


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "trials.db", create=True)
    store.add_stage("toy", 0, 5)
    yield store
    store.close()


def propose(store, proposal=0):
    return store.record_proposal("toy", {"left": "a"}, "f" * 16, proposal, -0.1 - 0.2, STATE)


def settle(store, trial, state=STATE, **values):
    outcome = Outcome(**{"status": "done", "reward": -0.1, "metrics": {"loss": 0.1}, "seconds": 2.0, **values})
    store.record_outcome(trial, "toy", outcome, state)


def test_rows_and_state_come_back_as_they_were_written(store):
    trial = propose(store)
    (row,) = RunStore(store.path, read_only=True).trials()
    assert (row.number, row.status, row.reward, row.seconds, row.attempts) == (trial, "running", None, None, 1)
    assert (row.log_prob, row.choices, row.proposal) == (-0.1 - 0.2, {"left": "a"}, 0)
    settle(store, trial, {"weights": torch.zeros(1)}, metrics={"loss": 0.1, "ap": math.nan})
    (row,) = store.trials("toy")
    assert (row.status, row.reward, row.seconds, row.cached) == ("done", -0.1, 2.0, False)
    assert row.metrics["loss"] == 0.1
    assert math.isnan(row.metrics["ap"])
    assert store.controller_state("toy") == {**STATE, "weights": torch.zeros(1)}
    assert store.controller_state("other") is None
    assert store.trials("other") == []


def test_interim_scores_belong_to_the_latest_attempt(store):
    trial = propose(store)
    store.record_interim(trial, "toy", 1, 3, -2.5)
    store.record_attempts(trial, 2)
    assert store.interim(trial) == []
    store.record_interim(trial, "toy", 1, 3, -2.0)
    store.record_interim(trial, "toy", 2, 3, -1.0)
    assert store.interim(trial) == [(1, 3, -2.0), (2, 3, -1.0)]
    assert store.trials()[0].attempts == 2


def test_stages_are_listed_in_order_and_added_once(store):
    store.add_stage("second", 1, 7)
    store.add_stage("toy", 0, 99)
    store.finish_stage("toy")
    assert [(s.name, s.trials, s.finished) for s in store.stages()] == [("toy", 5, True), ("second", 7, False)]


def test_row_and_state_are_one_transaction(store):
    with pytest.raises(sqlite3.IntegrityError):
        store.record_proposal("toy", {"left": "a"}, None, 0, 0.0, STATE)
    assert store.trials() == []
    assert store.controller_state("toy") is None
    trial = propose(store)
    with pytest.raises(sqlite3.IntegrityError):
        settle(store, trial, {"new": 1}, status=None)
    assert store.trials()[0].status == "running"
    assert "new" not in store.controller_state("toy")


def test_a_reader_sees_whole_transactions_while_a_writer_is_inside_one(store):
    reader = RunStore(store.path, read_only=True)
    with store._transaction():
        store._db.execute("UPDATE stages SET trials = 1000")
        assert reader.stages()[0].trials == 5
    assert reader.stages()[0].trials == 1000
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.finish_stage("toy")


def test_an_outcome_waits_for_the_disk_and_a_proposal_only_where_the_journal_needs_it(store):
    def waits(write):
        write()
        return store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL

    assert not waits(lambda: propose(store))
    assert not waits(lambda: store.record_interim(1, "toy", 1, 2, 0.5))
    assert waits(lambda: settle(store, 1))
    store._has_wal = False
    assert waits(lambda: propose(store, 1))


def test_a_full_disk_is_told_and_loses_nothing(store):
    trial = propose(store)
    settle(store, trial)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="the disk is full") as caught:
        all(propose(store, number) for number in range(100))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(store.path)
    before = len(store.trials())
    store._db.execute("PRAGMA max_page_count = 1000000")
    propose(store)
    assert len(store.trials()) == before + 1


@pytest.fixture
def folder():
    """Where another user may look too, unlike in ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def sealed(folder):
    """Neither the folder nor its files can be written; for root, as a user who is not."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)
        folder.chmod(0o755)


def test_a_finished_store_is_read_in_a_folder_that_cannot_be_written(folder):
    store = RunStore(folder / "trials.db", create=True)
    store.add_stage("toy", 0, 5)
    settle(store, propose(store))
    store.close()
    with sealed(folder):
        reader = RunStore(folder / "trials.db", read_only=True)
        with reader.one_moment():
            assert [(row.status, row.reward) for row in reader.trials()] == [("done", -0.1)]
            assert [stage.name for stage in reader.stages()] == ["toy"]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.finish_stage("toy")
        reader.close()
        assert [path.name for path in folder.iterdir()] == ["trials.db"]


@pytest.mark.parametrize("lost", [(), ("trials.db-shm",)], ids=["whole", "without -shm"])
def test_trials_in_the_wal_are_read_or_told_of_but_never_left_out(store, folder, lost):
    """The files of a run that was killed, as they were copied."""
    propose(store)
    assert (store.path.parent / "trials.db-wal").stat().st_size
    for name in {"trials.db", "trials.db-wal", "trials.db-shm"} - set(lost):
        shutil.copyfile(store.path.parent / name, folder / name)
    with sealed(folder):
        if lost:
            with pytest.raises(
                InputError, match=r"trials.db cannot be read .*: trials are still in trials.db-wal; copy"
            ):
                RunStore(folder / "trials.db", read_only=True)
        else:
            assert len(RunStore(folder / "trials.db", read_only=True).trials()) == 1
    assert len(RunStore(folder / "trials.db", read_only=True).trials()) == 1  # the folder can be written again


def test_what_is_no_store_is_told(tmp_path):
    with pytest.raises(InputError, match=r"is not a run: it has no trials.db"):
        RunStore(tmp_path / "trials.db")
    (tmp_path / "trials.db").write_bytes(b"hello" * 1000)
    with pytest.raises(InputError, match=r"trials.db is not a run store: file is not a database"):
        RunStore(tmp_path / "trials.db")
    (tmp_path / "trials.db").write_bytes(b"")
    with pytest.raises(InputError, match=r"trials.db is not a run store: no such table"):
        RunStore(tmp_path / "trials.db")


def test_a_newer_format_is_refused(store):
    with store._transaction():
        store._db.execute("UPDATE meta SET value = '9'")
    with pytest.raises(InputError, match=r"trials.db: format 9 is newer than this version reads \(4\)"):
        RunStore(store.path, read_only=True)


def test_a_controller_state_is_data_and_never_code(store):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    blob = io.BytesIO()
    torch.save(Evil(), blob)
    with store._transaction():
        store._save_parts("toy", {"policy": blob.getvalue()})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        store.controller_state("toy")
