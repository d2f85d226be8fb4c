//! Where each version of an environment's policy stands, and why: what `policy list` shows.
//!
//! A version has a place in the lifecycle (draft, submitted, approved, active, superseded, …), and an
//! active one can be *stale* (it is not, or no longer, what it should be) or *orphaned* (nothing
//! stands behind it any more) besides. Each comes with its reasons.

use std::collections::BTreeMap;

use intended_engine::{DraftStatus, Environment, State, Version};
use intended_model::{Digest, EnvironmentId, Name};
use serde::Serialize;

use crate::admin::validated;
use crate::{Principal, Runtime};

/// Most validations that are remembered.
const MAX_REMEMBERED: usize = 256;

/// A version in an environment.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyRow {
    pub environment: EnvironmentId,
    pub pack: Name,
    pub version: Box<str>,
    pub digest: Digest,
    /// `active`, `draft`, `submitted`, `approved`, `rejected`, `superseded`, `stale`, `orphaned`:
    /// an active version can have several.
    pub status: Vec<&'static str>,
    /// Why it is stale or orphaned, or what is missing for the next step.
    pub why: Vec<String>,
    pub policies: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Name>,
    /// Ledger position of its deployment, or of the draft's last entry.
    pub index: u64,
}

impl PolicyRow {
    /// Where it stands in [`Runtime::policies`], as text that ascends there: what comes and goes before
    /// it moves nothing.
    #[must_use]
    pub fn place(&self) -> String {
        let kind = match self.status.first() {
            Some(&"active") => 0,
            Some(&"superseded") => 2,
            _ => 1,
        };
        // A space stands before all that a name can have; newest first.
        format!("{} {kind} {:020}", self.environment, u64::MAX - self.index)
    }
}

impl Runtime {
    /// Every version that stands somewhere, in the environments that the caller may see; what is
    /// active first, then drafts, then what was superseded, newest first.
    #[must_use]
    pub fn policies(&self, by: &Principal) -> Vec<PolicyRow> {
        let state = by.tenant.state();
        let mut rows = Vec::new();
        for environment in state.environments.values().filter(|e| by.sees(&e.id)) {
            rows.extend(self.active(&state, environment));
            rows.extend(drafts(&state, environment));
            rows.extend(superseded(environment));
        }
        rows
    }

    fn active(&self, state: &State, environment: &Environment) -> Option<PolicyRow> {
        let current = environment.history.last()?;
        let version = &current.version;
        let mut row = PolicyRow {
            environment: environment.id.clone(),
            pack: version.pack.clone(),
            version: version.version.clone(),
            digest: version.digest,
            status: vec!["active"],
            why: Vec::new(),
            policies: version.compiled.len(),
            draft: current.draft.clone(),
            index: current.index,
        };
        let stale = self.stale(state, environment, version);
        if !stale.is_empty() {
            row.status.push("stale");
            row.why.extend(stale);
        }
        let orphaned = orphaned(state, environment);
        if !orphaned.is_empty() {
            row.status.push("orphaned");
            row.why.extend(orphaned);
        }
        Some(row)
    }

    /// Why the active version is not what it should be.
    fn stale(&self, state: &State, environment: &Environment, version: &Version) -> Vec<String> {
        let mut why = Vec::new();
        let newer = state.drafts.values().filter(|d| {
            d.environment == environment.id
                && d.pack == version.pack
                && d.digest != version.digest
                && state.draft_status(d) == DraftStatus::Approved
        });
        for draft in newer {
            why.push(format!("behind the approved draft `{}` ({})", draft.id, draft.digest.short()));
        }
        if let Some((digest, source)) = environment.source.as_ref().filter(|(d, _)| *d != version.digest) {
            why.push(format!("its source `{}` holds {}", source.location, digest.short()));
        }
        for (named, policy) in &environment.missing.names {
            let kind = named.kind.as_str().to_lowercase();
            why.push(format!("policy `{policy}` names the {kind} `{}`, which is not there", named.id));
        }
        why.extend(self.invalid(state, version));
        why
    }

