//! Strict validation against the schema.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{PolicySet, ValidationError, ValidationMode, ValidationWarning, Validator};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::lint::names;
use crate::pack::{PARSE_STACK, Pack, PackPolicy};
use crate::schema::Schema;
use crate::vocabulary::Vocabulary;

/// What validation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

/// Validates every policy strictly.
#[must_use]
pub fn validate(pack: &Pack, schema: &Schema) -> Report {
    let found = stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || {
        let all: Vec<&PackPolicy> = pack.policies().iter().collect();
        strict(&all, schema, schema.vocabulary())
    });
    let (errors, warnings) = found.into_iter().partition(|d| d.severity == Severity::Error);
    Report { errors, warnings }
}

/// Cedar's validation, and the names of entities. What both would say, a name that is unknown, is
/// said once: with the nearest name that exists.
pub(crate) fn strict(policies: &[&PackPolicy], schema: &Schema, vocabulary: Option<&Vocabulary>) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = policies.iter().flat_map(|p| names::entities(p, schema, vocabulary)).collect();
    let by_id: BTreeMap<&str, &PackPolicy> = policies.iter().map(|p| (&*p.id, *p)).collect();
    let mut set = PolicySet::new();
    for entry in policies {
        if let Err(error) = set.add(entry.policy.clone()) {
            found.push(Diagnostic::error("schema", &entry.place(), error.to_string()).of(&entry.id));
        }
    }
    let named: BTreeSet<String> = found.iter().filter_map(|d| d.policy.clone()).collect();
    let problem = |severity, code, id: &str, says: &dyn std::error::Error, at: &dyn miette::Diagnostic| {
        let policy = by_id.get(id);
        let whole = policy.map_or(Place::whole("", ""), |p| p.place());
        let label = at.labels().and_then(|mut labels| labels.next());
        let place = label.map_or_else(
            || whole.clone(),
            |l| {
                let text = policy.and_then(|p| AsRef::<cedar_policy_core::ast::Policy>::as_ref(&p.policy).loc());
                Place::new(whole.file, text.map_or("", |l| &l.src), l.offset()..l.offset() + l.len())
            },
        );
        let message = says.to_string();
        let prefix = format!("for policy `{id}`, ");
        let message = message.strip_prefix(&prefix).unwrap_or(&message).to_owned();
        let help = at.help().map(|h| h.to_string()).map(|h| h.strip_prefix(&prefix).map_or(h.clone(), str::to_owned));
        Diagnostic::new(severity, code, &place, message).of(id).help(help)
    };
    let result = Validator::new(schema.parsed.clone()).validate(&set, ValidationMode::Strict);
    // Cedar looks at every action by itself, and says of each what it says of all.
    let mut errors: Vec<&ValidationError> = result.validation_errors().collect();
    errors.sort_by_cached_key(|e| e.to_string());
    let mut said = BTreeSet::new();
    for error in errors {
        let id: &str = error.policy_id().as_ref();
        let names = matches!(error, ValidationError::InvalidEnumEntity(_) | ValidationError::UnrecognizedActionId(_));
        if names && named.contains(id) {
            continue;
        }
        let found_here = problem(Severity::Error, "schema", id, error, error);
        let kind = format!("{:?}", std::mem::discriminant(error));
        if said.insert((id.to_owned(), found_here.line, found_here.column, kind)) {
            found.push(found_here);
        }
    }
    for warning in result.validation_warnings() {
        let id: &str = warning.policy_id().as_ref();
        // Nothing can match a name that does not exist; that it does not exist has been said.
        let impossible =
            matches!(warning, ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_));
        if !(impossible && named.contains(id)) {
            let code = if impossible { "unreachable" } else { "confusable" };
            found.push(problem(Severity::Warning, code, id, warning, warning));
        }
    }
    found
}
