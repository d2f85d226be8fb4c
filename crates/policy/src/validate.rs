//! Strict validation of a pack against the schema.

use cedar_policy::{PolicySet, ValidationMode, Validator};

use crate::pack::{PARSE_STACK, Pack, place};
use crate::schema::Schema;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub policy: String,
    pub message: String,
}

impl Problem {
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.file, None)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "policy `{}`: {}", self.policy, self.message)
    }
}

/// What validation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// Validates every policy strictly.
#[must_use]
pub fn validate(pack: &Pack, schema: &Schema) -> Report {
    stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || validate_here(pack, schema))
}

fn validate_here(pack: &Pack, schema: &Schema) -> Report {
    let mut set = PolicySet::new();
    let mut report = Report::default();
    for entry in pack.policies() {
        if let Err(error) = set.add(entry.policy.clone()) {
            report.errors.push(Problem {
                file: entry.file.clone(),
                policy: entry.id.to_string(),
                message: error.to_string(),
            });
        }
    }
    let result = Validator::new(schema.parsed.clone()).validate(&set, ValidationMode::Strict);
    let file_of = |id: &str| pack.policies().iter().find(|p| *p.id == *id).map(|p| p.file.clone()).unwrap_or_default();
    let problem = |id: &str, message: String| Problem { file: file_of(id), policy: id.to_owned(), message };
    for error in result.validation_errors() {
        let id: &str = error.policy_id().as_ref();
        report.errors.push(problem(id, error.to_string()));
    }
    for warning in result.validation_warnings() {
        let id: &str = warning.policy_id().as_ref();
        report.warnings.push(problem(id, warning.to_string()));
    }
    report
}
