//! How two reports differ: what came, went, can do more or less than before, and is used again.

use std::collections::{BTreeMap, BTreeSet};

use intended_engine::access::within;
use intended_model::Name;
use intended_model::entry::AgentState;
use serde::Serialize;

use super::make::long_ago;
use super::report::{About, AgentRow, CredentialRow, CredentialState, Effective, MemberRow, Report, When};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    Added,
    Widened,
    Removed,
    Narrowed,
    UsedAgain,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChangeRow {
    pub change: Difference,
    pub about: About,
    pub subject: Box<str>,
    pub detail: Box<str>,
}

/// All of them: what came and what can do more first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub changes: Vec<ChangeRow>,
    pub from: Name,
    pub from_at: When,
    pub to: Name,
    pub to_at: When,
}

/// What of somebody counts: two of these are compared.
#[derive(Default)]
struct Side {
    /// There, and good for something.
    present: bool,
    /// What there is, each as one line.
    has: BTreeSet<String>,
    /// Patterns; none: anything.
    patterns: Vec<(&'static str, Vec<Box<str>>)>,
    /// Numbers of which more is wider: a time that it lasts until (none is for ever), a trust.
    lasts: BTreeMap<String, i64>,
    last_used: Option<When>,
}

/// Compares the report `from` with the later report `to`.
#[must_use]
pub fn changes(from: &Report, to: &Report) -> Changes {
    let mut out = Vec::new();
    let members = |r: &Report| r.members.iter().map(|m| (m.member.as_str().to_owned(), member(m))).collect();
    let credentials =
        |r: &Report| r.credentials.iter().map(|c| (c.credential.as_str().to_owned(), credential(c))).collect();
    let agents = |r: &Report| r.agents.iter().map(|a| (a.agent.to_string(), agent(a))).collect();
    compare(&mut out, About::Member, members(from), members(to), from.at);
    compare(&mut out, About::Credential, credentials(from), credentials(to), from.at);
    compare(&mut out, About::Agent, agents(from), agents(to), from.at);
    out.sort();
    Changes { changes: out, from: from.review.clone(), from_at: from.at, to: to.review.clone(), to_at: to.at }
}

fn compare(
    out: &mut Vec<ChangeRow>,
    about: About,
    mut before: BTreeMap<String, Side>,
    after: BTreeMap<String, Side>,
    then: When,
) {
    for (subject, now) in after {
        let was = before.remove(&subject).unwrap_or_default();
        one(out, about, &subject, &was, &now, then);
    }
    for (subject, was) in before {
        one(out, about, &subject, &was, &Side::default(), then);
    }
}

fn one(out: &mut Vec<ChangeRow>, about: About, subject: &str, was: &Side, now: &Side, then: When) {
    let mut say = |change, detail: String| {
        out.push(ChangeRow { change, about, subject: subject.into(), detail: detail.into() });
    };
    match (was.present, now.present) {
        (false, false) => return,
        (false, true) => return say(Difference::Added, all(&now.has)),
        (true, false) => return say(Difference::Removed, all(&was.has)),
        (true, true) => {}
    }
    let (mut more, mut less) = (Vec::new(), Vec::new());
    more.extend(now.has.difference(&was.has).cloned());
    less.extend(was.has.difference(&now.has).cloned());
    for ((what, was), (_, now)) in was.patterns.iter().zip(&now.patterns) {
        let inside = |inner: &[Box<str>], outer: &[Box<str>]| {
            outer.is_empty() || (!inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| within(i, o))))
        };
        let line = || format!("{what}: {} → {}", patterns(was), patterns(now));
        if !inside(now, was) {
            more.push(line());
        }
        if !inside(was, now) {
            less.push(line());
        }
    }
    for (what, then) in &was.lasts {
        match now.lasts.get(what).map(|now| now.cmp(then)) {
            Some(std::cmp::Ordering::Greater) => more.push(format!("{what} higher or longer")),
            Some(std::cmp::Ordering::Less) => less.push(format!("{what} lower or shorter")),
            _ => {}
        }
    }
    if !more.is_empty() {
        say(Difference::Widened, more.join("; "));
    }
    if !less.is_empty() {
        say(Difference::Narrowed, less.join("; "));
    }
    if long_ago(was.last_used, then)
        && let Some(last) = now.last_used.filter(|last| *last > then)
    {
        say(Difference::UsedAgain, format!("on {last}, after it was found unused"));
    }
}

fn all(has: &BTreeSet<String>) -> String {
    has.iter().cloned().collect::<Vec<_>>().join("; ")
}

fn patterns(patterns: &[Box<str>]) -> String {
    if patterns.is_empty() { "any".to_owned() } else { patterns.join(" ") }
}

/// One line for each place, so that a scope more is a line more.
fn effective(may: &Effective) -> BTreeSet<String> {
    let mut out: BTreeSet<String> = may.tenant.iter().map(|s| format!("{} for the tenant", s.as_str())).collect();
    for part in &may.environments {
        for environment in &part.environments {
            out.extend(part.scopes.iter().map(|s| format!("{} in {environment}", s.as_str())));
        }
    }
    out
}

/// A time that something lasts until; without one it lasts for ever.
fn until(end: Option<When>) -> i64 {
    end.map_or(i64::MAX, |end| end.0.as_millis())
}

fn member(row: &MemberRow) -> Side {
    // Roles say the same as what they come to, in fewer words.
    let place = |g: &super::report::GrantRow| {
        if g.whole {
            "everywhere".to_owned()
        } else {
            g.environments.iter().map(|e| e.as_str()).collect::<Vec<_>>().join(", ")
        }
    };
    let lasting: Vec<_> = row.grants.iter().filter(|g| !g.expired).collect();
    let mut has: BTreeSet<String> = lasting.iter().map(|g| format!("{} in {}", g.role.as_str(), place(g))).collect();
    has.extend(row.groups.iter().map(|g| format!("in the group {g}")));
    let lasts = lasting.iter().map(|g| (format!("{} in {}", g.role.as_str(), place(g)), until(g.expires_at))).collect();
    Side { present: row.active, has, patterns: Vec::new(), lasts, last_used: row.last_used }
}

fn credential(row: &CredentialRow) -> Side {
    Side {
        present: row.state == CredentialState::Active,
        has: effective(&row.may),
        patterns: vec![
            ("actions", row.actions.clone()),
            ("agents", row.agents.clone()),
            ("networks", row.networks.clone()),
        ],
        lasts: [("expiry".to_owned(), until(row.expires_at))].into(),
        last_used: row.last_used,
    }
}

fn agent(row: &AgentRow) -> Side {
    let mut has: BTreeSet<String> = row.environments.iter().map(|e| format!("in {e}")).collect();
    has.extend(row.teams.iter().map(|t| format!("of the team {t}")));
    if row.state == AgentState::Active {
        has.insert("active".to_owned());
    }
    Side {
        present: row.state != AgentState::Retired,
        has,
        patterns: vec![("tools", row.tools.clone()), ("categories", row.categories.clone())],
        lasts: [("trust".to_owned(), i64::from(row.trust))].into(),
        last_used: row.last_used,
    }
}
