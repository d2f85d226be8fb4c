//! Policy before it decides.
//!
//! * [`suite`]: test files: fixtures, tables of intent → expected decision
//! * [`run`](mod@run): running them through the whole decision procedure, with policy coverage
//! * [`junit`]: results as JUnit XML
//! * [`simulate`]: recorded decisions made again by another version, and what comes out otherwise
//! * [`drift`]: how two windows of decisions differ
//! * [`scaffold`]: a new pack that passes
//!
//! Pure, like the engine that it asks: texts and ledger entries come in, reports come out.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod drift;
pub mod junit;
pub mod run;
pub mod scaffold;
pub mod simulate;
pub mod suite;

pub use drift::{Drift, Shares, drift};
pub use run::{CaseResult, Coverage, SuiteReport, cases, run};
pub use simulate::{Change, Simulation, Simulator};
pub use suite::{Suite, SuiteError};
