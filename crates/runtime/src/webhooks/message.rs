//! What is sent, and how it is signed (Standard Webhooks 1.0).

use intended_engine::State;
use intended_keyring::hmac_sha256;
use intended_model::entry::Event;
use intended_model::{EnvironmentId, Outcome, Timestamp};
use serde_json::{Map, Value, json};

/// Everything that can be subscribed to.
pub const EVENTS: [&str; 8] = [
    "approval.requested",
    "approval.granted",
    "approval.withdrawn",
    "approval.note",
    "approval.decided",
    "approval.closed",
    "intent.deferred",
    "webhook.test",
];

/// One event of the ledger, as it is sent.
pub struct Message {
    pub event: &'static str,
    pub environment: Option<EnvironmentId>,
    /// The `data` of the payload. It says what happened to what; arguments are for those who sign in.
    pub data: Value,
}

/// What an entry is to those who subscribe; most are nothing.
#[must_use]
pub fn message(index: u64, at: Timestamp, event: &Event, state: &State) -> Option<Message> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    let (event, environment) = match event {
        Event::Decision(record) => {
            let (input, decision) = (&record.input, &record.decision);
            let event = match decision.decision {
                Outcome::Escalate => "approval.requested",
                Outcome::Defer => "intent.deferred",
                _ if input.approvals.is_empty() => return None,
                _ => "approval.decided",
            };
            put("intent", json!(input.id.to_string()));
            put("agent", json!(input.intent.subject.id));
            put("action", json!(input.intent.action.name));
            let resource = &input.intent.resource;
            put("resource", json!({"type": resource.kind, "id": resource.id}));
            put("intent_hash", json!(input.intent_hash.to_string()));
            put("decision", json!(decision.decision));
            put("reason", json!(decision.reason));
            put("risk", json!(decision.risk.as_ref().map(|r| r.score)));
            if let Some(expires_at) = decision.obligations.expires_at {
                put("expires_at", json!(expires_at.to_string()));
                put("approvals", json!(decision.obligations.approvals));
                put("needs", json!(decision.obligations.needs));
            }
            (event, input.intent.environment.clone())
        }
        Event::ApprovalGranted(e) => {
            put("intent", json!(e.intent.to_string()));
            put("member", json!(e.approver.as_str()));
            ("approval.granted", e.environment.clone())
        }
        Event::ApprovalWithdrawn(e) => {
            put("intent", json!(e.intent.to_string()));
            put("member", json!(e.approver.as_str()));
            ("approval.withdrawn", e.environment.clone())
        }
        Event::ApprovalNote(e) => {
            put("intent", json!(e.intent.to_string()));
            put("answer", json!(e.answer));
            put("by", json!(state.person(&e.by).to_string()));
            ("approval.note", e.environment.clone())
        }
        Event::EscalationClosed(e) => {
            put("intent", json!(e.intent.to_string()));
            put("reason", json!(e.reason));
            ("approval.closed", e.environment.clone())
        }
        _ => return None,
    };
    put("tenant", json!(state.tenant.as_str()));
    put("environment", json!(environment.as_str()));
    put("index", json!(index));
    put("at", json!(at.to_string()));
    data.retain(|_, value| !value.is_null());
    Some(Message { event, environment: Some(environment), data: Value::Object(data) })
}

/// Whether an entry can be one that is sent, from its bytes: most entries are decisions that were
/// made at once, and need not be read.
#[must_use]
pub fn can_matter(leaf: &[u8]) -> bool {
    let has = |needle: &[u8]| leaf.windows(needle.len()).any(|w| w == needle);
    // As canonical JSON has it; what an agent puts into a string has its quotes escaped.
    has(br#""decision":"escalate""#)
        || has(br#""decision":"defer""#)
        || has(br#""input":{"approvals":["#)
        || has(br#""kind":"approval."#)
        || has(br#""kind":"escalation."#)
}

/// The headers that sign a body: id, timestamp and the signatures of each secret that is good now.
#[must_use]
pub fn signed(id: &str, at: Timestamp, body: &[u8], secrets: &[&[u8]]) -> [(&'static str, String); 3] {
    use base64::Engine as _;
    let seconds = at.as_secs();
    let mut text = format!("{id}.{seconds}.").into_bytes();
    text.extend_from_slice(body);
    let one =
        |secret: &&[u8]| format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(hmac_sha256(secret, &text)));
    let signatures: Vec<String> = secrets.iter().map(one).collect();
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_the_standard_says() {
        use base64::Engine as _;
        // The example of the specification's reference libraries.
        let secret = base64::engine::general_purpose::STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_millis(1_614_265_330_000);
        let headers = signed("msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#, &[&secret]);
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_sent_is_found_by_its_bytes_and_nothing_else() {
        for (leaf, matters) in [
            (&br#"{"body":{"decision":{"decision":"escalate"}},"kind":"decision"}"#[..], true),
            (br#"{"body":{"decision":{"decision":"allow"},"input":{"approvals":[{}]}}}"#, true),
            (br#"{"body":{"decision":{"decision":"allow"},"input":{"at":1}}}"#, false),
            (br#"{"kind":"approval.granted"}"#, true),
            (br#"{"body":{"goal":"\"decision\":\"escalate\""}}"#, false),
        ] {
            assert_eq!(can_matter(leaf), matters, "{}", String::from_utf8_lossy(leaf));
        }
    }
}
