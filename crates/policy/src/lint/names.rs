//! `unknown-name`: what a policy names and nobody has.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{self, BinaryOp, EntityUID, Expr, ExprKind, Literal};
use cedar_policy_core::parser::Loc;
use intended_model::decision::{Operation, Reversible};
use intended_model::entry::Tier;

use super::conditions::path;
use crate::diagnostic::{Diagnostic, Place, Severity, did_you_mean};
use crate::obligation::{Obligation, Requirement};
use crate::pack::PackPolicy;
use crate::schema::Schema;
use crate::vocabulary::{INDICATORS, Vocabulary};

const CODE: &str = "unknown-name";

/// Entity literals: agents, teams and capabilities against the vocabulary, actions against the schema.
pub(crate) fn entities(entry: &PackPolicy, schema: &Schema, vocabulary: Option<&Vocabulary>) -> Vec<Diagnostic> {
    let policy: &ast::Policy = entry.policy.as_ref();
    let (principal, resource) = (policy.principal_constraint(), policy.resource_constraint());
    let sides = [principal.as_inner().get_euid(), resource.as_inner().get_euid()];
    let scope = sides.into_iter().flatten().map(|e| &**e).chain(policy.action_constraint().iter_euids());
    let condition = policy.non_scope_constraints().into_iter().flat_map(Expr::subexpressions);
    let literals = condition.filter_map(|e| match e.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(entity)) => Some((&**entity, e.source_loc().or_else(|| entity.loc()))),
        _ => None,
    });
    let mut said = BTreeSet::new();
    scope
        .map(|e| (e, e.loc()))
        .chain(literals)
        .filter_map(|(entity, loc)| {
            let found = entity_unknown(entity, &entry.place().at(loc), schema, vocabulary)?.of(&entry.id);
            said.insert((found.line, found.column)).then_some(found)
        })
        .collect()
}

fn entity_unknown(
    entity: &EntityUID,
    place: &Place<'_>,
    schema: &Schema,
    vocabulary: Option<&Vocabulary>,
) -> Option<Diagnostic> {
    let (kind, id): (String, &str) = (entity.entity_type().to_string(), entity.eid().as_ref());
    let shown = |name: &str| format!("{kind}::\"{}\"", name.escape_debug());
    if kind == "Action" {
        if schema.has_action(id) {
            return None;
        }
        let message = format!("there is no action `{}`", shown(id));
        return Some(Diagnostic::error(CODE, place, message).help(did_you_mean(id, schema.actions(), shown)));
    }
    let vocabulary = vocabulary?;
    let (known, what) = match kind.as_str() {
        "Agent" => (&vocabulary.agents, "agent"),
        "Team" => (&vocabulary.teams, "team"),
        "Capability" => (&vocabulary.capabilities, "capability"),
        _ => return None,
    };
    if known.contains(id) {
        return None;
    }
    let message = format!("the tenant has no {what} `{}`", id.escape_debug());
    Some(Diagnostic::error(CODE, place, message).help(did_you_mean(id, known.iter().map(String::as_str), shown)))
}

/// The names that a field of the request can have.
struct Known<'k> {
    what: &'static str,
    severity: Severity,
    names: BTreeSet<&'k str>,
}

