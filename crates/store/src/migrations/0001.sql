-- The journal: what an operation meant to do, and how far it came.
CREATE TABLE operation (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT NOT NULL,
  subject    TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  outcome    TEXT CHECK (outcome IN ('done', 'failed', 'skipped', 'rolled_back')),
  error      TEXT,
  CHECK ((ended_ms IS NULL) = (outcome IS NULL)),
  CHECK (error IS NULL OR outcome = 'failed')
) STRICT;
CREATE INDEX operation_unfinished ON operation (id) WHERE ended_ms IS NULL;

CREATE TABLE operation_step (
  operation INTEGER NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
  position  INTEGER NOT NULL,
  name      TEXT NOT NULL,
  detail    TEXT NOT NULL CHECK (json_valid(detail)),
  state     TEXT NOT NULL DEFAULT 'planned'
            CHECK (state IN ('planned', 'intended', 'done', 'failed', 'skipped', 'undoing', 'rolled_back')),
  attempts  INTEGER NOT NULL DEFAULT 0,
  intent_ms INTEGER,
  result_ms INTEGER,
  error     TEXT,
  data      TEXT CHECK (data IS NULL OR json_valid(data)),
  PRIMARY KEY (operation, position),
  -- Intent before, result after: the database itself refuses a result without an intent.
  CHECK (state NOT IN ('intended', 'done', 'failed', 'undoing') OR intent_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- The audit chain: each entry holds the hash of the one before.
CREATE TABLE audit (
  seq      INTEGER PRIMARY KEY,
  time_ms  INTEGER NOT NULL,
  actor    TEXT NOT NULL,
  action   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  detail   TEXT NOT NULL CHECK (json_valid(detail)),
  previous BLOB NOT NULL CHECK (length(previous) = 32),
  hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TRIGGER audit_appends BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT raise(ABORT, 'the audit chain only grows at its end'); END;
CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'audit entries are never changed'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'audit entries are never deleted'); END;

CREATE TABLE environment (
  name       TEXT PRIMARY KEY,
  desired    TEXT NOT NULL CHECK (desired IN ('up', 'down')),
  changed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deployment (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  environment   TEXT NOT NULL,
  generation    INTEGER NOT NULL,
  release       TEXT NOT NULL,
  configuration TEXT NOT NULL CHECK (json_valid(configuration)),
  state         TEXT NOT NULL
                CHECK (state IN ('created', 'starting', 'live', 'draining', 'retired', 'failed')),
  error         TEXT,
  created_ms    INTEGER NOT NULL,
  switched_ms   INTEGER,
  ended_ms      INTEGER,
  UNIQUE (environment, generation)
) STRICT;
CREATE UNIQUE INDEX deployment_live ON deployment (environment) WHERE state = 'live';

-- Ciphertexts only: this database never sees a key or a plain text.
CREATE TABLE scope_key (
  scope      TEXT PRIMARY KEY,
  ciphertext BLOB NOT NULL,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sealed (
  scope      TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL CHECK (version > 0),
  ciphertext BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, name, version)
) STRICT, WITHOUT ROWID;
