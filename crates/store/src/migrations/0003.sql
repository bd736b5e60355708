-- Tokens: what their bearers may do. Hashes only; a token itself is shown once, to who asked for it.
CREATE TABLE token (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL CHECK (kind IN ('named', 'session', 'job')),
  name       TEXT NOT NULL,
  hash       BLOB NOT NULL CHECK (length(hash) = 32),
  scopes     TEXT NOT NULL CHECK (json_valid(scopes)),
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  used_ms    INTEGER,
  revoked_ms INTEGER,
  -- Only a person's choice lasts for ever.
  CHECK (kind = 'named' OR expires_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX token_name ON token (name) WHERE kind = 'named' AND revoked_ms IS NULL;
