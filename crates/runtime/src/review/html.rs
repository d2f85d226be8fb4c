//! The report for people: one page that needs nothing else, runs nothing and prints.

use std::fmt::Write as _;

use intended_model::entry::Scope;

use super::approvers::words;
use super::csv::state;
use super::report::{CredentialState, Report, When};

const STYLE: &str = "\
:root{color-scheme:light}*{box-sizing:border-box}\
body{font:14px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;color:#1a1d21;background:#fff;margin:0 auto;max-width:1180px;padding:28px 32px}\
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 8px}\
p{margin:4px 0}.sub{color:#4b5563;font-weight:400}code{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%;font-size:13px}caption{text-align:left;color:#4b5563;padding:0 0 6px}\
th,td{text-align:left;vertical-align:top;padding:6px 12px 6px 0;border-bottom:1px solid #e2e5e9;overflow-wrap:break-word}td{max-width:420px}.k,.k code,time{white-space:nowrap}\
thead th{border-bottom:2px solid #1a1d21;white-space:nowrap}tbody th{font-weight:600}\
ul.counts{list-style:none;display:flex;flex-wrap:wrap;gap:8px 28px;padding:12px 0;margin:14px 0 0;border-top:1px solid #e2e5e9;border-bottom:1px solid #e2e5e9}\
ul.counts b{display:block;font-size:20px;line-height:1.2}\
.high,.medium,.low{display:inline-block;min-width:62px;padding:0 6px;border:1px solid;border-radius:3px;font-weight:600;text-align:center;white-space:nowrap}\
.high{color:#9b1c1c;background:#fdf0f0}.medium{color:#7a4a00;background:#fdf6e7}.low{color:#374151;background:#f3f4f6}\
.off{color:#6b7280}.sign td{height:44px}\
nav a{margin-right:14px}a{color:#1d4ed8}\
@media print{body{max-width:none;padding:0;font-size:11px}table{font-size:10px}thead{display:table-header-group}tr{break-inside:avoid}h2{break-after:avoid}nav{display:none}}";

/// The page. Every text in it is escaped: most of them come from outside.
#[must_use]
pub fn html(report: &Report, digest: &str, signatures: &[(String, String)]) -> String {
    let mut page = Page(String::with_capacity(64 * 1024));
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    page.raw(
        "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
    );
    page.raw(&format!(
        "<title>Access review {} of {}</title>\n",
        escaped(report.review.as_str()),
        escaped(report.tenant.as_str())
    ));
    page.raw(&format!("<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"));
    head(&mut page, report, digest);
    findings(&mut page, report);
    approvals(&mut page, report);
    members(&mut page, report);
    credentials(&mut page, report);
    agents(&mut page, report);
    groups(&mut page, report);
    roles(&mut page, report);
    signed(&mut page, digest, signatures);
    page.raw("</main>\n</body>\n</html>\n");
    page.0
}

struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }
    fn section(&mut self, id: &str, title: &str) {
        let _ = writeln!(self.0, "<h2 id=\"{id}\">{title}</h2>");
    }
    fn table(&mut self, caption: &str, header: &[&str]) {
        let _ = writeln!(self.0, "<table>\n<caption>{}</caption>\n<thead><tr>", escaped(caption));
        for cell in header {
            let _ = write!(self.0, "<th scope=\"col\">{cell}</th>");
        }
        self.raw("</tr></thead>\n<tbody>\n");
    }
    /// The first cell names the row. Cells are HTML.
    fn row(&mut self, first: &str, cells: &[String]) {
        let _ = write!(self.0, "<tr><th scope=\"row\">{first}</th>");
        for cell in cells {
            let _ = write!(self.0, "<td>{cell}</td>");
        }
        self.raw("</tr>\n");
    }
    fn end(&mut self) {
        self.raw("</tbody>\n</table>\n");
    }
    fn none(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p class=\"sub\">{text}</p>");
    }
}

/// Text as HTML: nothing of it is markup, and nothing changes the direction of what stands beside it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if intended_model::intent::is_hidden(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

