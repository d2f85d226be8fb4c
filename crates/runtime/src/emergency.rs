//! Emergency controls: halts and what lifts them, what one would stop, revocation in bulk, the list for
//! verifiers without a connection, and credentials that are kept for the day when nothing else works.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use intended_engine::emergency::{REVOKED_MS, covers};
use intended_engine::{About, EmergencyError, FoldError, State, decide, keys};
use intended_keyring::{ApiKey, KeyKind};
use intended_model::decision::{DecisionRecord, GateOutcome};
use intended_model::emergency::{HaltScope, HaltTarget, TokenSelector};
use intended_model::entry::{
    AgentState, BODY_VERSION, BreakGlassPrepared, HaltResumeAsked, HaltResumed, HaltThrown, Scope, Tier, TokensRevoked,
};
use intended_model::{Code, CredentialId, EnvironmentId, Event, Intent, IntentId, Name, TenantId, Timestamp};
use intended_token::{HaltCut, InForce, Listed, RevokedCut};
use serde::{Deserialize, Serialize};

use crate::admin::{Change, Changed};
use crate::audit::{MAX_PAGE, MAX_SCAN};
use crate::metrics::Stopwatch;
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError};

/// How long a first person's word to lift a halt waits for the second.
pub const RESUME_TTL_SECS: i64 = 3_600;
/// What a rate is taken over.
const RATE_MS: i64 = 600_000;
/// Most entries that a count of live tokens looks at: at 10,000 decisions in a second, a few seconds of
/// them. A count that ends there says that it is a lower bound.
const MAX_COUNTED: usize = 100_000;
/// Most open approvals that are looked at.
const MAX_OPEN: usize = 1_000;
/// How often it is looked whether a halt has taken effect.
const MAX_PROBES: usize = 100;
/// Beyond every position that a ledger can have, and a number that every reader of JSON keeps.
const NO_POSITION: u64 = (1 << 53) - 1;
/// How far ahead of this one the clock may have been that tokens of a lost part were issued by.
const SKEW_MS: i64 = 10_000;
/// For how long the same list is given out.
pub const LIST_SECS: i64 = 10;
/// Longest that a break-glass credential is good for.
pub const MAX_GLASS_DAYS: i64 = 400;

/// A halt that is in the ledger.
#[derive(Debug, Clone)]
pub struct Thrown {
    pub halt: Name,
    pub index: u64,
    /// From being asked for until it was durable and followed.
    pub committed: Duration,
    /// And until deciding something that it covers was refused; `None` when it never was.
    pub refused: Option<Duration>,
    /// Thrown before, under the same idempotency key: nothing was measured.
    pub repeated: bool,
}

/// What asking for a halt to be lifted came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    Lifted {
        index: u64,
    },
    /// A second person must ask for the same.
    Waiting {
        expires_at: Timestamp,
        index: u64,
    },
}

impl Resumed {
    #[must_use]
    pub const fn index(&self) -> u64 {
        match self {
            Self::Lifted { index } | Self::Waiting { index, .. } => *index,
        }
    }
}

/// What a halt would stop.
#[derive(Debug, Clone, Serialize)]
pub struct BlastRadius {
    pub scope: String,
    /// To be typed before it is thrown.
    pub name: String,
    pub environments: Vec<Covered>,
    /// Active agents that it would stop. Of a halt on a connector, tool or category those that used it lately.
    pub agents: Vec<String>,
    pub decisions_per_minute: f64,
    pub allowed_per_minute: f64,
    /// What the rates were taken over.
    pub window_secs: i64,
    pub live_tokens: u64,
    /// There may be more than was counted.
    pub at_least: bool,
    pub open_approvals: u64,
    /// People that lifting it takes.
    pub resume_people: u32,
}

#[derive(Debug, Clone, Serialize)]
pub struct Covered {
    pub environment: EnvironmentId,
    pub tier: Tier,
    pub halted: bool,
}

