-- The user's secrets: which versions there were, who set them, who may have them. Values are in `sealed`.
CREATE TABLE secret_version (
  scope      TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL CHECK (version > 0),
  actor      TEXT NOT NULL,
  -- The secret was removed: a version without a value.
  removed    INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1)),
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE secret_grant (
  scope      TEXT NOT NULL,
  name       TEXT NOT NULL,
  service    TEXT NOT NULL,
  actor      TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, name, service)
) STRICT, WITHOUT ROWID;
