CREATE TABLE tenants (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  frontier BLOB NOT NULL,
  control_version INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  next_version INTEGER NOT NULL
) STRICT;

-- id = tenant number * 2^40 + index: one integer key, appended in order for each tenant.
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  control INTEGER NOT NULL,
  subject BLOB,
  leaf BLOB NOT NULL
) STRICT;
CREATE INDEX entries_control ON entries (id) WHERE control = 1;
-- Intent ids sort by time, so this too grows at its end.
CREATE INDEX entries_subject ON entries (subject, id) WHERE subject IS NOT NULL;

-- The root of each complete block of 256 leaves.
CREATE TABLE blocks (
  id INTEGER PRIMARY KEY,
  root BLOB NOT NULL
) STRICT;

CREATE TABLE facts (
  tenant INTEGER NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  version INTEGER NOT NULL,
  expires_at INTEGER,
  PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX facts_expiry ON facts (expires_at) WHERE expires_at IS NOT NULL;