/// The live tokens that a selector means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concerned {
    pub tokens: u64,
    /// By agent.
    pub agents: BTreeMap<String, u64>,
    /// There may be more than was counted.
    pub at_least: bool,
}

/// A break-glass credential as it is kept: what it is for, signed, and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlassFile {
    /// The API key: whoever has it can throw the halt.
    pub key: String,
    /// What it is for, signed with the tenant's ledger key.
    pub note: String,
    /// The ledger's public key, as this file says it.
    pub vkey: String,
}

/// What a break-glass file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlassTerms {
    pub credential: CredentialId,
    pub expires_at: Timestamp,
    pub key_hash: intended_model::Digest,
    pub prepared_at: Timestamp,
    pub scope: HaltScope,
    pub tenant: TenantId,
}

/// What stands before the terms in what is signed.
const GLASS: &str = "intended.so/break-glass/1";

impl GlassTerms {
    fn text(&self) -> Result<String, RuntimeError> {
        let terms = intended_model::json::canonical(self)?;
        Ok(format!("{GLASS}\n{terms}\n"))
    }
}

impl GlassFile {
    /// The terms, as far as they are those that `vkey` signed and that go with the key in the file.
    pub fn open(&self, vkey: &str) -> Result<GlassTerms, RuntimeError> {
        let wrong = |what: String| RuntimeError::new(Code::RequestInvalid, format!("the break-glass file: {what}"));
        let signer = intended_ledger::NoteVerifier::parse(vkey).map_err(|e| wrong(e.to_string()))?;
        let text = signer.verify(&self.note).map_err(|e| wrong(e.to_string()))?;
        let terms = text.strip_prefix(GLASS).map(str::trim).ok_or_else(|| wrong("it is another kind".to_owned()))?;
        let value = intended_model::json::parse_recorded(terms.as_bytes())?;
        let terms: GlassTerms = intended_model::json::from_value(&value)?;
        if signer.name() != intended_ledger::origin(&terms.tenant) {
            return Err(wrong(format!("it is signed by the log `{}`", signer.name())));
        }
        let key = ApiKey::parse(&self.key).map_err(|_| wrong("its key has a typing error".to_owned()))?;
        if key.hash() != terms.key_hash {
            return Err(wrong("its key is not the one that was prepared".to_owned()));
        }
        Ok(terms)
    }
}

/// Fails unless the caller may throw a halt there.
fn may_throw(by: &Principal, environment: Option<&EnvironmentId>) -> Result<(), RuntimeError> {
    if by.access.may_in(Scope::EmergencyHalt, environment) {
        return Ok(());
    }
    by.require_in(Scope::EmergencyWrite, environment)
}

impl Runtime {
    /// Halts the tenant or an environment.
    pub async fn halt(
        &self,
        by: &Principal,
        environment: Option<EnvironmentId>,
        reason: &str,
    ) -> Result<(Name, u64), RuntimeError> {
        let thrown = self.throw(by, HaltScope { environment, on: None }, reason).await?;
        Ok((thrown.halt, thrown.index))
    }

