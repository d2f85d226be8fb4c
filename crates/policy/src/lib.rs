//! Policy: packs of Cedar policies, the schema they are held to, and their evaluation.
//!
//! * [`pack`]: a pack's files → policies with ids, obligations and a content digest
//! * [`obligation`]: the `@escalate`, `@defer`, `@modify` annotations
//! * [`schema`]: the Cedar schema made from the tools, categories and operations
//! * [`vocabulary`]: what a tenant has, by name
//! * [`validate`](mod@validate): strict validation with positions
//! * [`check`](mod@check): everything that is to be said of a pack, with lints; [`diagnostic`]: how it is said
//! * [`format`](mod@format): the one layout of policies
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

pub mod check;
pub mod compiled;
pub mod diagnostic;
pub mod format;
mod index;
mod lint;
pub mod missing;
pub mod obligation;
pub mod pack;
pub mod request;
pub mod schema;
pub mod validate;
pub mod vocabulary;

pub use cedar_policy::Effect;
pub use check::{Checked, check};
pub use compiled::{PolicyDecision, PolicyOutcome, PolicySetVersion, PolicyTrace, Said};
pub use diagnostic::{Diagnostic, Severity};
pub use format::format;
pub use missing::{Missing, Named, NamedKind};
pub use obligation::{Change, ModifyError, Obligation, Requirement, apply_changes};
pub use pack::{Expectation, Pack, PackError, PackSource, Thresholds};
pub use request::{EvalError, EvalRequest};
pub use schema::{Schema, SchemaError, ToolAction};
pub use validate::{Report, validate};
pub use vocabulary::Vocabulary;
