//! The screen: what is wrong first, each with the command that goes on from there; then everything, a
//! line each. It is made of what the server said alone, its time included, so that what is shown is of
//! one moment whatever this machine's clock says.

use intended_model::Timestamp;
use serde_json::Value;

use crate::output::{safe, table};
use crate::when;

/// A line; a loud one is about something that is wrong, which its words say too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub loud: bool,
    pub text: String,
}

/// The server does not answer.
pub struct Lost<'a> {
    pub why: &'a str,
    /// Since when.
    pub for_ms: i64,
    /// How old what is shown is; `None`: nothing was ever seen.
    pub seen_ms: Option<i64>,
}

/// Something that is wrong, and what to do next.
struct Trouble {
    what: String,
    next: String,
}

/// Troubles of one kind that are told one by one.
const EACH: usize = 4;

pub fn text(lines: &[Line]) -> String {
    lines.iter().map(|l| crate::output::loud(&l.text, l.loud)).collect::<Vec<_>>().join("\n")
}

pub fn lines(status: &Value, width: usize, lost: Option<&Lost<'_>>) -> Vec<Line> {
    let mut out = Vec::new();
    let quiet = |text: String| Line { loud: false, text };
    if let Some(lost) = lost {
        let why = lost.why.lines().next().unwrap_or_default();
        for text in wrapped(&format!("UNAVAILABLE for {}: {}", age(lost.for_ms), safe(why)), width, "   ") {
            out.push(Line { loud: true, text });
        }
        let Some(seen) = lost.seen_ms else {
            out.push(quiet("   nothing was seen yet; it is asked again and again".to_owned()));
            return out;
        };
        out.push(quiet(format!("   below is how it stood {} ago; it is asked again and again", age(seen))));
        out.push(quiet(String::new()));
    }
    let now = status.get("at").and_then(Value::as_str).and_then(when::recorded).unwrap_or_default();
    let troubles = troubles(status, now);
    let halted = count(status, "/halts/in_force") > 0;
    let verdict = match (troubles.len(), halted, rows(status, "/not_shown").is_empty()) {
        (0, _, true) => "all is well".to_owned(),
        (0, _, false) => "what is shown is well".to_owned(),
        (_, true, _) => "HALTED".to_owned(),
        (1, ..) => "1 thing is wrong".to_owned(),
        (n, ..) => format!("{n} things are wrong"),
    };
    let head = format!("{}: {verdict}", said(status, "/tenant"));
    let at: String = now.to_string().replace('T', " ").chars().take(19).collect();
    let gap = width.min(80).saturating_sub(head.chars().count() + at.len() + 4).max(2);
    out.push(Line { loud: !troubles.is_empty(), text: format!("{head}{}{at} UTC", " ".repeat(gap)) });
    for trouble in &troubles {
        for text in wrapped(&format!("!! {}", trouble.what), width, "   ") {
            out.push(Line { loud: true, text });
        }
        out.push(quiet(format!("   next: {}", trouble.next)));
    }
    out.push(quiet(String::new()));
    for (label, what) in facts(status, now) {
        for text in wrapped(&format!("{label:<10}{what}"), width, "          ") {
            out.push(quiet(text));
        }
    }
    let environments = environments(status);
    if !environments.is_empty() {
        out.push(quiet(String::new()));
        let header = ["environment", "tier", "policy", "policies", "digest", "key, age"];
        out.extend(table(&header, environments).lines().map(|l| quiet(l.to_owned())));
    }
    out
}