    /// Throws a halt. When this returns, no covered allow can follow in the ledger (I2), and no token
    /// that was granted before it and lies under it is good for anything.
    pub async fn throw(&self, by: &Principal, scope: HaltScope, reason: &str) -> Result<Thrown, RuntimeError> {
        let watch = Stopwatch::start();
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let halt = Name::new(&format!("halt-{hex}")).map_err(RuntimeError::internal)?;
        let changed = self.change(by, ("halt", &scope, reason), |by, state| {
            may_throw(by, scope.environment.as_ref())?;
            let event = Event::HaltThrown(HaltThrown {
                by: by.credential.clone(),
                environment: scope.environment.clone(),
                halt: halt.clone(),
                on: scope.on.clone(),
                reason: reason.into(),
                resume_people: Some(state.resume_people(scope.environment.as_ref())),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, halt.clone()))
        });
        let changed = changed.await?;
        if changed.repeated && !by.tenant.state().halts.contains_key(&changed.answer) {
            let what = "NOT HALTED: this request threw";
            let detail = format!("{what} `{}` before, which was lifted since; use another key", changed.answer);
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        let committed = watch.elapsed();
        let mut refused = None;
        for _ in 0..MAX_PROBES {
            if refuses(&by.tenant.state(), &scope, self.now()) {
                refused = Some(watch.elapsed());
                break;
            }
            tokio::task::yield_now().await;
        }
        let repeated = changed.repeated;
        Ok(Thrown { halt: changed.answer, index: changed.index, committed, refused, repeated })
    }

    /// Lifts a halt, or where that takes two people asks for it.
    pub async fn resume(&self, by: &Principal, halt: Name, reason: &str) -> Result<Resumed, RuntimeError> {
        let now = self.now();
        let changed = self.change(by, ("resume", &halt, reason), |by, state| {
            let known = state.halts.get(&halt).ok_or(Code::HaltUnknown)?;
            by.require_in(Scope::EmergencyWrite, known.environment.as_ref())?;
            let (by, halt, reason, v) = (by.credential.clone(), halt.clone(), reason.into(), BODY_VERSION);
            // Whose word it was must still be one who may say it: a key that was taken away meanwhile
            // has no say, and whoever comes next asks anew.
            let stands = |by: &CredentialId| {
                let access = state.access(by, now);
                access.is_ok_and(|access| access.may_in(Scope::EmergencyWrite, known.environment.as_ref()))
            };
            let asked = known.asked.as_ref().filter(|asked| asked.expires_at > now && stands(&asked.by));
            if known.people < 2 || asked.is_some_and(|asked| state.two_people(&asked.by, &by)) {
                let event = Event::HaltResumed(HaltResumed { by, halt, reason, v });
                return Ok(Change::new(event, None));
            }
            if asked.is_some() {
                let error = EmergencyError::ResumePeople { halt, given: 1, needed: known.people };
                return Err(FoldError::from(error).into());
            }
            let expires_at = now.plus_secs(RESUME_TTL_SECS);
            let event = Event::HaltResumeAsked(HaltResumeAsked { by, expires_at, halt, reason, v });
            Ok(Change::new(event, Some(expires_at)))
        });
        let Changed { answer, index, .. } = changed.await?;
        Ok(match answer {
            None => Resumed::Lifted { index },
            Some(expires_at) => Resumed::Waiting { expires_at, index },
        })
    }

    /// What a halt would stop, of what the caller may see.
    pub async fn blast_radius(&self, by: &Principal, scope: &HaltScope) -> Result<BlastRadius, RuntimeError> {
        by.require(Scope::EmergencyRead, scope.environment.as_ref())?;
        if let Some(on) = scope.on.as_ref().filter(|on| !on.is_valid()) {
            return Err(FoldError::from(EmergencyError::Target(on.clone())).into());
        }
        let state = by.tenant.state();
        let here = |e: &EnvironmentId| scope.environment.as_ref().is_none_or(|only| only == e) && by.sees(e);
        if scope.environment.as_ref().is_some_and(|e| !state.environments.contains_key(e)) {
            return Err(Code::EnvironmentUnknown.into());
        }
        let environments: Vec<Covered> = state
            .environments
            .values()
            .filter(|e| here(&e.id))
            .map(|e| {
                let whole =
                    |h: &intended_engine::Halt| h.on.is_none() && h.environment.as_ref().is_none_or(|x| *x == e.id);
                Covered { environment: e.id.clone(), tier: e.tier, halted: state.halts.values().any(whole) }
            })
            .collect();
        let mut agents: BTreeSet<String> = BTreeSet::new();
        for (id, agent) in state.agents.iter() {
            let stops = match &scope.on {
                None => true,
                Some(HaltTarget::Agent(on)) => on == id,
                Some(_) => false,
            };
            if stops && agent.state == AgentState::Active && agent.environments.iter().any(here) {
                agents.insert(id.to_string());
            }
        }
        let now = self.now();
        let (mut decisions, mut allowed, mut live) = (0_u64, 0_u64, 0);
        let mut tokens: Vec<Box<str>> = Vec::new();
        let since = now.plus_millis(-RATE_MS);
        let reached = self
            .recent(by, since, MAX_SCAN, |index, record| {
                let about = About::of(&record.input.intent, &record.input.classification);
                if record.input.class.is_synthetic()
                    || !here(&record.input.intent.environment)
                    || !covers(scope, &about)
                {
                    return;
                }
                decisions += 1;
                allowed += u64::from(record.decision.decision.permits());
                if scope.on.is_some() {
                    agents.insert(record.input.intent.subject.id.to_string());
                }
                tokens.extend(unexpired(&state, index, &record, now).map(Box::from));
            })
            .await?;
        for jti in tokens {
            live += u64::from(self.is_unused(by, &jti)?);
        }
        let window_ms = now.millis_since(reached).clamp(1_000, RATE_MS);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = |n: u64| (n as f64) * 60_000.0 / (window_ms as f64);
        let (open_approvals, more) = self.open_under(by, scope).await?;
        Ok(BlastRadius {
            scope: scope.to_string(),
            name: name_of(&by.tenant.id, scope),
            environments,
            agents: agents.into_iter().collect(),
            decisions_per_minute: rate(decisions),
            allowed_per_minute: rate(allowed),
            window_secs: window_ms / 1000,
            live_tokens: live,
            // Tokens live for five minutes; less than that may have been looked at.
            at_least: more || now.millis_since(reached) < REVOKED_MS && reached > since,
            open_approvals,
            resume_people: state.resume_people(scope.environment.as_ref()),
        })
    }

    /// Gives `visit` the decisions since a time, newest first, and says how far back it came. Of a
    /// ledger that is younger, that is the time asked for.
    pub(crate) async fn recent(
        &self,
        by: &Principal,
        since: Timestamp,
        most: usize,
        mut visit: impl FnMut(u64, DecisionRecord),
    ) -> Result<Timestamp, RuntimeError> {
        let tenant = &by.tenant.id;
        let (mut before, mut seen, mut reached) = (self.store().head(tenant).await?.size, 0, self.now());
        while before > 0 {
            if seen >= most {
                return Ok(reached);
            }
            // Reading a page takes some milliseconds: others come in between.
            tokio::task::yield_now().await;
            let page = self.store().entries_before(tenant, before, MAX_PAGE).await?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                if entry.at < since {
                    return Ok(since);
                }
                (before, seen, reached) = (entry.index, seen + 1, entry.at);
                if let Event::Decision(record) = event_of(&entry.leaf)?
                    && by.sees(&record.input.intent.environment)
                {
                    visit(entry.index, record);
                }
            }
        }
        Ok(since)
    }

