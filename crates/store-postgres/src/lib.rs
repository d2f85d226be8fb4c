//! The scale-out engine: PostgreSQL, head row locked per batch