fn troubles(status: &Value, now: Timestamp) -> Vec<Trouble> {
    let mut out = Vec::new();
    let mut add = |what: String, next: &str| out.push(Trouble { what, next: next.to_owned() });
    let since = |row: &Value, member: &str| {
        row.get(member)
            .and_then(Value::as_str)
            .and_then(when::recorded)
            .map_or(String::new(), |at| format!(" since {}", age(now.millis_since(at))))
    };
    if let Some(why) = status.get("suspended").and_then(Value::as_str) {
        add(format!("SUSPENDED: the whole tenant, everything is denied: {}", safe(why)), "intended tenant reinstate");
    }
    for part in rows(status, "/failed") {
        let what = format!("NOT KNOWN: {} could not be read ({})", said(part, "/what"), said(part, "/code"));
        add(what, "intended health check --verbose");
    }
    let halts = rows(status, "/halts/newest");
    for halt in halts.iter().take(EACH) {
        let scope = said(halt, "/scope");
        let place = halt.get("environment").and_then(Value::as_str).filter(|_| !scope.starts_with("environment:"));
        let place = place.map_or(String::new(), |e| format!(" in {}", safe(e)));
        let (by, reason) = (said(halt, "/by"), said(halt, "/reason"));
        add(format!("HALTED: {scope}{place}{}, by {by}: {reason}", since(halt, "since")), "intended emergency status");
    }
    let more = count(status, "/halts/in_force").saturating_sub(halts.len().min(EACH) as u64);
    if more > 0 {
        add(format!("HALTED: {more} more halts are in force"), "intended emergency status");
    }
    let checks = rows(status, "/health/components").into_iter().flat_map(|component| {
        let checks = rows(component, "/checks").into_iter();
        checks.filter(|c| said(c, "/status") != "healthy").map(move |check| (component, check))
    });
    // Which key is too old is said below, with the command that names its environment.
    let old = |e: &&Value| said(e, "/key/rotation") == "overdue";
    let named = rows(status, "/environments").iter().any(old);
    let checks = checks.filter(|(_, check)| !(named && said(check, "/check") == "key age"));
    for (component, check) in checks {
        let detail = said(check, "/detail");
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        let how = said(check, "/status").to_uppercase();
        let todo = said(check, "/do");
        let next = if todo.is_empty() { "intended health check --verbose".to_owned() } else { todo };
        add(format!("{how}: {}, {}{detail}", said(component, "/component"), said(check, "/check")), &next);
    }
    for node in rows(status, "/health/nodes").into_iter().filter(|n| said(n, "/status") != "healthy") {
        if node.get("here") != Some(&Value::Bool(true)) {
            let how = said(node, "/status").to_uppercase();
            add(format!("{how}: the node {}", said(node, "/node")), "intended health check --verbose");
        }
    }
    for environment in rows(status, "/environments") {
        if let Some(why) = environment.get("suspended").and_then(Value::as_str) {
            let name = said(environment, "/environment");
            let next = format!("intended environment reinstate {name}");
            add(format!("SUSPENDED: {name}, everything there is denied: {}", safe(why)), &next);
        }
        if environment.get("rollback_waiting").is_some() {
            let (name, by) = (said(environment, "/environment"), said(environment, "/rollback_waiting/by"));
            let what = format!("ROLLBACK of {name} waits for another person than {by}");
            add(what, &format!("intended policy rollback -e {name}"));
        }
        if let Some(what) = key_text(environment, now) {
            add(what, &format!("intended keys rotate -e {}", said(environment, "/environment")));
        }
    }
    let breakers = rows(status, "/breakers/worst");
    for breaker in breakers.iter().take(EACH) {
        add(breaker_text(breaker, now), &format!("intended breaker list -e {}", said(breaker, "/environment")));
    }
    let more = count(status, "/breakers/not_closed").saturating_sub(breakers.len().min(EACH) as u64);
    if more > 0 {
        add(format!("BREAKER: {more} more are not closed"), "intended breaker list");
    }
    for incident in rows(status, "/incidents/newest").into_iter().take(EACH) {
        let (name, title) = (said(incident, "/incident"), said(incident, "/title"));
        let what = format!("INCIDENT {name} is open{}: {title}", since(incident, "since"));
        add(what, &format!("intended incident timeline {name}"));
    }
    let waiting = status.pointer("/ledger/checkpoint_waiting_seconds").and_then(Value::as_i64).unwrap_or(0);
    if waiting > CHECKPOINT_LATE_SECS {
        let what = format!("LATE: entries have been waiting for a kept checkpoint for {}", age(waiting * 1000));
        add(what, "intended health check --verbose");
    }
    out
}

