//! The embedded engine: SQLite, one writer, group commit
