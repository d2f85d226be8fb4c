//! `unused-obligation` and `conflicting-obligations`: permits with obligations against other permits.

use super::{Diagnostic, Subject, pairs};

/// An obligation that never counts, because a permit without one matches whenever it does.
pub(super) fn unused(subjects: &[Subject<'_>], found: &mut Vec<Diagnostic>) -> bool {
    let permits = subjects.iter().filter(|s| s.reachable() && s.permits());
    let (obliging, plain): (Vec<_>, Vec<_>) = permits.partition(|s| s.entry.obligation.is_some());
    pairs(
        &obliging,
        &plain,
        |_, obliging, _, plain| plain.covers(obliging),
        |obliging, plain| {
            let message =
                format!("its obligation never counts: whenever it matches, {} permits without one", plain.named());
            found.push(obliging.warn("unused-obligation", message));
        },
    )
}

/// Two permits that can match together and ask for different things. One is named for each.
pub(super) fn conflicting(subjects: &[Subject<'_>], found: &mut Vec<Diagnostic>) -> bool {
    let obliging: Vec<_> =
        subjects.iter().filter(|s| s.reachable() && s.permits() && s.entry.obligation.is_some()).collect();
    pairs(
        &obliging,
        &obliging,
        |n, one, m, other| {
            n < m
                && one.entry.obligation != other.entry.obligation
                && one.scope.meets(&other.scope)
                && !one.conditions.exclude(&other.conditions)
        },
        |one, other| {
            let message = format!("asks for something else than {}, and both can match at once", other.named());
            let help = "make their conditions exclude each other, or their obligations the same";
            found.push(one.warn("conflicting-obligations", message).help(help.to_owned()));
        },
    )
}
