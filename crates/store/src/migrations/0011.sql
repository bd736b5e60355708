-- Certificates: what is in force for a set of names, and how far the next one has come. Keys are in files.
CREATE TABLE certificate (
  subject    TEXT PRIMARY KEY,
  body       TEXT NOT NULL CHECK (json_valid(body)),
  changed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
