-- Restores that were tried on purpose, and what they proved.
CREATE TABLE drill (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  cluster    TEXT NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  proof      TEXT CHECK (json_valid(proof)),
  error      TEXT,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,
  CHECK ((state = 'running') = (ended_ms IS NULL)),
  CHECK ((state = 'done') = (proof IS NOT NULL))
) STRICT;
CREATE INDEX drill_cluster ON drill (cluster, id);