fn head(page: &mut Page, report: &Report, digest: &str) {
    let counts = &report.counts;
    page.raw(&format!("<h1>Access review {}</h1>\n", escaped(report.review.as_str())));
    page.raw(&format!(
        "<p class=\"sub\">Tenant <b>{}</b>, as of {}, made by {}{}</p>\n",
        escaped(report.tenant.as_str()),
        minute(report.at),
        code(report.by.as_str()),
        report.previous.as_ref().map_or_else(
            || "; the first review".to_owned(),
            |p| format!("; the review before: {}", escaped(p.as_str()))
        ),
    ));
    page.raw(&format!("<p class=\"sub\">Digest of the report in the ledger: {}</p>\n", code(digest)));
    let noted =
        report.noted_since.map_or_else(|| "is not noted yet".to_owned(), |s| format!("is noted since {}", minute(s)));
    page.raw(&format!(
        "<p class=\"sub\">“Unused” is not used for {} days; where something was done {noted}.</p>\n",
        report.unused_days
    ));
    page.raw("<ul class=\"counts\">\n");
    for (n, what) in [
        (counts.high, "high findings"),
        (counts.medium, "medium findings"),
        (counts.low, "low findings"),
        (counts.members_active, "active members"),
        (counts.grants, "roles granted"),
        (counts.credentials_active, "active credentials"),
        (counts.agents, "agents"),
    ] {
        page.raw(&format!("<li><b>{n}</b>{what}</li>\n"));
    }
    page.raw("</ul>\n<nav aria-label=\"Sections\">");
    for (id, title) in [
        ("findings", "Findings"),
        ("approvals", "Approvals"),
        ("members", "Members"),
        ("credentials", "Credentials"),
        ("agents", "Agents"),
        ("groups", "Groups"),
        ("roles", "Roles"),
        ("signed", "Sign-off"),
    ] {
        page.raw(&format!("<a href=\"#{id}\">{title}</a>"));
    }
    page.raw("</nav>\n");
}

fn findings(page: &mut Page, report: &Report) {
    page.section("findings", "Findings");
    if report.findings.is_empty() {
        return page.none("Nothing was found.");
    }
    page.table("What somebody should look at, the worst first", &["Severity", "What", "Subject", "Finding", "Code"]);
    for finding in &report.findings {
        let word = finding.severity.as_str();
        let cells =
            [finding.about.as_str().to_owned(), code(&finding.subject), escaped(&finding.detail), code(&finding.code)];
        page.row(&format!("<span class=\"{word}\">{word}</span>"), &cells);
    }
    page.end();
}

fn approvals(page: &mut Page, report: &Report) {
    page.section("approvals", "Who can approve");
    if report.approvals.is_empty() {
        return page.none("No policy that is deployed asks for an approval.");
    }
    let caption = "What the deployed policies ask of people, and how many there are";
    page.table(caption, &["Policy", "Environment", "Asks for", "People", "Can approve it alone"]);
    for row in &report.approvals {
        let mut alone: Vec<String> = row.alone.iter().take(12).map(|m| code(m.as_str())).collect();
        let more = (row.alone_count as usize).saturating_sub(alone.len());
        if more > 0 {
            alone.push(format!("and {more} more"));
        }
        let alone = if alone.is_empty() { "nobody".to_owned() } else { alone.join(" ") };
        let cells = [escaped(row.environment.as_str()), escaped(&words(&row.steps)), row.people.to_string(), alone];
        page.row(&code(&row.policy), &cells);
    }
    page.end();
}

fn members(page: &mut Page, report: &Report) {
    page.section("members", "Members");
    if report.members.is_empty() {
        return page.none("There are no members.");
    }
    let header = ["Member", "State", "Roles", "Groups", "Signs in with", "Last used", "Never used"];
    page.table("Everybody, with every role that was granted", &header);
    for row in &report.members {
        let mut who = code(row.member.as_str());
        for text in row.name.iter().chain(&row.email) {
            let _ = write!(who, "<br><span class=\"sub\">{}</span>", escaped(text));
        }
        let grants: Vec<String> = row
            .grants
            .iter()
            .map(|g| {
                let place = if g.whole { "everywhere".to_owned() } else { join(&g.environments) };
                let end = g.expires_at.map(|end| format!(", until {}", last(Some(end)))).unwrap_or_default();
                let text = format!("<b>{}</b> {}{end}", g.role.as_str(), escaped(&place));
                if g.expired { format!("<s class=\"off\">{text}</s> expired") } else { text }
            })
            .collect();
        let cells = [
            if row.active { "active".to_owned() } else { "<span class=\"off\">inactive</span>".to_owned() },
            dash(&grants.join("<br>")),
            dash(&escaped(&join(&row.groups))),
            dash(&row.sign_in.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" ")),
            last(row.last_used),
            never(&row.unused, row.last_used),
        ];
        page.row(&who, &cells);
    }
    page.end();
}

