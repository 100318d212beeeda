"""The tables of ``trials.db``, format by format; a new store is made by the steps that bring an old one up to date."""

import sqlite3

from controllers.base import WHOLE

__all__ = ["STORE_FORMAT", "stored_format", "upgrade"]

STORE_FORMAT = 4

# What a failure was that an older version recorded without saying whether it was the network's.
TRANSIENT_BEFORE_3 = "status = 'failed' AND (reason LIKE 'out of memory%' OR reason = 'worker died twice')"

_STEPS = {
    1: """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE stages (
    stage TEXT PRIMARY KEY, position INTEGER NOT NULL, trials INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE trials (
    trial INTEGER PRIMARY KEY, stage TEXT NOT NULL REFERENCES stages, status TEXT NOT NULL, choices TEXT NOT NULL,
    key TEXT NOT NULL, reward REAL, cached INTEGER NOT NULL DEFAULT 0, reason TEXT, metrics TEXT NOT NULL DEFAULT '{}',
    log_prob REAL NOT NULL, proposal INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 1, started REAL NOT NULL,
    seconds REAL
) STRICT;
CREATE TABLE interim (trial INTEGER NOT NULL REFERENCES trials, step INTEGER, steps INTEGER, reward REAL) STRICT;
CREATE TABLE controller_state (stage TEXT PRIMARY KEY REFERENCES stages, state BLOB NOT NULL) STRICT;
INSERT INTO meta VALUES ('format', '1');
""",
    2: """
CREATE TABLE diagnostics (
    stage TEXT NOT NULL REFERENCES stages, trial INTEGER NOT NULL REFERENCES trials, name TEXT NOT NULL, value REAL,
    PRIMARY KEY (trial, name)
) STRICT;
CREATE TABLE promotions (
    key TEXT NOT NULL, recipe TEXT NOT NULL, status TEXT NOT NULL, metrics TEXT NOT NULL, place TEXT NOT NULL,
    finished REAL NOT NULL, PRIMARY KEY (key, recipe)
) STRICT;
""",
    # Whether a failure was the network's; attempts that count no interruptions; a state for each part of a controller;
    # interim scores found by stage and step; promotions that are one result for each job, whatever its recipe is named.
    3: f"""
ALTER TABLE trials ADD COLUMN transient INTEGER NOT NULL DEFAULT 0;
UPDATE trials SET transient = 1 WHERE {TRANSIENT_BEFORE_3};
UPDATE trials SET attempts = 1 WHERE status = 'running';
ALTER TABLE trials DROP COLUMN cached;
ALTER TABLE interim ADD COLUMN stage TEXT NOT NULL DEFAULT '';
UPDATE interim SET stage = (SELECT stage FROM trials WHERE trials.trial = interim.trial);
CREATE INDEX interim_rewards ON interim (stage, step, reward);
ALTER TABLE controller_state RENAME TO former_state;
CREATE TABLE controller_state (
    stage TEXT NOT NULL REFERENCES stages, part TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (stage, part)
) STRICT;
INSERT INTO controller_state SELECT stage, '{WHOLE}', state FROM former_state;
DROP TABLE former_state;
ALTER TABLE promotions RENAME TO former_promotions;
CREATE TABLE promotions (
    key TEXT NOT NULL, job TEXT NOT NULL, recipe TEXT NOT NULL, status TEXT NOT NULL, metrics TEXT NOT NULL,
    place TEXT NOT NULL, reason TEXT, finished REAL NOT NULL
) STRICT;
INSERT INTO promotions SELECT key, '', recipe, status, metrics, place, NULL, finished FROM former_promotions
    ORDER BY rowid;
DROP TABLE former_promotions;
CREATE UNIQUE INDEX promotion_jobs ON promotions (key, job) WHERE job <> '';
""",
    # What is scored beside the search: references, and the best of all stages from several seeds.
    4: """
CREATE TABLE scores (
    score INTEGER PRIMARY KEY, purpose TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, space TEXT NOT NULL,
    choices TEXT NOT NULL, trials TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'waiting',
    reward REAL, reason TEXT, metrics TEXT NOT NULL DEFAULT '{}', attempts INTEGER NOT NULL DEFAULT 0, seconds REAL,
    UNIQUE (purpose, name, key, seed)
) STRICT;
""",
}


def stored_format(db: sqlite3.Connection) -> int:
    """The format of the store; raises `sqlite3.DatabaseError`, `TypeError` or `ValueError` where it is no store."""
    (text,) = db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    return int(text)


def upgrade(db: sqlite3.Connection, found: int) -> None:
    """Brings a store of format ``found`` (0: empty) to `STORE_FORMAT`, inside the caller's transaction."""
    for version in range(found + 1, STORE_FORMAT + 1):
        for statement in _STEPS[version].split(";"):
            db.execute(statement)
    db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (str(STORE_FORMAT),))