/// The names that the tenant, the schema or the language knows for a field; absent for other fields.
fn known<'k>(field: &str, schema: &'k Schema, vocabulary: Option<&'k Vocabulary>) -> Option<Known<'k>> {
    let tools = |of: fn(&crate::ToolAction) -> &str| schema.tools().map(of).collect();
    let (what, severity, names): (_, _, BTreeSet<&str>) = match field {
        "context.environment" | "resource.environment" => {
            ("environment", Severity::Error, vocabulary?.environments.keys().map(String::as_str).collect())
        }
        "context.tier" => {
            let tiers = [Tier::Development, Tier::Staging, Tier::Production];
            ("tier", Severity::Error, tiers.map(Tier::as_str).into())
        }
        "context.tool" | "context.session.tools" => ("tool", Severity::Warning, tools(|t| &t.tool)),
        "context.category" | "context.session.categories" => ("category", Severity::Warning, tools(|t| &t.category)),
        "context.domain" => ("domain", Severity::Warning, tools(|t| &t.domain)),
        "context.operation" => ("operation", Severity::Warning, Operation::ALL.map(Operation::as_str).into()),
        "context.indicators" | "context.session.indicators" => {
            ("indicator", Severity::Warning, INDICATORS.iter().copied().collect())
        }
        "context.reversible" => {
            let all = [Reversible::Yes, Reversible::Partly, Reversible::No];
            ("reversibility", Severity::Warning, all.map(Reversible::as_str).into())
        }
        _ => return None,
    };
    Some(Known { what, severity, names })
}

/// Texts that are compared with a field of the request whose values are names.
pub(super) fn comparisons(entry: &PackPolicy, schema: &Schema, vocabulary: Option<&Vocabulary>) -> Vec<Diagnostic> {
    let policy: &ast::Policy = entry.policy.as_ref();
    let mut found = Vec::new();
    for expr in policy.non_scope_constraints().into_iter().flat_map(Expr::subexpressions) {
        let ExprKind::BinaryApp { op, arg1, arg2 } = expr.expr_kind() else { continue };
        use BinaryOp as Op;
        if !matches!(op, Op::Eq | Op::Contains | Op::ContainsAll | Op::ContainsAny) {
            continue;
        }
        let (field, other) = match (path(arg1), path(arg2)) {
            (Some(field), None) => (field, arg2),
            (None, Some(field)) => (field, arg1),
            _ => continue,
        };
        let Some(known) = known(&field, schema, vocabulary) else { continue };
        for (text, loc) in texts(other) {
            // Empty is how a request says that there is none.
            if text.is_empty() || known.names.contains(text) {
                continue;
            }
            let message = format!("there is no {} `{}`", known.what, text.escape_debug());
            let help = did_you_mean(text, known.names.iter().copied(), str::to_owned);
            let place = entry.place().at(loc);
            found.push(Diagnostic::new(known.severity, CODE, &place, message).of(&entry.id).help(help));
        }
    }
    found
}

/// A text, or the texts of a set.
fn texts(expr: &Expr) -> Vec<(&str, Option<&Loc>)> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::String(text)) => vec![(text.as_str(), expr.source_loc())],
        ExprKind::Set(items) => items.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Where a group stands in a requirement, as a word of its own after an `of`.
fn word(text: &str, group: &str) -> Option<usize> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices(group).map(|(at, _)| at).find(|at| {
        let (before, after) = (text.get(..*at).unwrap_or(""), text.get(at + group.len()..).unwrap_or(""));
        let of = before.ends_with(char::is_whitespace) && before.trim_end().ends_with("of");
        of && !after.starts_with(part)
    })
}

/// Groups of members that `@escalate` asks.
pub(super) fn groups(entry: &PackPolicy, vocabulary: &Vocabulary) -> Vec<Diagnostic> {
    let Some(Obligation::Escalate(requirements)) = &entry.obligation else { return Vec::new() };
    let annotation = entry.annotation("escalate");
    let groups: BTreeSet<&str> = requirements.iter().flat_map(Requirement::groups).collect();
    groups
        .into_iter()
        .filter(|group| !vocabulary.groups.contains(*group))
        .map(|group| {
            let message = format!("the tenant has no group of members `{group}`: nobody could approve");
            let help = did_you_mean(group, vocabulary.groups.iter().map(String::as_str), str::to_owned);
            let covered = annotation.text.get(annotation.range.clone()).unwrap_or("");
            let at = word(covered, group).map(|at| annotation.range.start + at);
            let place = at.map_or_else(
                || annotation.clone(),
                |at| Place::new(annotation.file, annotation.text, at..at + group.len()),
            );
            Diagnostic::warning(CODE, &place, message).of(&entry.id).help(help)
        })
        .collect()
}
