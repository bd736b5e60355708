-- Backups that were tried. What `done` says is at the destination; retention takes both away.
CREATE TABLE backup (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT NOT NULL,
  subject    TEXT NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  location   TEXT,
  sha256     TEXT,
  bytes      INTEGER,
  error      TEXT,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  CHECK ((state = 'running') = (ended_ms IS NULL)),
  CHECK ((state = 'done') = (location IS NOT NULL))
) STRICT;
CREATE INDEX backup_subject ON backup (kind, subject, id);

-- How far the log of each cluster is at the destination.
CREATE TABLE backup_archive (
  cluster     TEXT PRIMARY KEY,
  segment     TEXT,
  archived_ms INTEGER,
  waiting     INTEGER NOT NULL,
  gap         TEXT,
  error       TEXT,
  changed_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
