//! The engine on a PostgreSQL server that the tests start and stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod failures;
mod server;
mod store;
