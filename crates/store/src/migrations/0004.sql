-- Who made a deployment, and from what; deployments that a newer one overtook while they waited.
CREATE TABLE deployment_next (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  environment   TEXT NOT NULL,
  generation    INTEGER NOT NULL,
  release       TEXT NOT NULL,
  configuration TEXT NOT NULL CHECK (json_valid(configuration)),
  actor         TEXT NOT NULL,
  origin        TEXT NOT NULL CHECK (json_valid(origin)),
  state         TEXT NOT NULL
                CHECK (state IN ('created', 'starting', 'live', 'draining', 'retired', 'failed', 'superseded')),
  error         TEXT,
  created_ms    INTEGER NOT NULL,
  switched_ms   INTEGER,
  ended_ms      INTEGER,
  UNIQUE (environment, generation)
) STRICT;
INSERT INTO deployment_next
  SELECT id, environment, generation, release, configuration, 'unknown', 'null', state, error, created_ms,
         switched_ms, ended_ms
  FROM deployment;
-- A number is never used twice: the new table goes on where the old one was.
DELETE FROM sqlite_sequence WHERE name = 'deployment_next';
INSERT INTO sqlite_sequence (name, seq) SELECT 'deployment_next', seq FROM sqlite_sequence WHERE name = 'deployment';
DROP TABLE deployment;
ALTER TABLE deployment_next RENAME TO deployment;
CREATE UNIQUE INDEX deployment_live ON deployment (environment) WHERE state = 'live';

-- Sleep: the environment has a live deployment, and no process. Last request: what its life is counted from.
ALTER TABLE environment ADD COLUMN asleep INTEGER NOT NULL DEFAULT 0 CHECK (asleep IN (0, 1));
ALTER TABLE environment ADD COLUMN active_ms INTEGER;
