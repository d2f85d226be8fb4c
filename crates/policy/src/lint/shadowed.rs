//! `shadowed-permit`: whenever it matches, a forbid matches too.

use super::{Diagnostic, Subject, pairs};

pub(super) fn shadowed_permits(subjects: &[Subject<'_>], found: &mut Vec<Diagnostic>) -> bool {
    let (permits, forbids): (Vec<_>, Vec<_>) = subjects.iter().filter(|s| s.reachable()).partition(|s| s.permits());
    pairs(
        &permits,
        &forbids,
        |_, permit, _, forbid| forbid.covers(permit),
        |permit, forbid| {
            let message = format!("permits nothing: whenever it matches, the forbid {} does too", forbid.named());
            found.push(permit.warn("shadowed-permit", message));
        },
    )
}