fn credentials(page: &mut Page, report: &Report) {
    page.section("credentials", "Credentials");
    if report.credentials.is_empty() {
        return page.none("There are no credentials.");
    }
    let header = ["Credential", "State", "Scopes", "Where", "Bounds", "Expires", "Last used", "Never used"];
    page.table("Every key, also those that are good for nothing any more", &header);
    for row in &report.credentials {
        let mut who = code(row.credential.as_str());
        let of =
            row.member.as_ref().map_or_else(|| "a service’s".to_owned(), |m| format!("of {}", escaped(m.as_str())));
        let kind = if row.test { ", test" } else { "" };
        let _ = write!(who, "<br><span class=\"sub\">{of}{kind}; made by {}</span>", escaped(row.by.as_str()));
        let active = row.state == CredentialState::Active;
        let state = row.state.as_str();
        let bounds: Vec<String> = row.actions.iter().chain(&row.agents).chain(&row.networks).map(|b| code(b)).collect();
        let cells = [
            if active { state.to_owned() } else { format!("<span class=\"off\">{state}</span>") },
            scopes(&row.scopes),
            escaped(&if row.whole { "everywhere".to_owned() } else { join(&row.environments) }),
            if bounds.is_empty() { "none".to_owned() } else { bounds.join(" ") },
            row.expires_at.map_or_else(|| "never".to_owned(), |end| last(Some(end))),
            last(row.last_used),
            never(&row.unused, row.last_used),
        ];
        page.row(&who, &cells);
    }
    page.end();
}

fn agents(page: &mut Page, report: &Report) {
    page.section("agents", "Agents");
    if report.agents.is_empty() {
        return page.none("There are no agents.");
    }
    let header = ["Agent", "State", "Owner", "Environments", "Tools", "Categories", "Trust", "Workflow", "Last used"];
    page.table("Every agent that was registered", &header);
    for row in &report.agents {
        let mut who = code(&row.agent);
        if !row.purpose.is_empty() {
            let _ = write!(who, "<br><span class=\"sub\">{}</span>", escaped(&row.purpose));
        }
        let any = |patterns: &[Box<str>]| {
            if patterns.is_empty() {
                "any".to_owned()
            } else {
                patterns.iter().map(|p| code(p)).collect::<Vec<_>>().join(" ")
            }
        };
        let cells = [
            state(row.state).to_owned(),
            dash(&escaped(&row.owner)),
            dash(&escaped(&join(&row.environments))),
            any(&row.tools),
            any(&row.categories),
            row.trust.to_string(),
            if row.workflow == 0 { "none".to_owned() } else { format!("{} steps", row.workflow) },
            last(row.last_used),
        ];
        page.row(&who, &cells);
    }
    page.end();
}

fn groups(page: &mut Page, report: &Report) {
    page.section("groups", "Groups");
    if report.groups.is_empty() {
        return page.none("There are no groups.");
    }
    page.table("Who is asked when people are asked", &["Group", "Active members", "Inactive", "Asked in"]);
    for row in &report.groups {
        let cells = [row.active.to_string(), row.inactive.to_string(), dash(&escaped(&join(&row.named_in)))];
        page.row(&code(row.group.as_str()), &cells);
    }
    page.end();
}

fn roles(page: &mut Page, report: &Report) {
    page.section("roles", "Roles");
    page.table("What each role gave when the review was made", &["Role", "Scopes"]);
    for row in &report.roles {
        let text = if row.scopes.len() == Scope::ALL.len() { "everything".to_owned() } else { scopes(&row.scopes) };
        page.row(row.role.as_str(), &[text]);
    }
    page.end();
}

fn signed(page: &mut Page, digest: &str, signatures: &[(String, String)]) {
    page.section("signed", "Sign-off");
    page.table("Two people sign; their signatures are entries of the ledger", &["Person", "Signed with"]);
    for (member, with) in signatures {
        page.row(&code(member), &[code(with)]);
    }
    for _ in signatures.len()..2 {
        page.row("<span class=\"off\">not signed yet</span>", &["<span class=\"off\">–</span>".to_owned()]);
    }
    page.end();
    page.raw(&format!("<p class=\"sub\">They sign {}</p>\n", code(digest)));
}

fn join<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn dash(html: &str) -> String {
    if html.is_empty() { "–".to_owned() } else { html.to_owned() }
}

fn scopes(scopes: &[Scope]) -> String {
    dash(&scopes.iter().map(|s| format!("<code>{}</code>", s.as_str())).collect::<Vec<_>>().join(" "))
}

/// `2026-11-24`
fn day(at: When) -> String {
    at.to_string().chars().take(10).collect()
}

/// `2026-11-24 12:00 UTC`
fn minute(at: When) -> String {
    let text = at.to_string();
    format!("{} UTC", text.chars().take(16).collect::<String>().replace('T', " "))
}

/// Scopes that were never used; of what was never used at all that says it.
fn never(unused: &[Scope], last: Option<When>) -> String {
    if last.is_none() && !unused.is_empty() { "all of it".to_owned() } else { scopes(unused) }
}

fn last(at: Option<When>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| format!("<time datetime=\"{at}\">{}</time>", day(at)))
}
