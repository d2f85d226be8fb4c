-- A tenant's head is in the row of its last entry (see entries). Here is the head as it was when
-- the tenant was last folded: the newer one, because facts were written since, or an older one. Up
-- to here, and not further, `subjects` knows the entries.
CREATE TABLE tenants (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  size INTEGER NOT NULL,
  root BLOB NOT NULL,
  control_version INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  next_version INTEGER NOT NULL
) STRICT;

-- id = tenant number * 2^40 + index: one integer key, appended in order for each tenant.
-- Root to next_version are the head after a batch, in the row of its last entry.
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  control INTEGER NOT NULL,
  subject BLOB,
  root BLOB,
  control_version INTEGER,
  last_at INTEGER,
  next_version INTEGER,
  leaf BLOB NOT NULL
) STRICT;
CREATE INDEX entries_control ON entries (id) WHERE control = 1;

-- Entries by the intent that they are about; written when a tenant is folded. Intent ids sort by
-- time, so this grows at its end.
CREATE TABLE subjects (
  subject BLOB NOT NULL,
  id INTEGER NOT NULL,
  PRIMARY KEY (subject, id)
) STRICT, WITHOUT ROWID;

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