/// What is to be said of a signing key that grows old.
fn key_text(environment: &Value, now: Timestamp) -> Option<String> {
    let rotation = said(environment, "/key/rotation");
    let by = environment.pointer("/key/rotate_by").and_then(Value::as_str).and_then(when::recorded)?;
    let (name, days) = (said(environment, "/environment"), count(environment, "/key/age_days"));
    match rotation.as_str() {
        "overdue" => Some(format!(
            "OLD: the signing key of {name}, {days} days; its rotation is overdue by {}",
            age(now.millis_since(by))
        )),
        "near" => {
            Some(format!("OLD: the signing key of {name}, {days} days; rotate it within {}", age(by.millis_since(now))))
        }
        _ => None,
    }
}

/// A checkpoint is kept every ten seconds.
const CHECKPOINT_LATE_SECS: i64 = 60;

fn breaker_text(breaker: &Value, now: Timestamp) -> String {
    let (name, place, state) = (said(breaker, "/breaker"), said(breaker, "/environment"), said(breaker, "/state"));
    let held = rows(breaker, "/held").first().map(|h| format!("held by {}: {}", said(h, "/by"), said(h, "/reason")));
    let open = rows(breaker, "/instances").first().map(|i| {
        let opened = i.get("opened_by").map_or(String::new(), |o| {
            let n = |member: &str| o.get(member).and_then(Value::as_i64).unwrap_or(0);
            format!("{} {} of at most {} in {} calls", said(o, "/metric"), n("value"), n("threshold"), n("calls"))
        });
        let target = i.get("target").and_then(Value::as_str).map_or(String::new(), |t| format!("{}: ", safe(t)));
        let retry = i.get("retry_at").and_then(Value::as_i64).map_or(String::new(), |at| {
            let left = Timestamp::from_millis(at).millis_since(now);
            if left > 0 { format!(", tried again in {}", age(left)) } else { ", tried again now".to_owned() }
        });
        format!("{target}{opened}{retry}")
    });
    let why = held.or(open).map_or(String::new(), |why| format!(": {why}"));
    format!("BREAKER {name} in {place} is {}{why}", state.replace('_', "-"))
}

