//! `approval list|show|approve|deny|withdraw|ask`. Made to be read in a hurry: what, who, how risky, why,
//! how long; and nothing of what an agent wrote can pose as something else.

use intended_model::{ExitCode, Timestamp};
use serde_json::{Value, json};

use super::{Outcome, encode};
use crate::args::{Approval, Format, Say};
use crate::client::Client;
use crate::config::Global;
use crate::confirm;
use crate::output::{list, note, one, say, width};
use crate::when;

/// Most bytes of arguments that are shown without --full.
const MAX_SHOWN: usize = 800;
/// Characters of the column with the labels.
const LABEL: usize = 11;

pub async fn run(global: &Global, args: Approval) -> Outcome {
    let client = Client::new(global)?;
    match args {
        Approval::List { mine, agent, limit, cursor } => {
            let filters = [
                ("mine", mine.then(|| "true".to_owned())),
                ("agent", agent),
                ("environment", global.environment.clone()),
            ];
            let found = client.list("approvals", &filters, "approvals", limit, cursor).await?;
            if global.output == Format::Table {
                rows(&found.rows);
            } else {
                list(global.output, &found.rows, &[]);
            }
            if let Some(cursor) = &found.cursor {
                note(&format!(
                    "the oldest {}; there are more: --cursor {cursor}, or a higher --limit",
                    found.rows.len()
                ));
            }
            Ok(ExitCode::Ok)
        }
        Approval::Show { id, full } => {
            let body = client.get(&format!("approvals/{}", encode(&id))).await?;
            shown(global, &body, full);
            Ok(exit_of(&body))
        }
        Approval::Approve(say) => decide(global, &client, &say, "approve").await,
        Approval::Deny(say) => decide(global, &client, &say, "deny").await,
        Approval::Withdraw(say) => decide(global, &client, &say, "withdraw").await,
        Approval::Ask { id, question } => {
            let path = format!("approvals/{}/ask", encode(&id));
            let body = client.change(&path, &json!({"text": question})).await?.body;
            shown(global, &body, false);
            Ok(ExitCode::Ok)
        }
    }
}

/// Of what was read before, or of what is shown now: the tag says which.
async fn decide(global: &Global, client: &Client, say: &Say, verb: &str) -> Outcome {
    let path = format!("approvals/{}", encode(&say.id));
    let etag = match &say.etag {
        Some(etag) => format!("\"{}\"", etag.trim_matches('"')),
        None => {
            let body = client.get(&path).await?;
            if body.get("state").and_then(Value::as_str) == Some("open") && !client.says_only() {
                for line in lines(&body, say.full, width()) {
                    note(&line);
                }
                note("");
                confirm::yes(global, &format!("{verb} this?"))?;
            }
            raw(&body, "/etag").to_owned()
        }
    };
    let body = json!({"reason": say.reason});
    let answer = client.change_at("POST", &format!("{path}/{verb}"), &etag, Some(&body)).await?;
    if global.output == Format::Table {
        crate::output::say(&state_line(&answer));
    } else {
        one(global.output, &answer);
    }
    Ok(if verb == "deny" { ExitCode::Ok } else { exit_of(&answer) })
}

fn exit_of(body: &Value) -> ExitCode {
    match raw(body, "/state") {
        "allowed" => ExitCode::Ok,
        "open" => ExitCode::Pending,
        _ => ExitCode::Deny,
    }
}

fn shown(global: &Global, body: &Value, full: bool) {
    if global.output == Format::Table {
        lines(body, full, width()).iter().for_each(|line| say(line));
    } else {
        one(global.output, body);
    }
}

fn raw<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => plain(text),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn items<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    items(value, pointer).iter().filter_map(Value::as_str).map(plain).collect()
}

/// Text from outside on one line, with whatever a terminal or an eye would take for something else written
/// out: control characters, line ends, what turns the direction of writing, what cannot be seen.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || is_hidden(c) => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Characters that show nothing, or change how others are shown.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' | '\u{a0}'
        | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{2800}')
}

