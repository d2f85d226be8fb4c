//! The report for spreadsheets: one line for each grant, credential, agent, finding and approval, RFC
//! 4180. What a spreadsheet would run as a formula begins with an apostrophe: names come from outside.

use super::approvers::words;
use super::report::{Effective, Report, When};

const HEADER: [&str; 14] = [
    "kind",
    "subject",
    "name",
    "state",
    "role",
    "environments",
    "scopes",
    "bounds",
    "groups",
    "expires",
    "last_used",
    "unused_scopes",
    "severity",
    "detail",
];

/// One line, with cells by the name of their column.
#[derive(Default)]
struct Line<'a> {
    kind: &'static str,
    subject: &'a str,
    name: String,
    state: String,
    role: String,
    environments: String,
    scopes: String,
    bounds: String,
    groups: String,
    expires: String,
    last_used: String,
    unused: String,
    severity: String,
    detail: String,
}

/// The whole report.
#[must_use]
pub fn csv(report: &Report) -> String {
    let mut out = Vec::new();
    let subject = report.review.as_str();
    let detail = format!("tenant {}, made {} by {}", report.tenant, report.at, report.by);
    out.push(Line { kind: "review", subject, detail, ..Line::default() });
    out.extend(report.findings.iter().map(|f| Line {
        kind: "finding",
        subject: &f.subject,
        state: f.about.as_str().to_owned(),
        role: f.code.to_string(),
        severity: f.severity.as_str().to_owned(),
        detail: f.detail.to_string(),
        ..Line::default()
    }));
    out.extend(report.approvals.iter().map(|a| Line {
        kind: "approval",
        subject: &a.policy,
        environments: a.environment.to_string(),
        bounds: words(&a.steps),
        detail: format!("{} people; alone: {}", a.people, join(&a.alone)),
        ..Line::default()
    }));
    out.extend(report.groups.iter().map(|g| Line {
        kind: "group",
        subject: g.group.as_str(),
        environments: join(&g.named_in),
        detail: format!("{} active, {} not", g.active, g.inactive),
        ..Line::default()
    }));
    for m in &report.members {
        let member = || Line {
            kind: "member",
            subject: m.member.as_str(),
            name: m.name.as_deref().or(m.email.as_deref()).unwrap_or_default().to_owned(),
            state: if m.active { "active" } else { "inactive" }.to_owned(),
            groups: join(&m.groups),
            last_used: when(m.last_used),
            unused: m.unused.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "),
            ..Line::default()
        };
        out.push(Line { scopes: scopes(&m.may), ..member() });
        out.extend(m.grants.iter().map(|g| Line {
            kind: "grant",
            role: g.role.as_str().to_owned(),
            state: if g.expired { "expired" } else { "granted" }.to_owned(),
            environments: if g.whole { "*".to_owned() } else { join(&g.environments) },
            expires: when(g.expires_at),
            ..member()
        }));
    }
    out.extend(report.credentials.iter().map(|c| Line {
        kind: "credential",
        subject: c.credential.as_str(),
        name: c.member.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: c.state.as_str().to_owned(),
        role: if c.test { "test" } else { "live" }.to_owned(),
        environments: if c.whole { "*".to_owned() } else { join(&c.environments) },
        scopes: c.scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "),
        bounds: [c.actions.join(" "), c.agents.join(" "), c.networks.join(" ")].join(" ").trim().to_owned(),
        expires: when(c.expires_at),
        last_used: when(c.last_used),
        unused: c.unused.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "),
        detail: format!("made by {}", c.by),
        ..Line::default()
    }));
    out.extend(report.agents.iter().map(|a| Line {
        kind: "agent",
        subject: &a.agent,
        name: a.owner.to_string(),
        state: state(a.state).to_owned(),
        environments: join(&a.environments),
        bounds: [a.tools.join(" "), a.categories.join(" ")].join(" ").trim().to_owned(),
        groups: join(&a.teams),
        last_used: when(a.last_used),
        detail: a.purpose.to_string(),
        ..Line::default()
    }));
    let mut text = HEADER.join(",");
    text.push_str("\r\n");
    for line in out {
        let Line { kind, subject, name, state, role, environments, scopes, bounds, groups, expires, .. } = &line;
        let cells = [
            kind,
            *subject,
            name,
            state,
            role,
            environments,
            scopes,
            bounds,
            groups,
            expires,
            &line.last_used,
            &line.unused,
            &line.severity,
            &line.detail,
        ];
        text.push_str(&cells.map(cell).join(","));
        text.push_str("\r\n");
    }
    text
}

pub(super) const fn state(state: intended_model::entry::AgentState) -> &'static str {
    use intended_model::entry::AgentState;
    match state {
        AgentState::Active => "active",
        AgentState::Paused => "paused",
        AgentState::Retired => "retired",
    }
}

fn when(at: Option<When>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

pub(super) fn join<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// `production: intent:read policy:read; tenant: …`
fn scopes(may: &Effective) -> String {
    let words =
        |scopes: &[intended_model::entry::Scope]| scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" ");
    let mut parts: Vec<String> =
        may.environments.iter().map(|m| format!("{}: {}", join(&m.environments), words(&m.scopes))).collect();
    if !may.tenant.is_empty() {
        parts.push(format!("tenant: {}", words(&may.tenant)));
    }
    parts.join("; ")
}

/// A cell as RFC 4180 writes it. One that a spreadsheet would run begins with an apostrophe.
fn cell(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if runs { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        for (text, written) in [
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("+1", "\"'+1\""),
            ("-1+1", "\"'-1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\tx", "\"'\tx\""),
            ("\r=1", "\"'\r=1\""),
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("a=b", "a=b"),
            ("", ""),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
    }
}
