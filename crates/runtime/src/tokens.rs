//! Online verification. It does everything that offline verification does, and then what only shared
//! state can: halts and revocation as of now, and consumption, at most once (I4), fenced in the store.

use intended_engine::{Dead, KeyStatus, State, keys};
use intended_ledger::NodeHash;
use intended_model::decision::DecisionRecord;
use intended_model::entry::{BODY_VERSION, Scope, TokenConsumed, TokenRevoked};
use intended_model::{Class, Code, EnvironmentId, Event, Timestamp};
use intended_store::{Commit, Conflict, StoreError, TreeHead, Write};
use intended_token::{Binding, Claims, Expectations, JwkSet, KeySet, Refusal, Verifier};

use crate::admin::entry_of;
use crate::submit::{DEADLINE_MS, MAX_ATTEMPTS, claims_of};
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How long after its expiry the consumption of a token is remembered as a fact; the ledger
/// remembers it for ever. Longer than any clock skew that verification tolerates.
const CONSUMED_MARGIN_MS: i64 = 3_600_000;

/// What online verification says.
#[derive(Debug, Clone)]
pub struct Verified {
    pub claims: Claims,
    /// The ledger index of the consumption, when it was asked for.
    pub consumed_at: Option<u64>,
}

/// A token that was looked at and refused, or that could not be looked at.
#[derive(Debug, Clone)]
pub enum Verification {
    Accepted(Box<Verified>),
    Refused(Refusal),
}

/// What a token is asked about.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// What the intent was. Whoever acts on the answer asks for traffic.
    pub class: Class,
    pub audience: &'a str,
    pub environment: &'a EnvironmentId,
    pub binding: &'a Binding,
    pub consume: bool,
}

impl Runtime {
    /// The public keys an environment's tokens can be verified with: active and previous.
    pub fn key_set(state: &State, environment: Option<&EnvironmentId>) -> Result<JwkSet, RuntimeError> {
        let mut set = JwkSet::default();
        let wanted = state.environments.values().filter(|e| environment.is_none_or(|w| *w == e.id));
        for key in wanted.flat_map(|e| &e.keys).filter(|k| k.status != KeyStatus::Retired) {
            let jwk = intended_model::json::from_value(&key.jwk).map_err(RuntimeError::internal)?;
            set.keys.push(jwk);
        }
        Ok(set)
    }

    /// Verifies a token for the call that is about to be made, and consumes it if asked to. A self-test's
    /// is refused.
    pub async fn verify_token(
        &self,
        principal: &Principal,
        token: &str,
        audience: &str,
        environment: &EnvironmentId,
        binding: &Binding,
        consume: bool,
    ) -> Result<Verification, RuntimeError> {
        let asked = Asked { class: Class::Traffic, audience, environment, binding, consume };
        self.verify_as(principal, token, &asked).await
    }

