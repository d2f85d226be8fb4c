//! What a token says. Registered claims wherever one exists (RFC 7519 section 4.1, RFC 8693
//! section 4.1, RFC 9396 section 2).

use std::borrow::Cow;

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
struct Resource<'c> {
    id: Cow<'c, str>,
    #[serde(rename = "type")]
    kind: Cow<'c, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Detail<'c> {
    #[serde(rename = "type")]
    kind: Cow<'c, str>,
    tool: Cow<'c, str>,
    operation: Cow<'c, str>,
    resource: Resource<'c>,
    arguments_digest: Digest,
}

/// The payload as it is written. Members that are not known are ignored (RFC 7519 section 4);
/// within the parts that bind, they are refused.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wire<'c> {
    iss: Cow<'c, str>,
    sub: Cow<'c, str>,
    aud: Cow<'c, str>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Cow<'c, str>,
    tid: Cow<'c, str>,
    env: Cow<'c, str>,
    txn: Cow<'c, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<Cow<'c, Actor>>,
    #[serde(default, skip_serializing_if = "Class::is_traffic")]
    class: Class,
    authorization_details: Vec<Detail<'c>>,
    intent_hash: Digest,
    policy: Cow<'c, str>,
    ledger: Cow<'c, LedgerPosition>,
    once: bool,
}

const DETAIL: &str = "intended:action";

impl Claims {
    pub(crate) fn to_wire(&self) -> Wire<'_> {
        let action = &self.action;
        Wire {
            iss: (&self.iss).into(),
            sub: (&self.sub).into(),
            aud: (&self.aud).into(),
            iat: self.iat,
            nbf: self.nbf,
            exp: self.exp,
            jti: (&self.jti).into(),
            tid: (&self.tid).into(),
            env: (&self.env).into(),
            txn: (&self.txn).into(),
            act: self.act.as_ref().map(Cow::Borrowed),
            class: self.class,
            authorization_details: vec![Detail {
                kind: DETAIL.into(),
                tool: (&action.tool).into(),
                operation: (&action.operation).into(),
                resource: Resource { id: (&action.resource_id).into(), kind: (&action.resource_type).into() },
                arguments_digest: action.arguments_digest,
            }],
            intent_hash: self.intent_hash,
            policy: (&self.policy).into(),
            ledger: Cow::Borrowed(&self.ledger),
            once: true,
        }
    }

    /// The claims of a payload; `None` unless it grants exactly one action, once.
    pub(crate) fn from_wire(w: Wire<'_>) -> Option<Self> {
        let mut details = w.authorization_details.into_iter();
        let (Some(d), None) = (details.next(), details.next()) else { return None };
        if d.kind != DETAIL || !w.once {
            return None;
        }
        Some(Self {
            iss: w.iss.into_owned(),
            sub: w.sub.into_owned(),
            aud: w.aud.into_owned(),
            iat: w.iat,
            nbf: w.nbf,
            exp: w.exp,
            jti: w.jti.into_owned(),
            tid: w.tid.into_owned(),
            env: w.env.into_owned(),
            txn: w.txn.into_owned(),
            act: w.act.map(Cow::into_owned),
            class: w.class,
            action: Action {
                tool: d.tool.into_owned(),
                operation: d.operation.into_owned(),
                resource_type: d.resource.kind.into_owned(),
                resource_id: d.resource.id.into_owned(),
                arguments_digest: d.arguments_digest,
            },
            intent_hash: w.intent_hash,
            policy: w.policy.into_owned(),
            ledger: w.ledger.into_owned(),
        })
    }
}
