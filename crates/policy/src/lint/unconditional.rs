//! `unconditional-permit`: a permit that lets something other than reading through in production, and
//! nothing of the request is looked at but its scope. What `@escalate` or `@defer` stands on lets
//! nothing through by itself.

use intended_model::entry::Tier;

use super::Subject;
use super::scope::Groups;
use crate::diagnostic::Diagnostic;
use crate::obligation::Obligation;
use crate::vocabulary::Vocabulary;

const TIER: &str = "context.tier";
const ENVIRONMENT: &str = "context.environment";

pub(super) fn unconditional_permit(
    subject: &Subject<'_>,
    groups: &Groups,
    vocabulary: Option<&Vocabulary>,
) -> Option<Diagnostic> {
    let asks = matches!(subject.entry.obligation, Some(Obligation::Escalate(_) | Obligation::Defer(_)));
    if !subject.permits() || asks || !subject.reachable() || !subject.conditions.only_about(&[TIER, ENVIRONMENT]) {
        return None;
    }
    if subject.scope.unconstrained() && subject.conditions.is_empty() {
        let message = "permits every agent every action on everything, without a condition";
        let help = "constrain principal, action or resource, or add `when { … }`";
        return Some(subject.warn("unconditional-permit", message).help(help.to_owned()));
    }
    if subject.scope.tools.within(&groups.reading) || !in_production(subject, vocabulary) {
        return None;
    }
    let message = "permits more than reading in production without a condition";
    let help = "add `when { … }`, or let people decide by `@escalate`";
    Some(subject.warn("unconditional-permit", message).help(help.to_owned()))
}

/// Whether its condition, which asks about nothing but tier and environment, admits production.
fn in_production(subject: &Subject<'_>, vocabulary: Option<&Vocabulary>) -> bool {
    let production = Tier::Production.as_str();
    let admits = |environment: &str| subject.conditions.admit(ENVIRONMENT, environment);
    subject.conditions.admit(TIER, production)
        && vocabulary
            .filter(|v| !v.environments.is_empty())
            .is_none_or(|v| v.environments.iter().any(|(name, tier)| tier == production && admits(name)))
}
