CREATE TABLE heads (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  frontier bytea NOT NULL,
  control_version bigint NOT NULL,
  last_at bigint NOT NULL,
  next_version bigint NOT NULL
);

CREATE TABLE entries (
  tenant bigint NOT NULL,
  idx bigint NOT NULL,
  at bigint NOT NULL,
  control boolean NOT NULL,
  subject bytea,
  leaf bytea NOT NULL,
  PRIMARY KEY (tenant, idx)
);
CREATE INDEX entries_control ON entries (tenant, idx) WHERE control;
CREATE INDEX entries_subject ON entries (tenant, subject, idx) WHERE subject IS NOT NULL;

-- The root of each complete block of 256 leaves.
CREATE TABLE blocks (
  tenant bigint NOT NULL,
  idx bigint NOT NULL,
  root bytea NOT NULL,
  PRIMARY KEY (tenant, idx)
);

CREATE TABLE facts (
  tenant bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  value bytea NOT NULL,
  version bigint NOT NULL,
  expires_at bigint,
  PRIMARY KEY (tenant, key)
);
CREATE INDEX facts_expiry ON facts (expires_at) WHERE expires_at IS NOT NULL;