    /// Whether a token was neither used nor revoked by its id.
    fn is_unused(&self, by: &Principal, jti: &str) -> Result<bool, RuntimeError> {
        let fact = |key: String| self.store().fact_now(&by.tenant.id, &key).map(|f| f.is_some());
        Ok(!fact(keys::consumed(jti))? && !fact(keys::revoked(jti))?)
    }

    async fn open_under(&self, by: &Principal, scope: &HaltScope) -> Result<(u64, bool), RuntimeError> {
        let open = self.store().facts(&by.tenant.id, keys::OPEN_PREFIX, "", MAX_OPEN).await?;
        let mut count = 0;
        for (key, _) in &open {
            let Ok(intent) = key.trim_start_matches(keys::OPEN_PREFIX).parse::<IntentId>() else { continue };
            if let Some(decided) = self.decision(by, &intent).await? {
                let input = &decided.record.input;
                count += u64::from(covers(scope, &About::of(&input.intent, &input.classification)));
            }
        }
        Ok((count, open.len() == MAX_OPEN))
    }

    /// The live tokens that a selector means, counted in what was recorded while tokens live.
    pub async fn tokens_meant(&self, by: &Principal, selector: &TokenSelector) -> Result<Concerned, RuntimeError> {
        may_revoke(by, selector)?;
        self.count_meant(by, &by.tenant.state(), selector).await
    }

