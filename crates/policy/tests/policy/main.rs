//! Policy evaluation as a whole: the index against Cedar, outcomes, packs that are refused.
//!
//! Generated per run without further ado: 600 sets × 40 requests (`index`), 500 sets × 40 and 500
//! policies × 20 (`independent`). `PROPTEST_CASES` replaces each number of sets; a long campaign takes
//! 100,000: `PROPTEST_CASES=100000 cargo nextest run --release -p intended-policy`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod check;
mod format;
mod grammar;
mod independent;
mod index;
mod lints;
mod oracle;
mod outcomes;
mod packs;
mod request;
mod table;

/// How many sets are generated: `PROPTEST_CASES`, or this.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(usual)
}
