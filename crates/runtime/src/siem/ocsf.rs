//! An entry as an OCSF event: JSON on one line.
//!
//! Held to version 1.1.0 and to nothing of it that later 1.x releases changed. Decisions are API
//! Activity (6003), signing in and out is Authentication (3002), every other entry is Entity
//! Management (3004). What OCSF has no place for stands in `unmapped`.

use intended_model::decision::{DecisionRecord, GateOutcome, Outcome};
use intended_model::{Event, Timestamp};
use serde_json::{Map, Value, json};

use super::{Line, Position};
use intended_model::about::{About, Activity, Class, intent_class};

/// The schema version that events are held to.
pub const VERSION: &str = "1.1.0";
/// Longest entry whose content comes along; of a longer one its hash does.
pub const MAX_CONTENT: usize = 16 * 1024;

const fn class_of(class: Class) -> (u32, &'static str, u32, &'static str) {
    match class {
        Class::Api => (6003, "API Activity", 6, "Application Activity"),
        Class::Authentication => (3002, "Authentication", 3, "Identity & Access Management"),
        Class::Entity => (3004, "Entity Management", 3, "Identity & Access Management"),
    }
}

fn activity_of(class: Class, activity: Activity) -> (u32, String) {
    let capital = |text: &str| {
        let mut chars = text.chars();
        chars.next().map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + chars.as_str())
    };
    match activity {
        Activity::Create => (1, "Create".to_owned()),
        Activity::Read => (2, "Read".to_owned()),
        Activity::Update => (3, "Update".to_owned()),
        Activity::Delete => (4, "Delete".to_owned()),
        Activity::Other("logon") if class == Class::Authentication => (1, "Logon".to_owned()),
        Activity::Other("logoff") if class == Class::Authentication => (2, "Logoff".to_owned()),
        Activity::Other(name) => (99, capital(name)),
    }
}

fn frame(position: &Position<'_>, at: Timestamp, about: &About<'_>) -> Map<String, Value> {
    let (class_uid, class_name, category_uid, category_name) = class_of(about.class);
    let (activity_id, activity_name) = activity_of(about.class, about.activity);
    let mut metadata = json!({
        "version": VERSION,
        "product": {"name": "Intended", "vendor_name": "Intended", "version": env!("CARGO_PKG_VERSION")},
        "uid": position.uid(),
        "sequence": position.index,
        "tenant_uid": position.tenant,
        "event_code": position.kind,
        "log_name": "ledger",
        "log_provider": "intended",
    });
    if let (Some(intent), Some(members)) = (about.intent, metadata.as_object_mut()) {
        members.insert("correlation_uid".to_owned(), intent.to_string().into());
    }
    if let (true, Some(members)) = (position.test, metadata.as_object_mut()) {
        members.insert("labels".to_owned(), json!(["test"]));
    }
    let mut out = Map::new();
    for (name, value) in [
        ("activity_id", json!(activity_id)),
        ("activity_name", json!(activity_name)),
        ("category_uid", json!(category_uid)),
        ("category_name", json!(category_name)),
        ("class_uid", json!(class_uid)),
        ("class_name", json!(class_name)),
        ("type_uid", json!(class_uid * 100 + activity_id)),
        ("type_name", json!(format!("{class_name}: {activity_name}"))),
        ("time", json!(at.as_millis())),
        ("severity_id", json!(about.severity.ocsf())),
        ("severity", json!(about.severity.as_str())),
        ("message", json!(about.summary)),
        ("metadata", metadata),
    ] {
        out.insert(name.to_owned(), value);
    }
    out
}

/// Who did it: an agent with a credential, a person, or the runtime itself.
fn actor(about: &About<'_>, session: Option<&str>) -> Value {
    let mut actor = Map::new();
    match (about.agent.filter(|_| about.class == Class::Api), about.by) {
        (Some(agent), _) => {
            drop(actor.insert("user".to_owned(), json!({"uid": agent, "name": agent, "type_id": 99, "type": "Agent"})))
        }
        (None, Some(by)) => {
            let who = by.member().map_or_else(
                || json!({"uid": by.as_str(), "type_id": 99, "type": "Credential"}),
                |m| json!({"uid": m.as_str(), "type_id": 1, "type": "User"}),
            );
            actor.insert("user".to_owned(), who);
        }
        (None, None) => {
            drop(actor.insert("user".to_owned(), json!({"uid": "intended", "type_id": 3, "type": "System"})))
        }
    }
    if let Some(by) = about.by {
        actor.insert("app_uid".to_owned(), by.as_str().into());
    }
    if let Some(session) = session {
        actor.insert("session".to_owned(), json!({"uid": session}));
    }
    Value::Object(actor)
}

fn unmapped(position: &Position<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in [
        ("tenant", json!(position.tenant)),
        ("kind", json!(position.kind)),
        ("ledger_index", json!(position.index)),
        ("leaf_hash", json!(position.leaf_hash)),
    ] {
        out.insert(name.to_owned(), value);
    }
    if !position.environments.is_empty() {
        out.insert("environments".to_owned(), json!(position.environments));
    }
    if position.test {
        out.insert("test".to_owned(), json!(true));
    }
    out
}

