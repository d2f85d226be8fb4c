//! Policy: packs of Cedar policies, the schema they are held to, and their evaluation.
//!
//! * [`pack`]: a pack's files → policies with ids, obligations and a content digest
//! * [`obligation`]: the `@escalate`, `@defer`, `@modify` annotations
//! * [`schema`]: the Cedar schema made from the tools, categories and operations
//! * [`validate`](mod@validate): strict validation with positions
//! * [`request`]: one intent as a Cedar request
//! * [`compiled`]: the scope index and evaluation
//! * [`missing`]: what a version names and the tenant has not
//!
//! Pure: files come in as a map of names to texts, nothing is read from anywhere. Policies are
//! parsed when a version is made, never per request.
#![expect(clippy::result_large_err, reason = "Cedar's own error type, met once at start")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod compiled;
pub mod missing;
pub mod obligation;
pub mod pack;
pub mod request;
pub mod schema;
pub mod validate;

pub use compiled::{PolicyDecision, PolicyOutcome, PolicySetVersion, PolicyTrace, Said};
pub use missing::{Missing, Named, NamedKind};
pub use obligation::{Change, ModifyError, Obligation, Requirement, apply_changes};
pub use pack::{Expectation, Pack, PackError, PackSource, Thresholds};
pub use request::{EvalError, EvalRequest};
pub use schema::{Schema, SchemaError, ToolAction};
pub use validate::{Problem, Report, validate};
