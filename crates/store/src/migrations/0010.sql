-- What an operator has switched on for an environment while it serves.
CREATE TABLE environment_switch (
  environment TEXT NOT NULL,
  kind        TEXT NOT NULL CHECK (kind IN ('maintenance', 'attack')),
  detail      TEXT NOT NULL CHECK (json_valid(detail)),
  PRIMARY KEY (environment, kind)
) STRICT, WITHOUT ROWID;
