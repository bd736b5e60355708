-- The book of alerts (what fires, who looks after it, what is silenced), as a whole: it is small, and each look at it
-- changes it together with what is to be said.
CREATE TABLE alert_book (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  body       TEXT NOT NULL CHECK (json_valid(body)),
  changed_ms INTEGER NOT NULL
) STRICT;

-- Notices on their way, and those that arrived or failed. Written down before each attempt and after it.
CREATE TABLE alert_delivery (
  number     INTEGER PRIMARY KEY,
  done       INTEGER NOT NULL CHECK (done IN (0, 1)),
  body       TEXT NOT NULL CHECK (json_valid(body)),
  changed_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX alert_delivery_open ON alert_delivery (number) WHERE done = 0;

-- Alerts that are over.
CREATE TABLE alert_history (
  number   INTEGER PRIMARY KEY,
  body     TEXT NOT NULL CHECK (json_valid(body)),
  ended_ms INTEGER NOT NULL
) STRICT;

-- Deployments that were found to be bad while they served: written down before anything is done about it, and whether
-- people were told.
CREATE TABLE deployment_bad (
  deployment INTEGER PRIMARY KEY REFERENCES deployment (id) ON DELETE CASCADE,
  why        TEXT NOT NULL,
  told       INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)),
  found_ms   INTEGER NOT NULL
) STRICT;