    /// [`Self::tokens_meant`] by a state that may be from before: what was alive then.
    async fn count_meant(
        &self,
        by: &Principal,
        state: &State,
        selector: &TokenSelector,
    ) -> Result<Concerned, RuntimeError> {
        let now = self.now();
        let since = now.plus_millis(-REVOKED_MS);
        let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
        let reached = self
            .recent(by, since, MAX_COUNTED, |index, record| {
                // A self-test's dies with the others, and is nobody's loss.
                if record.input.class.is_synthetic() {
                    return;
                }
                if let Some(jti) = unexpired(state, index, &record, now).filter(|_| state.means(selector, &record)) {
                    found.push((jti.into(), record.input.intent.subject.id.clone()));
                }
            })
            .await?;
        let mut concerned = Concerned { at_least: reached > since, ..Concerned::default() };
        for (jti, agent) in found {
            if self.is_unused(by, &jti)? {
                concerned.tokens += 1;
                *concerned.agents.entry(agent.to_string()).or_default() += 1;
            }
        }
        Ok(concerned)
    }

    /// Revokes every token that a selector means and that was granted before the entry that says so.
    /// First it is done, then counted, by the state from before: counting reads much. What cannot be
    /// counted is revoked all the same, and `None`.
    pub async fn revoke_tokens(
        &self,
        by: &Principal,
        selector: TokenSelector,
        reason: &str,
    ) -> Result<(Option<Concerned>, u64), RuntimeError> {
        may_revoke(by, &selector)?;
        let changed = self.change(by, ("revocation", &selector, reason), |by, _| {
            may_revoke(by, &selector)?;
            let event = Event::TokensRevoked(TokensRevoked {
                by: by.credential.clone(),
                reason: reason.into(),
                selector: selector.clone(),
                until: self.now().plus_millis(REVOKED_MS),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        let index = changed.await?.index;
        let mut before = State::clone(&by.tenant.state());
        before.forget_revocation(index);
        let counted = self.count_meant(by, &before, &selector).await;
        let counted = counted.inspect_err(|error| tracing::warn!(code = %error.code, "revoked, but not counted"));
        Ok((counted.ok(), index))
    }

    /// Makes a credential that can throw one halt, once.
    pub async fn prepare_glass(
        &self,
        by: &Principal,
        scope: HaltScope,
        expires_at: Timestamp,
    ) -> Result<(GlassFile, GlassTerms, u64), RuntimeError> {
        let now = self.now();
        if expires_at <= now || expires_at > now.plus_secs(MAX_GLASS_DAYS * 86_400) {
            let what = format!("a time to come, at most {MAX_GLASS_DAYS} days from now");
            return Err(RuntimeError::at(Code::RequestInvalid, "/expires_at", what));
        }
        let key = ApiKey::generate(self.rng(), KeyKind::Live).map_err(RuntimeError::internal)?;
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let credential = CredentialId::new(&format!("glass-{hex}")).map_err(RuntimeError::internal)?;
        let changed = self.change(by, ("glass", &scope, expires_at), |by, _| {
            by.require_in(Scope::AccessWrite, scope.environment.as_ref())?;
            by.require_in(Scope::EmergencyWrite, scope.environment.as_ref())?;
            let lasts = |e: &EnvironmentId| by.access.may_until(Scope::EmergencyWrite, Some(e), Some(expires_at));
            let whole = || by.access.whole_until(Scope::EmergencyWrite, Some(expires_at));
            if !scope.environment.as_ref().map_or_else(whole, lasts) {
                return Err(RuntimeError::new(Code::AccessWider, "it would outlast what you have yourself"));
            }
            let event = Event::BreakGlassPrepared(BreakGlassPrepared {
                by: by.credential.clone(),
                credential: credential.clone(),
                environment: scope.environment.clone(),
                expires_at,
                hash: key.hash(),
                on: scope.on.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        let changed = changed.await?;
        if changed.repeated {
            let detail = "this request prepared one before; its key was in the first answer and is kept nowhere";
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        let tenant = &by.tenant;
        let terms = GlassTerms {
            credential,
            expires_at,
            key_hash: key.hash(),
            prepared_at: now,
            scope,
            tenant: tenant.id.clone(),
        };
        let note = tenant.sign_note(&terms.text()?);
        let file = GlassFile { key: key.expose().to_owned(), note, vkey: tenant.state().vkey.to_string() };
        Ok((file, terms, changed.index))
    }

    /// What kills tokens of an environment, as a signed, short-lived document for verifiers without a
    /// connection. Within [`LIST_SECS`] it is the same text, as long as nothing happens.
    pub async fn revocation_list(
        &self,
        principal: &Principal,
        environment: &EnvironmentId,
    ) -> Result<RevocationDocument, RuntimeError> {
        principal.require(Scope::TokenVerify, None)?;
        let list = self.list_of(&principal.tenant, environment).await?;
        // Of a state that is no older than what the list was made of.
        self.check_current(principal, &principal.tenant.state())?;
        Ok(list)
    }

    /// [`Self::revocation_list`], for the server itself.
    pub(crate) async fn list_of(
        &self,
        tenant: &std::sync::Arc<crate::Tenant>,
        environment: &EnvironmentId,
    ) -> Result<RevocationDocument, RuntimeError> {
        // The ledger's size first, then what was revoked up to there and perhaps beyond: a list never
        // claims to know more than it does.
        let head = self.store().head(&tenant.id).await?;
        self.follow(tenant).await?;
        let state = tenant.state();
        let mut revoked: Vec<String> = self.revoked_of(tenant).await?.into_iter().map(|(jti, _)| jti).collect();
        revoked.sort();
        let now = self.now();
        let oldest = self.first_since(&tenant.id, head.size, now.plus_millis(-REVOKED_MS)).await?;
        let here = |scope: Option<&EnvironmentId>| scope.is_none_or(|e| e == environment);
        let mut halts: Vec<InForce> = Vec::new();
        for halt in state.halts.values().filter(|h| here(h.environment.as_ref())) {
            let one = InForce { on: halt.on.clone() };
            if !halts.contains(&one) {
                halts.push(one);
            }
        }
        let thrown =
            state.emergency.thrown().filter(|(index, scope)| *index >= oldest && here(scope.environment.as_ref()));
        let halt_cuts = thrown.map(|(before, scope)| HaltCut { before, on: scope.on.clone() }).collect();
        let known = state.emergency.revocations().iter();
        let known = known.filter(|r| r.index >= oldest && here(r.selector.environment.as_ref()));
        let mut revoked_cuts: Vec<RevokedCut> =
            known.map(|r| RevokedCut { before: r.index, selector: r.selector.clone() }).collect();
        // What a lost part of the ledger granted names a position that others have now: it goes by its time.
        let copies = state.restored.iter().filter(|r| r.index >= oldest);
        revoked_cuts.extend(copies.map(|r| RevokedCut {
            before: NO_POSITION,
            selector: TokenSelector { to: Some(r.at.plus_millis(SKEW_MS)), ..TokenSelector::default() },
        }));
        let dead_before = if state.emergency.dead_before() > oldest { state.emergency.dead_before() } else { 0 };
        let listed =
            Listed { environment: Some(environment.to_string()), revoked, halts, halt_cuts, revoked_cuts, dead_before };
        // Said to be older than it is, never younger.
        let made = now.as_secs().div_euclid(LIST_SECS) * LIST_SECS;
        let content = format!("{made} {environment} {listed:?}");
        let signer = tenant.signer(environment)?;
        let (issuer, tenant) = (self.issuer(), tenant.id.as_str());
        let text = intended_token::issue_list(issuer, tenant, made, head.size, &listed, &*signer)
            .map_err(RuntimeError::internal)?;
        let tag = intended_model::Digest::of(content.as_bytes()).to_hex();
        Ok(RevocationDocument { text, tag, max_age: made + LIST_SECS - now.as_secs() })
    }

    /// The first entry that is not older than a time, as an index: found by halves.
    async fn first_since(&self, tenant: &TenantId, size: u64, since: Timestamp) -> Result<u64, RuntimeError> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store().entry(tenant, middle).await? {
                Some(entry) if entry.at < since => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// A signed list, and what is needed to keep it for a while.
#[derive(Debug, Clone)]
pub struct RevocationDocument {
    pub text: String,
    /// The same as long as the list is.
    pub tag: String,
    /// For how many seconds it is the current one, if nothing happens.
    pub max_age: i64,
}

/// The token that a decision granted, unless it has expired or is dead.
fn unexpired<'r>(state: &State, index: u64, record: &'r DecisionRecord, now: Timestamp) -> Option<&'r str> {
    let grant = record.grant.as_ref().filter(|g| g.exp > now.as_secs())?;
    state.dead_token(record, index).is_none().then_some(&*grant.jti)
}

fn may_revoke(by: &Principal, selector: &TokenSelector) -> Result<(), RuntimeError> {
    by.require_in(Scope::TokenRevoke, selector.environment.as_ref())?;
    if selector.is_empty() { Err(FoldError::from(EmergencyError::Selector).into()) } else { Ok(()) }
}

/// What is to be typed before a halt is thrown: what it stops.
#[must_use]
pub fn name_of(tenant: &TenantId, scope: &HaltScope) -> String {
    match (&scope.on, &scope.environment) {
        (Some(on), _) => on.text().to_owned(),
        (None, Some(environment)) => environment.to_string(),
        (None, None) => tenant.to_string(),
    }
}

/// Whether something that lies under a halt is refused for it, decided on a state.
fn refuses(state: &State, scope: &HaltScope, at: Timestamp) -> bool {
    let Some(environment) = scope.environment.clone().or_else(|| state.environments.keys().next().cloned()) else {
        return true;
    };
    let (mut agent, mut tool, mut category) = ("probe".to_owned(), "probe.probe".to_owned(), None);
    let within = |pattern: &str| pattern.strip_suffix('*').map_or_else(|| pattern.to_owned(), |p| format!("{p}probe"));
    match &scope.on {
        None => {}
        Some(HaltTarget::Agent(on)) => agent = on.to_string(),
        Some(HaltTarget::Connector(on)) => tool = format!("{on}.probe"),
        Some(HaltTarget::Tool(on)) => tool = within(on),
        Some(HaltTarget::Category(on)) => category = Some(within(on)),
    }
    let intent = serde_json::json!({
        "subject": {"type": "agent", "id": agent}, "action": {"name": tool},
        "resource": {"type": "probe", "id": "probe"}, "environment": environment,
    });
    let parsed = intended_model::json::parse(intent.to_string().as_bytes())
        .ok()
        .and_then(|value| Intent::from_value(&value, None, false).ok());
    let (Some(intent), Ok(credential)) = (parsed, CredentialId::new("probe")) else { return false };
    let mut input = intended_engine::expect::input(state, intent, credential, at);
    if let Some(category) = category {
        input.classification.category = Some(category.into());
        input.classification.ambiguous = false;
    }
    let decision = decide(state, &input);
    let first = decision.gates.first();
    first.is_some_and(|g| g.outcome == GateOutcome::Deny && g.code.as_str().starts_with("halt."))
}