/// What there is to say of each area, whether it is well or not.
fn facts(status: &Value, now: Timestamp) -> Vec<(&'static str, String)> {
    let ago = |at: Option<&Value>| {
        at.and_then(Value::as_str).and_then(when::recorded).map(|at| format!("{} ago", age(now.millis_since(at))))
    };
    let mut out = Vec::new();
    let uptime = status.pointer("/health/uptime_seconds").and_then(Value::as_i64).unwrap_or(0);
    let components = rows(status, "/health/components").len();
    let nodes = match rows(status, "/health/nodes") {
        nodes if nodes.is_empty() => String::new(),
        nodes => {
            let late = nodes.iter().filter(|n| said(n, "/status") == "unavailable").count();
            let late = if late > 0 { format!(", {late} of them unavailable") } else { String::new() };
            format!(", {} node{}{late}", nodes.len(), if nodes.len() == 1 { "" } else { "s" })
        }
    };
    out.push((
        "server",
        format!(
            "intended {}, {} ({components} components{nodes}), up {}",
            said(status, "/health/version"),
            said(status, "/health/status"),
            age(uptime * 1000)
        ),
    ));
    let newest = ago(status.pointer("/ledger/newest_at")).map_or(String::new(), |a| format!(", the newest {a}"));
    let waiting = status.pointer("/ledger/checkpoint_waiting_seconds").and_then(Value::as_i64).unwrap_or(0);
    let kept = match waiting {
        0 => "all under a kept checkpoint".to_owned(),
        n => format!("a kept checkpoint is {} behind", age(n * 1000)),
    };
    if status.get("ledger").is_some_and(|ledger| !ledger.is_null()) {
        out.push(("ledger", format!("{} entries{newest}; {kept}", count(status, "/ledger/size"))));
    }
    if status.get("halts").is_some() {
        let halts = match count(status, "/halts/in_force") {
            0 => "none".to_owned(),
            n => format!("{n} IN FORCE"),
        };
        out.push(("halts", halts));
        let (total, open) = (count(status, "/breakers/total"), count(status, "/breakers/not_closed"));
        let breakers =
            if open == 0 { format!("{total}, all closed or off") } else { format!("{total}, {open} NOT CLOSED") };
        out.push(("breakers", breakers));
        let incidents = match count(status, "/incidents/open") {
            0 => "none open".to_owned(),
            n => format!("{n} OPEN"),
        };
        out.push(("incidents", incidents));
    }
    if let Some(approvals) = status.get("approvals") {
        let more = if approvals.get("more") == Some(&Value::Bool(true)) { "+" } else { "" };
        let text = match approvals.get("oldest") {
            None => "none open".to_owned(),
            Some(oldest) => format!(
                "{}{more} open, the oldest {} in {} asked {} (intended approval list)",
                count(approvals, "/open"),
                said(oldest, "/action"),
                said(oldest, "/environment"),
                ago(oldest.get("asked_at")).unwrap_or_default(),
            ),
        };
        out.push(("approvals", text));
    }
    if let Some(revoked) = status.get("revocations") {
        let within = revoked.get("within_seconds").and_then(Value::as_i64).unwrap_or(0);
        let (bulk, tokens) = (count(revoked, "/bulk"), count(revoked, "/tokens"));
        let last = ago(revoked.get("last_at")).map(|a| format!(", the last {a}: {}", said(revoked, "/last_reason")));
        let text = match (bulk, tokens) {
            (0, 0) => format!("nothing in {}", age(within * 1000)),
            _ => format!(
                "{bulk} in bulk in {}{}; {tokens} live tokens singly",
                age(within * 1000),
                last.unwrap_or_default()
            ),
        };
        out.push(("revoked", text));
    }
    let sinks = rows(status, "/siem");
    if !sinks.is_empty() {
        let one = |s: &&Value| match said(s, "/state").as_str() {
            "ok" => format!("{} ok", said(s, "/sink")),
            state => {
                format!("{} {} ({} entries, {})", said(s, "/sink"), state.to_uppercase(), count(s, "/lag_entries"), {
                    age(s.get("lag_seconds").and_then(Value::as_i64).unwrap_or(0) * 1000)
                })
            }
        };
        out.push(("siem", sinks.iter().map(one).collect::<Vec<_>>().join(", ")));
    }
    let hidden: Vec<String> = rows(status, "/not_shown")
        .iter()
        .map(|n| format!("{} (needs {})", said(n, "/what"), said(n, "/needs")))
        .collect();
    if !hidden.is_empty() {
        out.push(("not shown", hidden.join("; ")));
    }
    out
}

fn environments(status: &Value) -> Vec<Vec<String>> {
    let row = |e: &Value| {
        let policy = e.get("policy");
        let member = |name: &str| policy.map_or_else(|| "-".to_owned(), |p| said(p, name));
        let named = policy.map_or_else(|| "-".to_owned(), |p| format!("{} {}", said(p, "/pack"), said(p, "/version")));
        let digest: String = member("/digest").trim_start_matches("sha256:").chars().take(12).collect();
        let kid: String =
            e.pointer("/key/kid").and_then(Value::as_str).map_or("-".to_owned(), safe).chars().take(8).collect();
        let age = e.pointer("/key/age_days").and_then(Value::as_i64).map_or(String::new(), |d| format!(" {d} d"));
        vec![said(e, "/environment"), said(e, "/tier"), named, member("/policies"), digest, format!("{kid}{age}")]
    };
    rows(status, "/environments").into_iter().map(row).collect()
}