/// The characters that are not ASCII, by what they are: one that looks like a letter need not be it.
fn foreign(text: &str) -> Option<String> {
    let mut seen: Vec<char> = text.chars().filter(|c| !c.is_ascii()).collect();
    seen.sort_unstable();
    seen.dedup();
    let more = seen.len().saturating_sub(8);
    let named: Vec<String> =
        seen.iter().take(8).map(|c| format!("{} U+{:04X}", plain(&c.to_string()), u32::from(*c))).collect();
    let more = if more > 0 { format!(" and {more} others") } else { String::new() };
    (!named.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

/// How long until a time, for people.
fn left(until: &str) -> String {
    let Some(until) = when::recorded(until) else { return "?".to_owned() };
    let secs = until.millis_since(when::now()) / 1000;
    match secs {
        ..=0 => "over".to_owned(),
        1..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

fn ago(then: &str) -> String {
    when::recorded(then).map_or_else(|| "?".to_owned(), |then: Timestamp| when::ago(then, when::now()))
}

fn rows(rows: &[Value]) {
    if rows.is_empty() {
        return note("nothing waits");
    }
    for row in rows {
        let may = if row.pointer("/you/approve") == Some(&Value::Bool(true)) { "  you may approve" } else { "" };
        let (risk, left) = (text(row, "/risk"), left(raw(row, "/expires_at")));
        say(&format!("{}  risk {risk}  {left} left{may}", text(row, "/id")));
        say(&format!("  {} on {}", text(row, "/action"), text(row, "/resource")));
        say(&format!(
            "  by {} in {}, asked {}",
            text(row, "/agent"),
            text(row, "/environment"),
            ago(raw(row, "/requested_at"))
        ));
        say(&format!("  {}", items(row, "/requirements").iter().map(asks).collect::<Vec<_>>().join("; ")));
    }
}

/// A requirement and how far it is: `2 of leads (1 given: ana)`.
fn asks(requirement: &Value) -> String {
    let by: Vec<String> = items(requirement, "/steps").iter().flat_map(|s| texts(s, "/by")).collect();
    let written = text(requirement, "/requirement");
    match (requirement.get("met") == Some(&Value::Bool(true)), by.is_empty()) {
        (true, _) => format!("{written} (met: {})", by.join(", ")),
        (false, true) => format!("{written} (nobody yet)"),
        (false, false) => format!("{written} (given by {})", by.join(", ")),
    }
}

fn state_line(body: &Value) -> String {
    let closed = match (raw(body, "/closed/by"), raw(body, "/closed/reason")) {
        ("", _) => String::new(),
        (by, reason) => format!(" by {}: {}", plain(by), plain(reason)),
    };
    match raw(body, "/state") {
        "open" => {
            let asks: Vec<String> = items(body, "/requirements").iter().map(asks).collect();
            format!("WAITS  {}; {} left", asks.join("; "), left(raw(body, "/expires_at")))
        }
        "allowed" => "ALLOWED  its token waits for who asked".to_owned(),
        "timed_out" => "DENIED  nobody approved it in time".to_owned(),
        other => format!("{}{closed}", plain(other).to_uppercase()),
    }
}

/// Label and text, wrapped to the width with the text in one column.
fn field(out: &mut Vec<String>, label: &str, text: &str, width: usize) {
    let room = width.saturating_sub(LABEL).max(20);
    let mut line = String::new();
    let mut first = true;
    let mut put = |line: &mut String, first: &mut bool| {
        let label = if *first { label } else { "" };
        out.push(format!("{label:<LABEL$}{}", line.trim_end()).trim_end().to_owned());
        line.clear();
        *first = false;
    };
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let used = line.chars().count();
            if used + word.len() <= room {
                line.extend(word.drain(..));
                line.push(' ');
                break;
            }
            if used > 0 && word.len() <= room {
                put(&mut line, &mut first);
                continue;
            }
            // A word that is longer than a line is broken where the line ends.
            let fits = room.saturating_sub(used).max(1).min(word.len());
            line.extend(word.drain(..fits));
            put(&mut line, &mut first);
        }
    }
    if !line.trim().is_empty() || first {
        put(&mut line, &mut first);
    }
}

/// A request as a person reads it.
pub fn lines(body: &Value, full: bool, width: usize) -> Vec<String> {
    let mut out = Vec::new();
    // The first line begins at the edge.
    field(&mut out, "", &state_line(body), width + LABEL);
    out.iter_mut().for_each(|line| *line = line.trim_start().to_owned());
    let heading = format!("{} on {}", text(body, "/action"), text(body, "/resource"));
    field(&mut out, "what", &heading, width);
    let on_behalf = texts(body, "/on_behalf_of");
    let on_behalf = if on_behalf.is_empty() { String::new() } else { format!(", for {}", on_behalf.join(", for ")) };
    let owner = match raw(body, "/agent_owner") {
        "" => String::new(),
        owner => format!(" (owned by {})", plain(owner)),
    };
    let who = format!("{}{owner}{on_behalf}, in {}", text(body, "/agent"), text(body, "/environment"));
    field(&mut out, "who", &who, width);
    let mut factors: Vec<(i64, String)> = items(body, "/risk/factors")
        .iter()
        .map(|f| {
            let number = |n: &str| f.get(n).and_then(Value::as_i64).unwrap_or(0);
            (number("value") * number("weight"), format!("{} {}", text(f, "/name").replace('_', " "), number("value")))
        })
        .collect();
    factors.sort_by_key(|f| std::cmp::Reverse(f.0));
    let most: Vec<String> = factors.into_iter().take(4).map(|(_, f)| f).collect();
    field(&mut out, "risk", &format!("{} of 100: {}", text(body, "/risk/score"), most.join(", ")), width);
    let objections: Vec<String> = items(body, "/gates")
        .iter()
        .filter(|g| raw(g, "/outcome") != "pass")
        .map(|g| format!("{} {}", text(g, "/code"), text(g, "/detail").trim_matches('-')).trim().to_owned())
        .collect();
    let policy = format!("{} {}", text(body, "/policy/pack"), text(body, "/policy/version"));
    field(&mut out, "why", &format!("{}; policy {policy}", objections.join("; ")), width);
    if body.get("policy_changed") == Some(&Value::Bool(true)) {
        field(&mut out, "", "POLICY HAS CHANGED since it was asked for: it is decided by the new one", width);
    }
    let goal = raw(body, "/goal");
    if !goal.is_empty() {
        field(&mut out, "goal", &format!("\"{}\" (in the agent's words)", plain(goal)), width);
    }
    let long = format!(
        "asked {} by {}; denied by itself in {}",
        ago(raw(body, "/requested_at")),
        text(body, "/requested_by"),
        left(raw(body, "/expires_at"))
    );
    if raw(body, "/state") == "open" {
        field(&mut out, "how long", &long, width);
    }
    if let Some(session) = body.get("session").filter(|s| s.is_object()) {
        let class = match session.get("data_class").and_then(Value::as_i64) {
            Some(0) => "public",
            Some(1) => "internal",
            Some(2) => "confidential",
            Some(3) => "restricted",
            _ => "unknown",
        };
        let tools = texts(session, "/tools");
        let tools = if tools.is_empty() { String::new() } else { format!("; did {}", tools.join(", ")) };
        let so_far = format!(
            "{} actions before, {} allowed, {} denied; data up to {class}{tools}",
            text(session, "/intents"),
            text(session, "/allowed"),
            text(session, "/denied")
        );
        field(&mut out, "session", &so_far, width);
    }
    arguments(&mut out, body, full, width);
    for requirement in items(body, "/requirements") {
        field(&mut out, "asks", &asks(requirement), width);
    }
    for given in items(body, "/approvals") {
        let counts = if given.get("counts") == Some(&Value::Bool(true)) { "" } else { " (does not count now)" };
        field(
            &mut out,
            "approved",
            &format!("by {}{counts}: {}", text(given, "/member"), text(given, "/reason")),
            width,
        );
    }
    for note in items(body, "/notes") {
        let label = if note.get("answer") == Some(&Value::Bool(true)) { "answer" } else { "question" };
        field(&mut out, label, &format!("{}: {}", text(note, "/by"), text(note, "/text")), width);
    }
    if raw(body, "/state") == "open" {
        let eligible = texts(body, "/eligible");
        let who = if eligible.is_empty() { "nobody".to_owned() } else { eligible.join(", ") };
        field(&mut out, "who can", &who, width);
        let rate = match (text(body, "/rate/given_this_hour"), text(body, "/rate/most_per_hour")) {
            (given, most) if most != "0" => format!("; you have approved {given} of {most} this hour"),
            (given, _) => format!("; you have approved {given} this hour"),
        };
        let you = match raw(body, "/you/why") {
            "" => "may approve it".to_owned(),
            why => format!("may not: {}", plain(why)),
        };
        field(&mut out, "you", &format!("{you}{rate}"), width);
    }
    for earlier in items(body, "/similar") {
        let by = texts(earlier, "/approvers").join(", ");
        field(&mut out, "before", &format!("{} {} ({by})", ago(raw(earlier, "/at")), text(earlier, "/state")), width);
    }
    field(&mut out, "intent", &format!("{} {}", text(body, "/id"), text(body, "/intent_hash")), width);
    out
}

/// The arguments exactly as they are hashed, with what cannot be seen written out.
fn arguments(out: &mut Vec<String>, body: &Value, full: bool, width: usize) {
    let whole = raw(body, "/arguments");
    let (mut cut, mut rest) = (whole, 0);
    if !full && whole.len() > MAX_SHOWN {
        let at = (0..=MAX_SHOWN).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = whole.split_at_checked(at).unwrap_or((whole, ""));
        (cut, rest) = (head, tail.len());
    }
    field(out, "arguments", &plain(cut), width);
    if rest > 0 {
        field(out, "", &format!("… {rest} BYTES MORE ARE NOT SHOWN: --full shows all {}", whole.len()), width);
    }
    if let Some(foreign) = foreign(&format!("{whole}{}", raw(body, "/goal"))) {
        field(out, "not ASCII", &foreign, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_poses_as_something_else_is_written_out() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\u{200b}\n"), "a\\u{1b}[2Jb\\u{202e}c\\u{200b}\\n");
        for c in ['\u{202a}', '\u{2066}', '\u{200f}', '\u{feff}', '\u{e0041}', '\u{3164}', '\u{9b}', '\u{2028}'] {
            assert!(plain(&c.to_string()).starts_with("\\u{"), "{:x}", u32::from(c));
        }
        assert_eq!(foreign("p\u{430}ypal").as_deref(), Some("\u{430} U+0430"));
        assert_eq!(foreign("paypal"), None);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_is_lost() {
        let long = format!("{} {}", "word ".repeat(40), "x".repeat(300));
        for width in [40, 80, 120] {
            let mut out = Vec::new();
            field(&mut out, "arguments", &long, width);
            assert!(out.iter().all(|l| l.chars().count() <= width), "{out:?}");
            let all: String = out.iter().map(|l| l.chars().skip(11).collect::<String>()).collect();
            let letters = |t: &str| t.chars().filter(|c| *c != ' ').collect::<String>();
            assert_eq!(letters(&all), letters(&long));
        }
    }

    #[test]
    fn long_arguments_say_how_much_is_not_shown() {
        let body = json!({"arguments": format!("{{\"a\":\"{}\"}}", "x".repeat(5_000))});
        let text = |full| {
            let mut out = Vec::new();
            arguments(&mut out, &body, full, 80);
            out.join("\n")
        };
        assert!(text(false).contains("4208 BYTES MORE ARE NOT SHOWN: --full shows all 5008"), "{}", text(false));
        assert!(!text(true).contains("NOT SHOWN"));
    }
}
