//! What a token says. Registered claims wherever one exists (RFC 7519 section 4.1, RFC 8693
//! section 4.1, RFC 9396 section 2).

use intended_model::{Class, Digest};
use serde::{Deserialize, Serialize};

/// Where the decision stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerPosition {
    pub index: u64,
    /// The tree's size when the decision became durable.
    pub size: u64,
    /// Its root, base64.
    pub root: String,
}

/// The one action that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub tool: String,
    pub operation: String,
    pub resource_type: String,
    pub resource_id: String,
    /// SHA-256 of the canonical arguments.
    pub arguments_digest: Digest,
}

/// A token's claims. Times are whole seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub iss: String,
    /// The agent.
    pub sub: String,
    /// The enforcement point.
    pub aud: String,
    pub iat: i64,
    pub nbf: i64,
    pub exp: i64,
    /// 256 random bits, base64url.
    pub jti: String,
    /// Tenant.
    pub tid: String,
    pub env: String,
    /// The intent's id.
    pub txn: String,
    /// Whom the agent acts for.
    pub act: Option<Actor>,
    /// What the intent is. Of a self-test it is said, so that nobody takes the token for another.
    pub class: Class,
    pub action: Action,
    pub intent_hash: Digest,
    /// Digest of the policy version.
    pub policy: String,
    pub ledger: LedgerPosition,
}

/// One link of a delegation chain (RFC 8693 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    pub sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail {
    #[serde(rename = "type")]
    kind: String,
    tool: String,
    operation: String,
    resource: Resource,
    arguments_digest: Digest,
}

/// The payload as it is written. Members that are not known are ignored (RFC 7519 section 4);
/// within the parts that bind, they are refused.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wire {
    iss: String,
    sub: String,
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    tid: String,
    env: String,
    txn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Actor>,
    #[serde(default, skip_serializing_if = "Class::is_traffic")]
    class: Class,
    authorization_details: Vec<Detail>,
    intent_hash: Digest,
    policy: String,
    ledger: LedgerPosition,
    once: bool,
}

const DETAIL: &str = "intended:action";

impl Claims {
    pub(crate) fn to_wire(&self) -> Wire {
        let c = self.clone();
        Wire {
            iss: c.iss,
            sub: c.sub,
            aud: c.aud,
            iat: c.iat,
            nbf: c.nbf,
            exp: c.exp,
            jti: c.jti,
            tid: c.tid,
            env: c.env,
            txn: c.txn,
            act: c.act,
            class: c.class,
            authorization_details: vec![Detail {
                kind: DETAIL.to_owned(),
                tool: c.action.tool,
                operation: c.action.operation,
                resource: Resource { id: c.action.resource_id, kind: c.action.resource_type },
                arguments_digest: c.action.arguments_digest,
            }],
            intent_hash: c.intent_hash,
            policy: c.policy,
            ledger: c.ledger,
            once: true,
        }
    }

    /// The claims of a payload; `None` unless it grants exactly one action, once.
    pub(crate) fn from_wire(w: Wire) -> Option<Self> {
        let mut details = w.authorization_details.into_iter();
        let (Some(d), None) = (details.next(), details.next()) else { return None };
        if d.kind != DETAIL || !w.once {
            return None;
        }
        Some(Self {
            iss: w.iss,
            sub: w.sub,
            aud: w.aud,
            iat: w.iat,
            nbf: w.nbf,
            exp: w.exp,
            jti: w.jti,
            tid: w.tid,
            env: w.env,
            txn: w.txn,
            act: w.act,
            class: w.class,
            action: Action {
                tool: d.tool,
                operation: d.operation,
                resource_type: d.resource.kind,
                resource_id: d.resource.id,
                arguments_digest: d.arguments_digest,
            },
            intent_hash: w.intent_hash,
            policy: w.policy,
            ledger: w.ledger,
        })
    }
}
