//! One decision before it is committed: what it read, what came of it, what it changes.

use std::collections::BTreeMap;

use intended_engine::effects::token_ttl_secs;
use intended_engine::{Effect, KeptSession, State, decide, effects, keys, needs};
use intended_model::decision::{ApprovalRef, DecisionRecord, Grant, Input, PROCEDURE, SessionContext};
use intended_model::entry::BODY_VERSION;
use intended_model::json::{MAX_RECORDED_DEPTH, compact, nests};
use intended_model::{Class, Code, CredentialId, Digest, Intent, IntentId, Kind, Timestamp, synthetic};
use intended_store::{Commit, NewEntry, Write};

use crate::{Runtime, RuntimeError, Tenant};

/// What is decided, and for whom.
pub(crate) struct Asked<'a> {
    pub id: IntentId,
    pub intent: Intent,
    pub intent_hash: Digest,
    pub credential: &'a CredentialId,
    pub audience: Option<Box<str>>,
    pub approvals: Vec<ApprovalRef>,
    /// Of what is decided again: until when it waits.
    pub expires_at: Option<Timestamp>,
}

/// A decision that is not made until it commits.
pub(crate) struct Draft {
    pub record: DecisionRecord,
    pub reads: Vec<(Box<str>, u64)>,
    pub writes: Vec<Write>,
}

impl Runtime {
    /// Decides on a state, with the facts as they are now.
    pub(crate) fn draft(
        &self,
        tenant: &Tenant,
        state: &State,
        at: Timestamp,
        asked: Asked<'_>,
        jti: &str,
    ) -> Result<Draft, RuntimeError> {
        let wanted = needs(state, PROCEDURE, &asked.intent, at);
        let mut reads: Vec<(Box<str>, u64)> = Vec::with_capacity(3);
        let session = match &wanted.session {
            None => None,
            Some(key) => Some(match self.store().fact_now(&tenant.id, key)? {
                None => {
                    reads.push((key.as_str().into(), 0));
                    SessionContext::default()
                }
                Some(fact) => {
                    reads.push((key.as_str().into(), fact.version));
                    let kept: KeptSession = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
                    if at < kept.expires_at { kept.context } else { SessionContext::default() }
                }
            }),
        };
        let mut counters = BTreeMap::new();
        for budget in wanted.counters() {
            let seen = self.store().counter_now(&tenant.id, &budget.key)?;
            counters.insert(budget.key.as_str().into(), seen);
        }
        let class = Class::of(PROCEDURE, &asked.intent.action.name);
        let input = Input {
            approvals: asked.approvals,
            at,
            audience: asked.audience,
            catalogue: state.catalogue.digest(),
            class,
            classification: state.classify(PROCEDURE, &asked.intent.action.name),
            control: state.control,
            counters,
            credential: asked.credential.clone(),
            expires_at: asked.expires_at,
            id: asked.id,
            intent: asked.intent,
            intent_hash: asked.intent_hash,
            procedure: PROCEDURE,
            session,
        };
        let decision = decide(state, &input);
        let grant = if decision.decision.permits() {
            let environment = state.environments.get(&input.intent.environment).ok_or(Code::EnvironmentUnknown)?;
            let iat = at.as_secs();
            Some(Grant {
                // Of the self-test it is for nobody who acts.
                aud: match class {
                    Class::Synthetic => synthetic::NAME.into(),
                    Class::Traffic => input.audience.clone().unwrap_or_else(|| environment.settings.audience.clone()),
                },
                exp: iat + i64::from(token_ttl_secs(&environment.settings, &input)),
                iat,
                jti: jti.into(),
                kid: tenant.signer(&input.intent.environment)?.kid().into(),
            })
        } else {
            None
        };
        let record = DecisionRecord { decision, grant, input, v: BODY_VERSION };
        let mut writes = effects(state, &record).into_iter().map(write_of).collect::<Result<Vec<_>, _>>()?;
        if record.grant.is_some() {
            let probed = record.input.counters.keys().filter(|key| key.starts_with(keys::PROBE_PREFIX));
            writes.extend(probed.map(|key| Write::Put {
                key: keys::probe(key, &record.input.id).into(),
                value: Vec::new(),
                // Until what follows from it is recorded.
                expires_at: None,
            }));
        }
        Ok(Draft { record, reads, writes })
    }
}

/// What a decision's entry usually comes to, with room to spare, but less than twice as much: so little
/// is given back without copying the rest.
const ROOM: usize = 4 << 10;

/// The commit of a decision, fenced by the state it was made on and by what it read.
pub(crate) fn commit_of(
    tenant: &Tenant,
    record: &DecisionRecord,
    reads: Vec<(Box<str>, u64)>,
    writes: Vec<Write>,
) -> Result<Commit, RuntimeError> {
    let body = compact::to_string(record, ROOM).map_err(RuntimeError::internal)?;
    // One level is the leaf's. What could not be read back is not recorded.
    if nests(&body, MAX_RECORDED_DEPTH) {
        return Err(Code::JsonTooDeep.into());
    }
    Ok(Commit {
        tenant: tenant.id.clone(),
        now: record.input.at,
        control_version: Some(record.input.control),
        reads,
        writes,
        entries: vec![NewEntry {
            kind: Kind::Decision.as_str().into(),
            control: false,
            subject: Some(*record.input.id.as_bytes()),
            body: body.into(),
        }],
    })
}

fn write_of(effect: Effect) -> Result<Write, RuntimeError> {
    Ok(match effect {
        Effect::Session { key, context, expires_at } => Write::Put {
            key: key.into(),
            value: serde_json::to_vec(&KeptSession { context, expires_at }).map_err(RuntimeError::internal)?,
            expires_at: Some(expires_at),
        },
        Effect::Count { key, n, max, expires_at } => {
            Write::Add { key: key.into(), n, max, expires_at: Some(expires_at) }
        }
        Effect::Close { key } => Write::Delete { key: key.into() },
        Effect::Open { key, expires_at } => Write::Put {
            key: key.into(),
            value: expires_at.as_millis().to_string().into_bytes(),
            // Removed when it is closed, never by age.
            expires_at: None,
        },
    })
}