fn decision(out: &mut Map<String, Value>, position: &Position<'_>, about: &About<'_>, record: &DecisionRecord) {
    let (input, decision) = (&record.input, &record.decision);
    let intent = &input.intent;
    let (status_id, status) = match decision.decision {
        Outcome::Allow | Outcome::Modify => (1, "Success"),
        Outcome::Deny => (2, "Failure"),
        Outcome::Escalate => (99, "Escalated"),
        Outcome::Defer => (99, "Deferred"),
    };
    let mut api = json!({
        "operation": intent.action.name,
        "request": {"uid": input.id.to_string()},
        "response": {"message": decision.reason.title()},
    });
    if let (Some(system), Some(api)) = (&input.classification.system, api.as_object_mut()) {
        api.insert("service".to_owned(), json!({"name": system}));
    }
    if let (Outcome::Deny, Some(response)) = (decision.decision, api.get_mut("response").and_then(Value::as_object_mut))
    {
        response.insert("error".to_owned(), decision.reason.as_str().into());
    }
    let objections: Vec<Value> = decision
        .gates
        .iter()
        .filter(|g| g.outcome != GateOutcome::Pass)
        .map(|g| json!({"gate": g.gate.as_str(), "code": g.code.as_str(), "detail": g.detail}))
        .collect();
    let mut more = unmapped(position);
    more.insert("intent_class".to_owned(), json!(input.class));
    for (name, value) in [
        ("decision", json!(decision.decision)),
        ("reason", json!(decision.reason)),
        ("risk", json!(decision.risk.as_ref().map(|r| r.score))),
        ("objections", json!(objections)),
        ("intent", json!(input.id.to_string())),
        ("intent_hash", json!(input.intent_hash.to_string())),
        ("category", json!(input.classification.category)),
        ("procedure", json!(input.procedure)),
        ("approvals", json!(input.approvals.iter().map(|a| a.approver.as_str()).collect::<Vec<_>>())),
    ] {
        if !value.is_null() {
            more.insert(name.to_owned(), value);
        }
    }
    if let Some(policy) = &decision.policy {
        let policy = json!({
            "pack": policy.pack, "version": policy.version, "digest": policy.digest.to_string(),
            "determining": policy.determining,
        });
        more.insert("policy".to_owned(), policy);
    }
    if let Some(until) = decision.obligations.expires_at {
        more.insert("open_until".to_owned(), until.as_millis().into());
    }
    for (name, value) in [
        ("status_id", json!(status_id)),
        ("status", json!(status)),
        ("status_code", json!(decision.reason.as_str())),
        ("status_detail", json!(decision.reason.title())),
        ("actor", actor(about, intent.session.as_deref())),
        ("api", api),
        ("resources", json!([{"uid": intent.resource.id, "name": intent.resource.id, "type": intent.resource.kind}])),
        ("src_endpoint", json!({"name": intent.subject.id, "svc_name": input.credential.as_str()})),
        ("dst_endpoint", json!({"svc_name": input.classification.system.as_deref().unwrap_or("unknown")})),
        ("unmapped", Value::Object(more)),
    ] {
        out.insert(name.to_owned(), value);
    }
}

/// The event of an entry, or of a test.
#[must_use]
pub fn line(position: &Position<'_>, about: &About<'_>, event: Option<&Event>, leaf: &[u8]) -> Line {
    let mut out = frame(position, position.at, about);
    if let Some(Event::Decision(record)) = event {
        decision(&mut out, position, about, record);
    } else {
        let mut more = unmapped(position);
        if let Some(class) = event.and_then(intent_class) {
            more.insert("intent_class".to_owned(), json!(class));
        }
        // Without the ledger's own frame around it, which stands above.
        let content = (leaf.len() <= MAX_CONTENT).then(|| serde_json::from_slice::<Value>(leaf).ok()).flatten();
        if let Some(body) = content.and_then(|mut v| v.get_mut("body").map(Value::take)) {
            more.insert("entry".to_owned(), body);
        }
        out.insert("status_id".to_owned(), json!(1));
        out.insert("status".to_owned(), json!("Success"));
        out.insert("actor".to_owned(), actor(about, None));
        if about.class == Class::Authentication {
            let user = about.member.map_or("unknown", |m| m.as_str());
            out.insert("user".to_owned(), json!({"uid": user, "name": user, "type_id": 1, "type": "User"}));
            out.insert("service".to_owned(), json!({"name": "intended"}));
        } else {
            out.insert("entity".to_owned(), json!({"name": about.id, "uid": about.id, "type": about.entity}));
            if let Some(reason) = about.reason {
                out.insert("comment".to_owned(), reason.into());
            }
        }
        out.insert("unmapped".to_owned(), Value::Object(more));
    }
    // Canonical enough to be compared: members by name, no line breaks.
    Line { text: Value::Object(out).to_string(), ..Line::of(position, about) }
}
