-- What the pipeline was asked to run. `received`: its push is under way, and may still be refused.
CREATE TABLE run (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  state        TEXT NOT NULL CHECK (state IN ('received', 'queued', 'running', 'ended')),
  conclusion   TEXT CHECK (conclusion IN ('success', 'failure', 'cancelled', 'skipped', 'superseded')),
  event        TEXT NOT NULL,
  -- What happened, in whole: the reference, the commit, its tree, who did it.
  cause        TEXT NOT NULL CHECK (json_valid(cause)),
  -- The line in which runs wait for each other: those of one branch or pull request.
  line         TEXT NOT NULL,
  environment  TEXT,
  -- Somebody asked that it end.
  cancelling   INTEGER NOT NULL DEFAULT 0 CHECK (cancelling IN (0, 1)),
  report       TEXT CHECK (report IS NULL OR json_valid(report)),
  error        TEXT,
  created_ms   INTEGER NOT NULL,
  started_ms   INTEGER,
  ended_ms     INTEGER,
  CHECK ((state = 'ended') = (conclusion IS NOT NULL)),
  CHECK ((state = 'ended') = (ended_ms IS NOT NULL))
) STRICT;
CREATE INDEX run_open ON run (id) WHERE state <> 'ended';

-- Pull requests that pushes have named.
CREATE TABLE pull_request (
  number    INTEGER PRIMARY KEY,
  branch    TEXT NOT NULL,
  base      TEXT NOT NULL,
  head      TEXT NOT NULL,
  opened_ms INTEGER NOT NULL,
  closed_ms INTEGER
) STRICT;

-- From which git tree a release was built, as the run that built it tells: nobody else's word counts.
CREATE TABLE release_source (
  release    TEXT NOT NULL,
  tree       TEXT NOT NULL,
  run        INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (release, tree)
) STRICT, WITHOUT ROWID;

-- How the gates stand for a git tree. `expected`: a job or step of that name is there, and has not ended yet.
CREATE TABLE gate (
  tree       TEXT NOT NULL,
  name       TEXT NOT NULL,
  run        INTEGER NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('expected', 'passed', 'failed', 'skipped')),
  detail     TEXT NOT NULL,
  changed_ms INTEGER NOT NULL,
  PRIMARY KEY (tree, name, run)
) STRICT, WITHOUT ROWID;