    /// Why a version does not validate any more. Remembered for each state of each tenant, because
    /// strict validation of a large version takes a while; nobody waits for anybody else's.
    fn invalid(&self, state: &State, version: &Version) -> Option<String> {
        let key = (state.tenant.clone(), version.digest, state.control);
        let known = || self.validations.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let remembered = known().get(&key).cloned();
        let invalid = remembered.unwrap_or_else(|| {
            let files: BTreeMap<String, String> =
                version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
            let invalid = validated(state, &files).err().map(|e| e.detail);
            let mut known = known();
            if known.len() >= MAX_REMEMBERED {
                known.clear();
            }
            known.insert(key, invalid.clone());
            invalid
        });
        invalid.map(|why| format!("it does not validate any more: {why}"))
    }
}

/// Why nothing stands behind the active version any more.
fn orphaned(state: &State, environment: &Environment) -> Vec<String> {
    let mut why = Vec::new();
    let Some(current) = environment.history.last() else { return why };
    let of_version = || environment.history.iter().filter(|d| d.version.digest == current.version.digest);
    if environment.settings.policy.approvals > 0 && !of_version().any(|d| d.draft.is_some()) {
        why.push("deployed without a draft, where drafts are asked for".to_owned());
    }
    let simulated = of_version().filter_map(|d| d.simulation.as_ref()).next_back();
    if let Some(s) = simulated.filter(|s| s.replayed > 0 && s.matched == 0) {
        why.push(format!("no policy had a say in any of the {} decisions it was simulated on", s.replayed));
    }
    if let Some((named, policy)) = environment.missing.names.first() {
        let more = environment.missing.names.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let kind = named.kind.as_str().to_lowercase();
        why.push(format!("policy `{policy}` names the {kind} `{}`, which no longer exists{more}", named.id));
    }
    for group in current.version.compiled.groups() {
        let filled = state.members.values().any(|m| m.active && m.groups.iter().any(|g| g.as_str() == group));
        if !state.members.is_empty() && !filled {
            why.push(format!("it escalates to the group `{group}`, which has no active member"));
        }
    }
    why
}

fn drafts(state: &State, environment: &Environment) -> Vec<PolicyRow> {
    let mut rows: Vec<PolicyRow> = state
        .drafts
        .values()
        .filter(|d| d.environment == environment.id && !d.deployed)
        .filter_map(|draft| {
            let version = state.versions.get(&draft.digest)?;
            let status = state.draft_status(draft);
            let (given, needed) = (state.approvals_given(draft), state.approvals_needed(draft));
            let why = match status {
                DraftStatus::Draft => vec!["not submitted".to_owned()],
                DraftStatus::Submitted => vec![format!("{given} of {needed} approvals")],
                DraftStatus::Rejected => {
                    draft.rejected.iter().map(|(by, reason)| format!("rejected by {by}: {reason}")).collect()
                }
                DraftStatus::Approved | DraftStatus::Deployed => Vec::new(),
            };
            Some(PolicyRow {
                environment: environment.id.clone(),
                pack: draft.pack.clone(),
                version: version.version.clone(),
                digest: draft.digest,
                status: vec![status.as_str()],
                why,
                policies: version.compiled.len(),
                draft: Some(draft.id.clone()),
                index: draft.changed_at,
            })
        })
        .collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.index));
    rows
}

fn superseded(environment: &Environment) -> Vec<PolicyRow> {
    let current = environment.deployed.as_ref().map(|v| v.digest);
    let mut seen: Vec<Digest> = Vec::new();
    let mut rows = Vec::new();
    for (position, deployment) in environment.history.iter().enumerate().rev() {
        let version = &deployment.version;
        if Some(version.digest) == current || seen.contains(&version.digest) {
            continue;
        }
        seen.push(version.digest);
        let next = environment.history.get(position + 1);
        let why = next.map(|n| match n.cause {
            intended_model::entry::DeployCause::Deploy => format!("superseded by {}", n.version.digest.short()),
            intended_model::entry::DeployCause::Rollback => {
                format!("rolled back to {} by {}", n.version.digest.short(), n.by)
            }
            intended_model::entry::DeployCause::Reverted => "taken back: its expected outcomes were others".to_owned(),
        });
        rows.push(PolicyRow {
            environment: environment.id.clone(),
            pack: version.pack.clone(),
            version: version.version.clone(),
            digest: version.digest,
            status: vec!["superseded"],
            why: why.into_iter().collect(),
            policies: version.compiled.len(),
            draft: deployment.draft.clone(),
            index: deployment.index,
        });
    }
    rows
}
