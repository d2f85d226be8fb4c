//! What has changed since the checks were last made: said in the log, so that a trouble is known of when
//! nobody asks. The node asks itself a few times a minute ([`crate::nodes`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use intended_model::{EnvironmentId, TenantId};

use super::{Check, Status};

/// Which check it is. Several of one kind are one.
type Of = (Option<TenantId>, Option<EnvironmentId>, &'static str, &'static str);

/// How each check was when it was last made.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// Which measurement it is of.
    measured: u64,
    by: BTreeMap<Of, Status>,
}

impl Known {
    /// Notes how things are, and answers with those that were otherwise before, and how they were; of one
    /// that is new, if it is not healthy. What was measured before what is known already says nothing.
    pub(super) fn note<'c>(&self, measured: u64, checks: &'c [Check]) -> Vec<(Status, &'c Check)> {
        let mut worst: BTreeMap<Of, &Check> = BTreeMap::new();
        for check in checks {
            let of = (check.tenant.clone(), check.environment.clone(), check.component, check.check);
            let one = worst.entry(of).or_insert(check);
            if check.status > one.status {
                *one = check;
            }
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if measured < last.measured {
            return Vec::new();
        }
        last.measured = measured;
        let mut changed = Vec::new();
        for (of, check) in worst {
            let before = last.by.insert(of, check.status).unwrap_or(Status::Healthy);
            if before != check.status {
                changed.push((before, check));
            }
        }
        changed
    }
}

/// Says it. The log is the operator's, so it names whose it is.
pub(super) fn say(changed: &[(Status, &Check)]) {
    for (before, check) in changed {
        let (component, name, before) = (check.component, check.check, before.as_str());
        let tenant = check.tenant.as_ref().map(tracing::field::display);
        let environment = check.environment.as_ref().map(tracing::field::display);
        let detail = check.detail.as_str();
        match check.status {
            Status::Unavailable => {
                tracing::error!(
                    component,
                    check = name,
                    tenant,
                    environment,
                    before,
                    detail,
                    advice = check.todo,
                    "unavailable"
                );
            }
            Status::Degraded => {
                tracing::warn!(
                    component,
                    check = name,
                    tenant,
                    environment,
                    before,
                    detail,
                    advice = check.todo,
                    "degraded"
                );
            }
            Status::Healthy => {
                tracing::info!(component, check = name, tenant, environment, before, detail, "healthy again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_with_what_it_was_and_what_is_older_than_what_is_known_is_not() {
        use Status::{Degraded, Healthy, Unavailable};
        let check = |tenant: &str, status| Check {
            tenant: Some(TenantId::new(tenant).unwrap()),
            environment: None,
            component: super::super::LEDGER,
            check: "entries",
            status,
            detail: String::new(),
            todo: "",
        };
        let known = Known::default();
        let told = |measured, statuses: [Status; 2]| {
            let checks = [check("acme", statuses[0]), check("globex", statuses[1])];
            let changed = known.note(measured, &checks);
            let of = |(before, c): &(Status, &Check)| (*before, c.status, c.tenant.as_ref().unwrap().to_string());
            changed.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(told(1, [Healthy, Healthy]), [], "nothing was wrong");
        assert_eq!(told(2, [Healthy, Unavailable]), [(Healthy, Unavailable, "globex".to_owned())]);
        assert_eq!(told(2, [Healthy, Unavailable]), [], "it was said");
        assert_eq!(told(1, [Healthy, Healthy]), [], "that is how it was before");
        assert_eq!(told(3, [Degraded, Unavailable]), [(Healthy, Degraded, "acme".to_owned())]);
        let over = [(Degraded, Healthy, "acme".to_owned()), (Unavailable, Healthy, "globex".to_owned())];
        assert_eq!(told(4, [Healthy, Healthy]), over);
        // Of several of one kind it is the worst.
        let two = [check("acme", Degraded), check("acme", Unavailable), check("acme", Healthy)];
        let changed = known.note(5, &two);
        assert_eq!((changed.len(), changed[0].1.status), (1, Unavailable));
    }
}