/// A length of time: the two largest units would be more than anybody needs at a glance.
fn age(millis: i64) -> String {
    match millis.max(0) / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

/// Lines no longer than `width`, broken between words; those after the first begin with `indent`.
fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut line = String::new();
    // What stands at the beginning, a label say, keeps its spaces.
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 && line.chars().count() + 1 + word.chars().count() > width && !line.trim().is_empty() {
            out.push(std::mem::replace(&mut line, indent.to_owned()));
            line.push_str(word);
            continue;
        }
        if at > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push(line);
    out
}

fn rows<'v>(value: &'v Value, pointer: &str) -> Vec<&'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten().collect()
}
fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}
/// A member as text; of a string that somebody else wrote, without anything that acts.
fn said(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => safe(text).replace('\n', " "),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(status: &Value, lost: Option<&Lost<'_>>) -> String {
        let lines = lines(status, 80, lost);
        assert!(lines.iter().all(|l| l.text.chars().count() <= 80), "{lines:#?}");
        lines.iter().map(|l| format!("{}{}", if l.loud { "*" } else { " " }, l.text)).collect::<Vec<_>>().join("\n")
    }

    fn well() -> Value {
        let environment = |name: &str| {
            json!({
                "environment": name, "tier": name,
                "policy": {"pack": "shop", "version": "1.4.0", "digest": "sha256:0123456789abcdef", "policies": 12, "index": 7},
                "key": {"kid": "Zk1c0yqAqB8wXzv9", "alg": "EdDSA", "age_days": 12, "rotate_by": "2027-02-10T12:00:00.000Z", "rotation": "fine"},
            })
        };
        json!({
            "tenant": "acme", "at": "2026-11-24T12:00:00.000Z", "control": 40,
            "health": {"status": "healthy", "version": "0.1.0", "uptime_seconds": 300_000, "components": [
                {"component": "gateway", "checks": [{"check": "workers", "status": "healthy"}]},
                {"component": "store", "checks": [{"check": "writable", "status": "healthy"}]},
            ]},
            "ledger": {"size": 123_456, "newest_at": "2026-11-24T11:59:58.000Z", "checkpoint_waiting_seconds": 0},
            "environments": [environment("production"), environment("staging"), environment("development")],
            "halts": {"in_force": 0, "newest": []},
            "breakers": {"total": 9, "not_closed": 0, "worst": []},
            "incidents": {"open": 0, "newest": []},
            "approvals": {"open": 0, "more": false},
            "revocations": {"within_seconds": 86_400, "bulk": 0, "tokens": 0},
            "siem": [{"sink": "soc", "state": "ok", "lag_entries": 0, "lag_seconds": 0}],
            "not_shown": [],
        })
    }

    #[test]
    fn all_well_fits_a_small_terminal() {
        let text = shown(&well(), None);
        assert!(text.lines().count() <= 24, "{text}");
        assert!(!text.contains('*'), "nothing is loud");
        insta::assert_snapshot!("all_well", text);
    }

    #[test]
    fn a_key_that_grows_old_is_said_once_with_the_command_that_rotates_it() {
        let mut status = well();
        status["environments"][0]["key"] = json!({
            "kid": "a", "alg": "EdDSA", "age_days": 97, "rotate_by": "2026-11-17T12:00:00.000Z", "rotation": "overdue",
        });
        status["environments"][1]["key"] = json!({
            "kid": "b", "alg": "EdDSA", "age_days": 80, "rotate_by": "2026-12-04T12:00:00.000Z", "rotation": "near",
        });
        // As health says it too, of every environment at once.
        let check =
            json!({"check": "key age", "status": "degraded", "detail": "acme/production: 97 days old", "do": "Rotate"});
        status["health"]["components"]
            .as_array_mut()
            .unwrap()
            .push(json!({"component": "token service", "checks": [check]}));
        insta::assert_snapshot!("old_keys", shown(&status, None));
        // Who is not told which one it is hears of it from health.
        status["environments"] = json!([]);
        assert!(shown(&status, None).contains("token service, key age"), "{}", shown(&status, None));
    }

    fn halted() -> Value {
        let mut status = well();
        status["halts"] = json!({"in_force": 7, "newest": [
            {"halt": "h-2", "scope": "environment:production", "environment": "production", "reason": "it\u{1b}[2J loops and nobody knows why it does that at this hour of the night", "by": "alice", "since": "2026-11-24T11:58:30.000Z"},
            {"halt": "h-1", "scope": "agent:support-agent", "environment": "staging", "reason": "drill", "by": "bob", "since": "2026-11-24T09:00:00.000Z"},
        ]});
        status["breakers"] = json!({"total": 9, "not_closed": 2, "worst": [
            {"breaker": "payments", "environment": "production", "state": "open", "held": [], "instances": [
                {"target": "stripe", "state": "open", "retry_at": 1_795_521_620_000_i64, "opened_by": {"metric": "error_rate", "value": 620, "threshold": 500, "calls": 40}},
            ]},
            {"breaker": "mail", "environment": "staging", "state": "held", "instances": [], "held": [{"by": "bob", "reason": "they change it"}]},
        ]});
        status["incidents"] = json!({"open": 1, "newest": [{"incident": "inc-1", "title": "refunds twice", "since": "2026-11-24T11:50:00.000Z"}]});
        status["approvals"] = json!({"open": 200, "more": true, "oldest": {"intent": "x", "environment": "production", "agent": "a", "action": "stripe.create_refund", "asked_at": "2026-11-24T11:20:00.000Z", "expires_at": "2026-11-24T12:20:00.000Z"}});
        status["revocations"] = json!({"within_seconds": 86_400, "bulk": 2, "last_at": "2026-11-24T11:59:00.000Z", "last_reason": "prompt injection", "tokens": 3});
        status["siem"] = json!([{"sink": "soc", "state": "failing", "lag_entries": 812, "lag_seconds": 95}]);
        status["health"]["status"] = json!("degraded");
        status["health"]["components"][1]["checks"][0] =
            json!({"check": "disk", "status": "degraded", "detail": "311 MiB free"});
        status
    }

    #[test]
    fn what_is_wrong_comes_first_and_says_the_next_command() {
        insta::assert_snapshot!("halted", shown(&halted(), None));
    }

    #[test]
    fn a_server_that_went_away_is_said_before_how_it_last_stood() {
        let lost = Lost {
            why: "http://127.0.0.1:7070: the server cannot be reached: connection refused",
            for_ms: 12_000,
            seen_ms: Some(14_000),
        };
        insta::assert_snapshot!("unavailable", shown(&well(), Some(&lost)));
        let never = Lost { seen_ms: None, ..lost };
        insta::assert_snapshot!("never_seen", shown(&json!({}), Some(&never)));
    }

    #[test]
    fn what_a_credential_may_not_see_is_not_said_to_be_well() {
        let mut status = well();
        let members = status.as_object_mut().unwrap();
        for hidden in ["halts", "breakers", "incidents", "approvals"] {
            members.remove(hidden);
        }
        members.insert("not_shown".to_owned(), json!([{"what": "halts, breakers, incidents", "needs": "emergency:read"}, {"what": "approvals", "needs": "approval:read"}]));
        for environment in members["environments"].as_array_mut().unwrap() {
            environment.as_object_mut().unwrap().remove("policy");
        }
        insta::assert_snapshot!("not_all_shown", shown(&status, None));
    }

    #[test]
    fn nothing_of_what_others_wrote_acts_on_the_terminal() {
        let mut status = halted();
        status["tenant"] = json!("a\u{9b}31m\nb");
        assert!(!shown(&status, None).chars().any(|c| c.is_control() && c != '\n'));
    }
}
