-- What destroying takes. A mark outlives the manifest's words: removing a key and destroying is never one step.
CREATE TABLE environment_mark (
  name       TEXT PRIMARY KEY,
  protected  INTEGER NOT NULL CHECK (protected IN (0, 1)),
  destroying INTEGER NOT NULL DEFAULT 0 CHECK (destroying IN (0, 1)),
  CHECK (NOT (protected AND destroying))
) STRICT, WITHOUT ROWID;
