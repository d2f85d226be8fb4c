//! An entry as a CEF:0 event (ArcSight Common Event Format), on one line.
//!
//! Header fields escape `\` and `|`; extension values escape `\`, `=` and line breaks. Other control
//! characters have no escape there and are replaced: nothing that an agent wrote ends a line or begins
//! another member.

use std::fmt::Write as _;

use intended_model::Event;

use super::{Line, Position};
use intended_model::about::{About, intent_class};

/// A header field. It holds no line break whatever happens.
#[must_use]
pub fn header(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' => out.extend(['\\', c]),
            '\n' | '\r' => out.push(' '),
            c if breaks(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The value of an extension member.
#[must_use]
pub fn extension(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '=' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if breaks(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// What some reader takes for the end of a line, or acts on.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// The event of an entry, or of a test.
#[must_use]
pub fn line(position: &Position<'_>, about: &About<'_>, event: Option<&Event>) -> Line {
    let decision = if let Some(Event::Decision(record)) = event { Some(record) } else { None };
    let class =
        decision.map_or_else(|| position.kind.to_owned(), |r| format!("{}/{}", position.kind, r.decision.reason));
    let name = match decision {
        Some(record) => record.decision.reason.title(),
        None => position.kind,
    };
    let mut text = format!(
        "CEF:0|Intended|Intended|{}|{}|{}|{}|",
        header(env!("CARGO_PKG_VERSION")),
        header(&class),
        header(name),
        about.severity.cef()
    );
    let mut first = true;
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(text, "{}{name}={}", if first { "" } else { " " }, extension(value));
            first = false;
        }
    };
    add("rt", &position.at.as_millis().to_string());
    add("externalId", &position.uid());
    add("cs1Label", "tenant");
    add("cs1", position.tenant);
    add("cn1Label", "ledgerIndex");
    add("cn1", &position.index.to_string());
    add("cs2Label", "leafHash");
    add("cs2", &position.leaf_hash);
    if !position.environments.is_empty() {
        add("cs3Label", "environment");
        add("cs3", &position.environments.join(","));
    }
    if let Some(intent) = about.intent {
        add("cs4Label", "intent");
        add("cs4", &intent.to_string());
    }
    if let Some(by) = about.by {
        add("suid", by.as_str());
    }
    if let Some(member) = about.member {
        add("duser", member.as_str());
    }
    // No call of anybody's: what counts calls leaves it out.
    if let Some(class) = event.and_then(intent_class).filter(|c| c.is_synthetic()) {
        add("flexString1Label", "intentClass");
        add("flexString1", class.as_str());
    }
    match decision {
        Some(record) => {
            let intent = &record.input.intent;
            add("suser", &intent.subject.id);
            add("act", &intent.action.name);
            add("outcome", record.decision.decision.as_str());
            add("reason", record.decision.reason.as_str());
            add("destinationServiceName", record.input.classification.system.as_deref().unwrap_or_default());
            add("filePath", &format!("{}/{}", intent.resource.kind, intent.resource.id));
            if let Some(risk) = &record.decision.risk {
                add("cn2Label", "risk");
                add("cn2", &risk.score.to_string());
            }
            if let Some(policy) = &record.decision.policy {
                add("cs5Label", "policy");
                add("cs5", &policy.digest.to_string());
            }
            if let Some(session) = &intent.session {
                add("cs6Label", "session");
                add("cs6", session);
            }
        }
        None => {
            add("suser", about.agent.unwrap_or_default());
            add("act", position.kind);
            add("outcome", if position.test { "test" } else { "recorded" });
            add("cs5Label", about.entity);
            add("cs5", &about.id);
            add("reason", about.reason.unwrap_or_default());
        }
    }
    add("msg", &about.summary);
    Line { text, ..Line::of(position, about) }
}
