//! `unreachable`: a policy that no request can ever satisfy. Cedar's validator finds more of them by
//! their types; this says why, where the reason is plain.

use super::Subject;
use crate::diagnostic::Diagnostic;

pub(super) fn unreachable(subject: &Subject<'_>) -> Option<Diagnostic> {
    if let Some(of) = &subject.conditions.contradiction {
        let message = if of.is_empty() {
            "its condition is always false".to_owned()
        } else {
            format!("its condition can never hold: it asks contradicting things of `{of}`")
        };
        return Some(subject.warn("unreachable", message));
    }
    if subject.scope.known && subject.scope.tools.is_empty() {
        let help = "a group of tools is asked for by `action in …`, one tool by `action == …`";
        let message = "no tool is what its scope asks of `action`";
        return Some(subject.warn("unreachable", message).help(help.to_owned()));
    }
    None
}
