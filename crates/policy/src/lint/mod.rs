//! What is allowed and still looks wrong. Every lint is a function over the pack's policies; none
//! claims more than it can show from scopes and conditions alone.

pub(crate) mod names;

mod conditions;
mod obligations;
mod scope;
mod shadowed;
mod unconditional;
mod unreachable;

use crate::diagnostic::{Diagnostic, Place};
use crate::pack::PackPolicy;
use crate::schema::Schema;
use crate::vocabulary::Vocabulary;
use conditions::Conditions;
use scope::{Groups, Scope};

/// Most pairs of policies that one lint compares: ten thousand policies have fifty million.
const MAX_PAIRS: usize = 4_000_000;

/// A policy as lints see it.
struct Subject<'p> {
    entry: &'p PackPolicy,
    scope: Scope,
    conditions: Conditions,
}

impl Subject<'_> {
    fn permits(&self) -> bool {
        self.entry.policy.effect() == cedar_policy::Effect::Permit
    }
    /// Whether it can match at all, as far as the lints see.
    fn reachable(&self) -> bool {
        self.scope.reachable() && self.conditions.contradiction.is_none()
    }
    /// Whether this matches whenever the other does.
    fn covers(&self, other: &Self) -> bool {
        self.scope.covers(&other.scope) && self.conditions.follow_from(&other.conditions)
    }
    fn warn(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, &self.entry.place(), message).of(&self.entry.id)
    }
    /// Named in a message, with its place.
    fn named(&self) -> String {
        format!("`{}` ({})", self.entry.id, Diagnostic::warning("", &self.entry.place(), "").place())
    }
}

/// Runs every lint.
pub(crate) fn run(policies: &[PackPolicy], schema: &Schema, vocabulary: Option<&Vocabulary>) -> Vec<Diagnostic> {
    let groups = Groups::new(schema);
    let subjects: Vec<Subject<'_>> = policies
        .iter()
        .map(|entry| {
            let tree: &cedar_policy_core::ast::Policy = entry.policy.as_ref();
            Subject {
                entry,
                scope: Scope::new(&entry.policy, &groups),
                conditions: Conditions::new(tree.non_scope_constraints()),
            }
        })
        .collect();
    let mut found = Vec::new();
    for subject in &subjects {
        found.extend(unreachable::unreachable(subject));
        found.extend(unconditional::unconditional_permit(subject, &groups, vocabulary));
        found.extend(names::comparisons(subject.entry, schema, vocabulary));
        found.extend(vocabulary.into_iter().flat_map(|v| names::groups(subject.entry, v)));
    }
    let mut complete = shadowed::shadowed_permits(&subjects, &mut found);
    complete &= obligations::unused(&subjects, &mut found);
    complete &= obligations::conflicting(&subjects, &mut found);
    if !complete {
        let message = format!(
            "the pack has so many policies that only the first {MAX_PAIRS} pairs were compared: \
             what is shadowed, unused or conflicting may be unnamed"
        );
        found.push(Diagnostic::warning("incomplete", &Place::whole("pack.toml", ""), message));
    }
    found
}

/// Finds for each of `these` the first of `those` that `is` so; false if there were too many pairs.
fn pairs<'s, 'p>(
    these: &[&'s Subject<'p>],
    those: &[&'s Subject<'p>],
    is: impl Fn(usize, &Subject<'p>, usize, &Subject<'p>) -> bool,
    mut each: impl FnMut(&'s Subject<'p>, &'s Subject<'p>),
) -> bool {
    let mut left = MAX_PAIRS;
    for (n, this) in these.iter().enumerate() {
        for (m, that) in those.iter().enumerate() {
            let Some(fewer) = left.checked_sub(1) else { return false };
            left = fewer;
            if is(n, this, m, that) {
                each(this, that);
                break;
            }
        }
    }
    true
}