    /// The same for a token of the class that is asked for.
    pub async fn verify_as(
        &self,
        principal: &Principal,
        token: &str,
        asked: &Asked<'_>,
    ) -> Result<Verification, RuntimeError> {
        let scope = match asked.class {
            Class::Traffic => Scope::TokenVerify,
            Class::Synthetic => Scope::TokenTest,
        };
        principal.require(scope, Some(asked.environment))?;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(verification) = self.verify_once(principal, token, asked).await? {
                // What a self-test comes to is no figure of those that really use tokens.
                if asked.class.is_traffic() {
                    match &verification {
                        Verification::Accepted(_) => self.metrics().accepted(),
                        Verification::Refused(refusal) => self.metrics().refused(*refusal),
                    }
                }
                return Ok(verification);
            }
            self.follow(&principal.tenant).await?;
        }
        Err(Code::ConflictExhausted.into())
    }

    /// `None` when the tenant's state changed in between.
    async fn verify_once(
        &self,
        principal: &Principal,
        token: &str,
        asked: &Asked<'_>,
    ) -> Result<Option<Verification>, RuntimeError> {
        let Asked { class, audience, environment, binding, consume } = *asked;
        let refused = |refusal| Ok(Some(Verification::Refused(refusal)));
        let tenant = &principal.tenant;
        let state = tenant.state();
        self.check_current(principal, &state)?;
        let entry = state.environments.get(environment).ok_or(Code::EnvironmentUnknown)?;
        if class.is_traffic() {
            tenant.activity.acted(&principal.credential, environment, self.now());
        }
        let mut keys_of =
            KeySet::from_jwks(&Self::key_set(&state, Some(environment))?).map_err(RuntimeError::internal)?;
        for retired in entry.keys.iter().filter(|k| k.status == KeyStatus::Retired) {
            keys_of.retire(&retired.kid);
        }
        let now = self.now();
        let verifier = Verifier {
            keys: &keys_of,
            expect: Expectations {
                issuer: self.issuer().to_owned(),
                audience: audience.to_owned(),
                tenant: tenant.id.to_string(),
                environment: environment.to_string(),
            },
            revocations: None,
        };
        let accepted = match verifier.verify_class(class, token, binding, now) {
            Ok(accepted) => accepted,
            Err(refusal) => return refused(refusal),
        };
        let claims = accepted.claims;
        if state.suspended.is_some() || entry.suspended.is_some() {
            return refused(Refusal::Suspended);
        }
        let Some(record) = self.granted(tenant, &state, environment, &claims).await? else {
            return refused(Refusal::NotGranted);
        };
        match state.dead_token(&record, claims.ledger.index) {
            Some(Dead::Halted(_)) => return refused(Refusal::Halted),
            Some(Dead::Revoked) => return refused(Refusal::Revoked),
            None => {}
        }
        if self.store().fact_now(&tenant.id, &keys::revoked(&claims.jti))?.is_some() {
            return refused(Refusal::Revoked);
        }
        if !consume {
            if self.store().fact_now(&tenant.id, &keys::consumed(&claims.jti))?.is_some() {
                return refused(Refusal::Consumed);
            }
            return Ok(Some(Verification::Accepted(Box::new(Verified { claims, consumed_at: None }))));
        }
        let intent = claims.txn.parse().map_err(RuntimeError::internal)?;
        let event = Event::TokenConsumed(TokenConsumed {
            by: principal.credential.clone(),
            class,
            environment: environment.clone(),
            intent,
            jti: claims.jti.as_str().into(),
            v: BODY_VERSION,
        });
        let key = keys::consumed(&claims.jti);
        let commit = Commit {
            tenant: tenant.id.clone(),
            now,
            // A halt or a retired key in between makes it look again.
            control_version: Some(state.control),
            reads: vec![(key.as_str().into(), 0), (keys::revoked(&claims.jti).into(), 0)],
            writes: vec![Write::Put {
                key: key.as_str().into(),
                value: b"1".to_vec(),
                expires_at: Some(Timestamp::from_millis(claims.exp * 1000).plus_millis(CONSUMED_MARGIN_MS)),
            }],
            entries: vec![entry_of(&event)?],
        };
        match self.append(commit).await {
            Ok(committed) => {
                self.saw(committed.recorded_at);
                // The disk stood still, say: the token is used up, but what was right then need not be
                // right now.
                let after = self.now();
                if after.as_secs() >= claims.exp {
                    return refused(Refusal::Expired);
                }
                if after.millis_since(now) > DEADLINE_MS {
                    return Err(Code::DecisionLate.into());
                }
                let consumed_at = Some(committed.first_index);
                Ok(Some(Verification::Accepted(Box::new(Verified { claims, consumed_at }))))
            }
            Err(StoreError::Conflict(Conflict::Fact { key: lost })) => {
                let refusal = if *lost == *key { Refusal::Consumed } else { Refusal::Revoked };
                refused(refusal)
            }
            Err(StoreError::Conflict(Conflict::Late { head })) => {
                self.saw(head);
                Ok(None)
            }
            Err(StoreError::Conflict(Conflict::Control { .. })) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The decision that the token names, if it is in the ledger and granted exactly this token: a
    /// signature alone, made with a key that leaked, is not an authority.
    async fn granted(
        &self,
        tenant: &Tenant,
        state: &State,
        environment: &EnvironmentId,
        claims: &Claims,
    ) -> Result<Option<Box<DecisionRecord>>, RuntimeError> {
        let Some(entry) = self.store().entry(&tenant.id, claims.ledger.index).await? else { return Ok(None) };
        let Event::Decision(record) = event_of(&entry.leaf)? else { return Ok(None) };
        let Some(grant) = record.grant.as_ref().filter(|_| record.decision.decision.permits()) else {
            return Ok(None);
        };
        // A grant dies with the key that it names, also when a successor signed for it.
        let key = state.environments.get(environment).and_then(|e| e.keys.iter().find(|k| k.kid == grant.kid));
        if key.is_none_or(|k| k.status == KeyStatus::Retired) {
            return Ok(None);
        }
        // Every claim is one of the record. Where the tree stood when it was signed is not recorded,
        // and binds nothing.
        let head = TreeHead {
            size: claims.ledger.size,
            root: NodeHash::from_base64(&claims.ledger.root).unwrap_or_else(|| NodeHash::from_bytes([0; 32])),
            at: entry.at,
            control_version: 0,
        };
        let index = claims.ledger.index;
        let granted = claims_of(self.issuer(), tenant.id.as_str(), &record, grant, index, &head);
        let same = record.input.intent.environment == *environment && granted == *claims;
        Ok(same.then(|| Box::new(record)))
    }

    /// Revokes one token by its id. The decision that granted it names intent, environment, expiry.
    pub async fn revoke_token(
        &self,
        principal: &Principal,
        intent: &str,
        jti: &str,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        let id = intent
            .parse()
            .map_err(|_| RuntimeError::at(Code::RequestInvalid, "/intent", "an intent id was expected"))?;
        let decided = self.decision(principal, &id).await?.ok_or(Code::TokenUnknown)?;
        let environment = decided.record.input.intent.environment.clone();
        principal.require(Scope::TokenRevoke, Some(&environment))?;
        let grant = decided.record.grant.as_ref().filter(|g| *g.jti == *jti).ok_or(Code::TokenUnknown)?;
        let event = Event::TokenRevoked(TokenRevoked {
            by: principal.credential.clone(),
            environment,
            exp: grant.exp,
            intent: id,
            jti: jti.into(),
            reason: reason.into(),
            v: BODY_VERSION,
        });
        let key = keys::revoked(jti);
        for _ in 0..MAX_ATTEMPTS {
            let state = principal.tenant.state();
            self.check_current(principal, &state)?;
            let now = self.now();
            // The fact that it is revoked outlives a token that is valid, and only that.
            if grant.exp <= now.as_secs() {
                return Err(RuntimeError::new(
                    Code::Conflict,
                    "the token has expired: there is nothing left to revoke",
                ));
            }
            let commit = Commit {
                tenant: principal.tenant.id.clone(),
                now,
                // A credential that is revoked in between revokes nothing after it.
                control_version: Some(state.control),
                reads: vec![(key.as_str().into(), 0)],
                writes: vec![Write::Put {
                    key: key.as_str().into(),
                    value: grant.exp.to_string().into_bytes(),
                    expires_at: Some(Timestamp::from_millis(grant.exp * 1000).plus_millis(CONSUMED_MARGIN_MS)),
                }],
                entries: vec![entry_of(&event)?],
            };
            match self.append(commit).await {
                Ok(committed) => return Ok(committed.first_index),
                Err(StoreError::Conflict(Conflict::Fact { .. })) => {
                    return Err(RuntimeError::new(Code::Conflict, "the token is revoked already"));
                }
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(StoreError::Conflict(Conflict::Control { .. })) => self.follow(&principal.tenant).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// The ids of tokens that are revoked and not yet expired, with their expiry in seconds.
    pub async fn revoked_tokens(&self, principal: &Principal) -> Result<Vec<(String, i64)>, RuntimeError> {
        principal.require(Scope::TokenVerify, None)?;
        self.revoked_of(&principal.tenant).await
    }

    /// [`Self::revoked_tokens`], for the server itself.
    pub(crate) async fn revoked_of(&self, tenant: &Tenant) -> Result<Vec<(String, i64)>, RuntimeError> {
        let now = self.now().as_secs();
        let mut out = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.store().facts(&tenant.id, keys::REVOKED_PREFIX, &after, 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(out) };
            after = last.to_string();
            for (key, fact) in &page {
                let exp = std::str::from_utf8(&fact.value).ok().and_then(|t| t.parse().ok()).unwrap_or(i64::MAX);
                if exp >= now {
                    out.push((key.trim_start_matches(keys::REVOKED_PREFIX).to_owned(), exp));
                }
            }
        }
    }
}
