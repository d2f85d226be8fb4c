//! What of a report somebody should look at, the worst first. Computed from the report alone, so that
//! whoever has one can find the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use intended_model::entry::{AgentState, Role, Scope, Tier};
use intended_model::{EnvironmentId, MemberId};

use super::approvers::words;
use super::make::{DAY_MS, ends_soon, long_ago, person};
use super::report::{
    About, AgentRow, ApprovalRow, CredentialRow, CredentialState, Finding, MemberRow, Report, Severity, UNUSED_DAYS,
    When,
};

/// Most names in one finding.
const MAX_NAMES: usize = 8;

/// Everything, sorted: by severity, then by what it is about.
pub(super) fn findings(report: &Report) -> Vec<Finding> {
    let mut out = Found { report, findings: Vec::new() };
    report.approvals.iter().for_each(|row| out.approval(row));
    out.groups();
    out.one_person();
    report.members.iter().for_each(|row| out.member(row));
    report.credentials.iter().for_each(|row| out.credential(row));
    report.agents.iter().for_each(|row| out.agent(row));
    let mut findings = out.findings;
    findings.sort();
    findings
}

struct Found<'r> {
    report: &'r Report,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, severity: Severity, about: About, subject: &str, code: &'static str, detail: String) {
        let finding =
            Finding { severity, about, subject: subject.into(), code: Cow::Borrowed(code), detail: detail.into() };
        self.findings.push(finding);
    }

    fn approval(&mut self, row: &ApprovalRow) {
        let subject = format!("{}: {}", row.environment, row.policy);
        let asks = words(&row.steps);
        if row.alone_count > 0 {
            let single = row.steps.len() <= 1;
            let who = names(row.alone.iter().map(MemberId::as_str), row.alone_count as usize);
            // One of many is what the policy says; one in every step is what nobody meant.
            let severity = if single { Severity::Medium } else { Severity::High };
            let detail = format!("asks for {asks}; each of these can approve it alone: {who}");
            self.add(severity, About::Policy, &subject, "approval.alone", detail);
        }
        if !row.impossible.is_empty() {
            let detail = format!("there are not enough people for {}: it always times out", row.impossible.join(", "));
            self.add(Severity::High, About::Policy, &subject, "approval.impossible", detail);
        }
        if !row.exact.is_empty() {
            let detail = format!("takes everybody there is for {}: nobody can be away", row.exact.join(", "));
            self.add(Severity::Low, About::Policy, &subject, "approval.exact", detail);
        }
    }

    fn groups(&mut self) {
        let report = self.report;
        for group in report.groups.iter().filter(|g| g.active == 0) {
            let (severity, named) = if group.named_in.is_empty() {
                (Severity::Low, String::new())
            } else {
                (Severity::High, format!("; policy of {} asks for it", list(&group.named_in)))
            };
            let detail = format!("no active member is in it ({} who are not active){named}", group.inactive);
            self.add(severity, About::Group, group.group.as_str(), "group.empty", detail);
        }
    }

    /// Members that can be one person count once where people are counted, but look like two.
    fn one_person(&mut self) {
        let mut people: BTreeMap<Box<str>, Vec<&str>> = BTreeMap::new();
        for member in self.report.members.iter().filter(|m| m.active && m.email.is_some()) {
            let person = person(&member.member, member.email.as_deref());
            people.entry(person).or_default().push(member.member.as_str());
        }
        for (_, members) in people.into_iter().filter(|(_, members)| members.len() > 1) {
            let detail =
                format!("{} have one address and count as one person", names(members.iter().copied(), members.len()));
            self.add(Severity::High, About::Member, members.first().unwrap_or(&""), "member.one_person", detail);
        }
    }

    fn member(&mut self, row: &MemberRow) {
        let (at, id) = (self.report.at, row.member.as_str());
        let lasting = || row.grants.iter().filter(|g| !g.expired);
        if !row.active {
            if lasting().next().is_some() {
                let detail = "is not active and would have their roles again if they were".to_owned();
                self.add(Severity::Low, About::Member, id, "member.inactive", detail);
            }
            return;
        }
        for owner in lasting().filter(|g| g.role == Role::Owner) {
            let (severity, of) = if owner.whole {
                (Severity::Medium, "the whole tenant".to_owned())
            } else {
                (Severity::Low, list(&owner.environments))
            };
            self.add(severity, About::Member, id, "member.owner", format!("owner of {of}: may do everything there"));
        }
        if lasting().next().is_none() {
            return;
        }
        if long_ago(row.last_used, at) {
            let detail = self.unused(row.last_used);
            self.add(Severity::Medium, About::Member, id, "member.unused", detail);
        } else {
            if let Some(environment) = self.only_one(&row.used_in, lasting().any(|g| g.whole)) {
                let detail = format!("has roles in every environment and worked in `{environment}` only");
                self.add(Severity::Medium, About::Member, id, "member.wide", detail);
            }
            self.unused_scopes(About::Member, id, "member.unused_scopes", &row.unused);
        }
        for grant in lasting().filter(|g| ends_soon(g, at)) {
            let end = grant.expires_at.map(|end| end.to_string()).unwrap_or_default();
            let detail = format!("the role `{}` ends on {}", grant.role.as_str(), day(&end));
            self.add(Severity::Low, About::Member, id, "member.ends_soon", detail);
        }
    }

    fn unused(&self, last: Option<When>) -> String {
        let at = self.report.at.0;
        let Some(last) = last else {
            // What was not looked for was not seen either.
            let began = self.report.noted_since.filter(|s| at.millis_since(s.0) < UNUSED_DAYS * DAY_MS);
            return began.map_or_else(
                || "was never seen in use".to_owned(),
                |began| format!("was not seen in use since {}, when noting that began", day(&began.to_string())),
            );
        };
        format!("last used {} days ago, on {}", at.millis_since(last.0) / DAY_MS, day(&last.to_string()))
    }

    /// The environment, of something that is good for all of them, that it was used in if it is one.
    fn only_one<'u>(&self, used_in: &'u [EnvironmentId], whole: bool) -> Option<&'u EnvironmentId> {
        match used_in {
            [only] if whole && self.report.environments.len() > 1 => Some(only),
            _ => None,
        }
    }

    fn unused_scopes(&mut self, about: About, id: &str, code: &'static str, scopes: &[Scope]) {
        if !scopes.is_empty() {
            let scopes: Vec<&str> = scopes.iter().map(|s| s.as_str()).collect();
            self.add(Severity::Low, about, id, code, format!("never used: {}", scopes.join(" ")));
        }
    }

    fn credential(&mut self, row: &CredentialRow) {
        let (at, id) = (self.report.at, row.credential.as_str());
        let mut add = |severity, code, detail: String| self.add(severity, About::Credential, id, code, detail);
        match row.state {
            CredentialState::Revoked | CredentialState::Spent => return,
            CredentialState::Expired => {
                return add(Severity::Low, "credential.expired", "has expired and was not revoked".to_owned());
            }
            CredentialState::MemberInactive => {
                let detail = "is of a member who is not active, and good again if they were".to_owned();
                return add(Severity::Medium, "credential.member_inactive", detail);
            }
            CredentialState::Active => {}
        }
        if row.expires_at.is_none() {
            add(Severity::Medium, "credential.no_expiry", "never expires".to_owned());
        }
        if row.test {
            add(Severity::Low, "credential.test", "is a test key: good outside production".to_owned());
        }
        if row.may.tenant.contains(&Scope::AccessWrite) && row.member.is_none() {
            let detail = "gives access to others for the whole tenant, and no person stands behind it".to_owned();
            add(Severity::High, "credential.access", detail);
        }
        if long_ago(row.last_used, at) {
            let detail = self.unused(row.last_used);
            self.add(Severity::Medium, About::Credential, id, "credential.unused", detail);
        } else {
            if let Some(environment) = self.only_one(&row.used_in, row.whole) {
                let detail = format!("is good for every environment and was used in `{environment}` only");
                self.add(Severity::Medium, About::Credential, id, "credential.wide", detail);
            }
            self.unused_scopes(About::Credential, id, "credential.unused_scopes", &row.unused);
        }
    }

    fn agent(&mut self, row: &AgentRow) {
        let report = self.report;
        let (at, id) = (report.at, &*row.agent);
        let mut add = |severity, code, detail: String| self.add(severity, About::Agent, id, code, detail);
        if row.state == AgentState::Retired {
            return;
        }
        // Members stand in the order of their ids.
        let found = report.members.binary_search_by(|m| m.member.as_str().cmp(&row.owner));
        let owner = found.ok().and_then(|at| report.members.get(at));
        match owner {
            _ if row.owner.is_empty() => {
                add(Severity::Medium, "agent.no_owner", "nobody is named who answers for it".to_owned());
            }
            Some(member) if !member.active => {
                let detail = format!("`{}`, who answers for it, is not an active member", row.owner);
                add(Severity::High, "agent.owner_inactive", detail);
            }
            None => {
                let detail = format!("`{}`, who answers for it, is no member", row.owner);
                add(Severity::Low, "agent.owner_no_member", detail);
            }
            Some(_) => {}
        }
        if row.tools.is_empty() {
            let production = report
                .environments
                .iter()
                .any(|e| e.tier == Tier::Production && row.environments.contains(&e.environment));
            let severity = if production { Severity::Medium } else { Severity::Low };
            add(severity, "agent.no_tools", "its registration does not say which tools it may use".to_owned());
        }
        if long_ago(row.last_used, at) {
            let detail = self.unused(row.last_used);
            self.add(Severity::Low, About::Agent, id, "agent.unused", detail);
        }
    }
}

/// The day of a time.
fn day(text: &str) -> &str {
    text.split('T').next().unwrap_or(text)
}

fn list(environments: &[EnvironmentId]) -> String {
    environments.iter().map(EnvironmentId::as_str).collect::<Vec<_>>().join(", ")
}

/// Some names, and how many more there are.
fn names<'n>(names: impl Iterator<Item = &'n str>, count: usize) -> String {
    let some: Vec<&str> = names.take(MAX_NAMES).collect();
    let more = count.saturating_sub(some.len());
    let some = some.join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}
