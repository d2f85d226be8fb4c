//! Policy evaluation as a whole: the index against Cedar, outcomes, packs that are refused.
//!
//! `PROPTEST_CASES` sets how many policy sets are generated (600 without it; a long campaign takes
//! 100,000), each evaluated for forty requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod index;
mod outcomes;
mod request;
