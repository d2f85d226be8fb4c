//! Re-execution of a ledger, from an export alone: no server, no database, no clock.
//!
//! Entry by entry: its bytes are canonical and stand where they say (hashes, tree, checkpoints), it
//! can follow what is before it (fold), and if it is a decision, deciding it again on the state of
//! its position gives the same decision. The invariants I1 to I6 are checked besides, by rules of
//! their own that do not call the engine where that is possible: two different ways to the same no.
//!
//! The first entry that fails is named, with what differs; nothing after it is looked at.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod authority;

use std::collections::{BTreeMap, HashMap, HashSet};

use intended_engine::{Effect, KeptSession, KeyStatus, State, decide, effects, keys, needs, verify_expectations};
use intended_ledger::{Checkpoint, ExportHeader, Frontier, Leaf, NodeHash, NoteVerifier, check_canonical, leaf_hash};
use intended_model::decision::{DecisionRecord, PROCEDURE, SessionContext};
use intended_model::entry::{ApprovalGranted, Scope};
use intended_model::{Event, IntentId, Kind, Timestamp};

/// Longest time between deciding and being recorded, in milliseconds: the runtime's own deadline.
pub const MAX_LAG_MS: i64 = 10_000;

/// Which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The entry's bytes: shape, canonical form, index, tenant, time.
    Entry,
    /// The tree does not have the root that was signed.
    Tree,
    /// A checkpoint's signature, or its consistency with another (I6).
    Checkpoint,
    /// The entry cannot follow the entries before it.
    Fold,
    /// An allow without its grant, or a grant without its allow (I1).
    Durable,
    /// An allow that a halt covers (I2).
    Halt,
    /// Deciding again gives another decision, or its inputs are not what the ledger says (I3).
    Decision,
    /// A token was consumed twice, or was never granted (I4).
    Consumption,
    /// An approval that was not given for this (I5).
    Approval,
    /// A change by a credential that could not make it.
    Authority,
    /// A fact that is not what the ledger says (I7).
    Fact,
}

impl Check {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Tree => "tree",
            Self::Checkpoint => "I6 checkpoint",
            Self::Fold => "fold",
            Self::Durable => "I1 durable before token",
            Self::Halt => "I2 no allow under a halt",
            Self::Decision => "I3 re-execution",
            Self::Consumption => "I4 single use",
            Self::Approval => "I5 approvals",
            Self::Authority => "authority",
            Self::Fact => "I7 facts",
        }
    }
}

/// The first thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", check.as_str(), index.map_or(String::new(), |i| format!(", entry {i}")))]
pub struct Failure {
    pub check: Check,
    /// Absent when it is not about one entry.
    pub index: Option<u64>,
    pub what: String,
}

/// The facts that follow from the ledger.
pub const FACTS: [&str; 5] =
    [keys::CONSUMED_PREFIX, keys::REVOKED_PREFIX, keys::OPEN_PREFIX, keys::BUDGET_PREFIX, keys::SESSION_PREFIX];

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub tenant: String,
    pub entries: u64,
    pub decisions: u64,
    pub allowed: u64,
    pub control: u64,
    pub consumptions: u64,
    pub checkpoints: u64,
    /// Entries after the newest checkpoint: re-executed, not signed.
    pub unsigned: u64,
    /// Working facts that were held against the ledger; absent for an export, which has none.
    pub facts: Option<u64>,
    pub root: String,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

struct Granted {
    index: u64,
    intent: IntentId,
    environment: Box<str>,
    exp: i64,
}

/// Takes a ledger's entries in order.
pub struct Verifier {
    header: ExportHeader,
    /// Roots that were signed, by size.
    signed: BTreeMap<u64, NodeHash>,
    frontier: Frontier,
    state: Option<State>,
    last_at: Timestamp,
    sessions: HashMap<String, KeptSession>,
    /// Counters, and until when they are needed.
    counters: HashMap<String, (i64, Timestamp)>,
    open: HashMap<IntentId, Timestamp>,
    granted: HashMap<Box<str>, Granted>,
    consumed: HashSet<Box<str>>,
    revoked: HashSet<Box<str>>,
    seen: HashSet<IntentId>,
    approvals: HashMap<u64, ApprovalGranted>,
    report: Report,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("entries", &self.report.entries).finish_non_exhaustive()
    }
}

fn fail(check: Check, index: impl Into<Option<u64>>, what: impl Into<String>) -> Failure {
    Failure { check, index: index.into(), what: what.into() }
}

impl Verifier {
    /// Starts with the header. `trusted` is the ledger's public key as known from elsewhere; without
    /// it the one in the export is taken, which proves consistency but not whose ledger it is.
    pub fn new(header: ExportHeader, trusted: Option<&str>) -> Result<Self, Failure> {
        let at = |what: String| fail(Check::Checkpoint, None, what);
        if trusted.is_some_and(|t| t != header.vkey) {
            return Err(at("the export is signed with another key than the trusted one".to_owned()));
        }
        let note_key = NoteVerifier::parse(&header.vkey).map_err(|e| at(e.to_string()))?;
        if note_key.name() != intended_ledger::origin(&header.tenant) {
            return Err(at(format!("the key is of the log `{}`", note_key.name())));
        }
        let mut signed = BTreeMap::new();
        for note in header.checkpoints.iter().chain([&header.checkpoint]) {
            let checkpoint = Checkpoint::verified(note, &note_key).map_err(|e| at(e.to_string()))?;
            if checkpoint.size > header.size {
                return Err(at(format!("a checkpoint has {} entries, the export {}", checkpoint.size, header.size)));
            }
            if let Some(other) = signed.insert(checkpoint.size, checkpoint.root)
                && other != checkpoint.root
            {
                return Err(at(format!("two checkpoints of size {} have different roots", checkpoint.size)));
            }
        }
        if !signed.contains_key(&header.size) {
            return Err(at("the export's checkpoint is not of its size".to_owned()));
        }
        let report = Report { tenant: header.tenant.to_string(), ..Report::default() };
        Ok(Self {
            header,
            signed,
            frontier: Frontier::empty(),
            state: None,
            last_at: Timestamp::default(),
            sessions: HashMap::new(),
            counters: HashMap::new(),
            open: HashMap::new(),
            granted: HashMap::new(),
            consumed: HashSet::new(),
            revoked: HashSet::new(),
            seen: HashSet::new(),
            approvals: HashMap::new(),
            report,
        })
    }

    /// How many entries there will be.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.header.size
    }

    /// Takes the next entry.
    pub fn entry(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let index = self.frontier.size();
        let at = |what: String| fail(Check::Entry, index, what);
        if index >= self.header.size {
            return Err(at(format!("there are more entries than the {} that are signed", self.header.size)));
        }
        let leaf = Leaf::parse(bytes).map_err(|e| at(e.to_string()))?;
        if leaf.index != index {
            return Err(at(format!("entry {} stands here: entries are missing or out of order", leaf.index)));
        }
        if leaf.tenant != self.header.tenant.as_str() {
            return Err(at(format!("it belongs to the tenant `{}`", leaf.tenant)));
        }
        if leaf.at < self.last_at {
            return Err(at(format!("its time {} is before the entry before it", leaf.at)));
        }
        let body = check_canonical(leaf.body).map_err(|e| at(e.to_string()))?;
        self.frontier.push(leaf_hash(bytes));
        if let Some(root) = self.signed.get(&self.frontier.size())
            && *root != self.frontier.root()
        {
            return Err(fail(
                Check::Tree,
                index,
                format!(
                    "the tree of {} entries does not have the root that was signed: an entry up to here was altered",
                    self.frontier.size()
                ),
            ));
        }
        let kind =
            Kind::parse(leaf.kind).ok_or_else(|| at(format!("the kind `{}` is unknown to this release", leaf.kind)))?;
        let event = Event::parse(kind, &body).map_err(|e| at(e.to_string()))?;
        self.last_at = leaf.at;
        self.report.first_at.get_or_insert(leaf.at);
        self.report.last_at = Some(leaf.at);
        self.report.entries += 1;
        self.event(index, leaf.at, event)
    }

    fn event(&mut self, index: u64, at: Timestamp, event: Event) -> Result<(), Failure> {
        if let Some(what) = self.state.as_ref().and_then(|state| authority::refuse(state, &event)) {
            return Err(fail(Check::Authority, index, what));
        }
        if kind_is_control(&event) {
            return self.control(index, at, &event);
        }
        match event {
            Event::Decision(record) => self.decision(index, at, record),
            Event::TokenConsumed(consumed) => {
                let wrong = |what: &str| {
                    fail(Check::Consumption, index, format!("token of intent {}: {what}", consumed.intent))
                };
                let granted =
                    self.granted.get(&consumed.jti).ok_or_else(|| wrong("no decision before it granted it"))?;
                if granted.intent != consumed.intent || *granted.environment != *consumed.environment.as_str() {
                    return Err(wrong("it was granted for another intent or environment"));
                }
                if self.revoked.contains(&consumed.jti) {
                    return Err(wrong("it was revoked before"));
                }
                if let Some((halt, _)) = self.state.as_ref().and_then(|s| s.halt_over(&consumed.environment)) {
                    let what = format!("token of intent {} was consumed under the halt `{halt}`", consumed.intent);
                    return Err(fail(Check::Halt, index, what));
                }
                if at.as_secs() > granted.exp + MAX_LAG_MS / 1000 {
                    return Err(wrong("it had expired"));
                }
                if !self.consumed.insert(consumed.jti.clone()) {
                    return Err(wrong(&format!("consumed twice; granted by entry {}", granted.index)));
                }
                self.report.consumptions += 1;
                Ok(())
            }
            Event::TokenRevoked(revoked) => {
                let granted = self.granted.get(&revoked.jti).is_some_and(|g| g.intent == revoked.intent);
                if !granted || !self.revoked.insert(revoked.jti.clone()) {
                    return Err(fail(
                        Check::Consumption,
                        index,
                        "a token was revoked that was never granted, or twice",
                    ));
                }
                Ok(())
            }
            Event::PolicyVerified(verified) => {
                let wrong =
                    |what: &str| fail(Check::Decision, index, format!("verification of {}: {what}", verified.digest));
                let state = self.state.as_ref().ok_or_else(|| wrong("before the tenant exists"))?;
                let deployed = state.environments.get(&verified.environment).and_then(|e| e.deployed.as_ref());
                if deployed.is_none_or(|v| v.digest != verified.digest) || verified.control != state.control {
                    return Err(wrong("it is about another version or state than the one of its position"));
                }
                let results = verify_expectations(state, &verified.environment, verified.at);
                if results != verified.results {
                    return Err(wrong("deciding its expected outcomes again gives others"));
                }
                if verified.passed != results.iter().all(|r| r.decision == r.expected) {
                    return Err(wrong("what it says of its results is not so"));
                }
                Ok(())
            }
            Event::EscalationClosed(closed) => match self.open.remove(&closed.intent) {
                Some(expires_at) if expires_at == closed.expires_at && at >= expires_at => Ok(()),
                Some(_) => {
                    Err(fail(Check::Decision, index, format!("intent {} was closed before its time", closed.intent)))
                }
                None => Err(fail(Check::Decision, index, format!("intent {} was not open", closed.intent))),
            },
            _ => Ok(()),
        }
    }

    fn control(&mut self, index: u64, at: Timestamp, event: &Event) -> Result<(), Failure> {
        if let Event::ApprovalGranted(approval) = event {
            let wrong = |what: &str| {
                fail(
                    Check::Approval,
                    index,
                    format!("approval of {} by `{}`: {what}", approval.intent, approval.approver),
                )
            };
            match self.open.get(&approval.intent) {
                None => return Err(wrong("the intent is not open")),
                Some(expires_at) if at >= *expires_at => return Err(wrong("the escalation had timed out")),
                Some(_) => {}
            }
            self.approvals.insert(index, approval.clone());
        }
        match (&mut self.state, event) {
            (None, event) => {
                let state = State::genesis(event).map_err(|e| fail(Check::Fold, index, e.to_string()))?;
                if *state.vkey != *self.header.vkey || state.tenant != self.header.tenant {
                    return Err(fail(Check::Checkpoint, index, "the ledger's first entry names another key or tenant"));
                }
                self.state = Some(state);
            }
            (Some(state), event) => {
                state.apply(index, event).map_err(|e| {
                    let check = if matches!(event, Event::ApprovalGranted(_)) { Check::Approval } else { Check::Fold };
                    fail(check, index, e.to_string())
                })?;
            }
        }
        self.report.control += 1;
        Ok(())
    }

    fn decision(&mut self, index: u64, at: Timestamp, record: DecisionRecord) -> Result<(), Failure> {
        let wrong = |what: String| fail(Check::Decision, index, format!("intent {}: {what}", record.input.id));
        let state =
            self.state.as_ref().ok_or_else(|| fail(Check::Fold, index, "a decision before the tenant exists"))?;
        let input = &record.input;
        let permits = record.decision.decision.permits();

        // I2, without the engine: no halt in force covers an allow.
        let halted =
            state.halts.iter().find(|(_, h)| h.environment.as_ref().is_none_or(|e| *e == input.intent.environment));
        if let (true, Some((halt, _))) = (permits, halted) {
            return Err(fail(Check::Halt, index, format!("intent {} was allowed under the halt `{halt}`", input.id)));
        }
        if input.procedure != PROCEDURE {
            return Err(wrong(format!("decided by procedure {}, which this release does not have", input.procedure)));
        }
        if input.control != state.control {
            return Err(wrong(format!("decided on state {}, but the state here is {}", input.control, state.control)));
        }
        if input.at > at || at.millis_since(input.at) > MAX_LAG_MS {
            return Err(wrong(format!("evaluated at {}, recorded at {at}", input.at)));
        }
        if input.intent.digest().ok() != Some(input.intent_hash) {
            return Err(wrong("the intent does not have the hash that is recorded".to_owned()));
        }
        if !self.seen.insert(input.id) {
            return Err(wrong("this intent was decided before".to_owned()));
        }
        let able = state.credentials.get(&input.credential).is_some_and(|c| {
            !c.revoked
                && c.scopes.contains(&Scope::IntentSubmit)
                && c.covers(&input.intent.environment)
                && c.expires_at
                    .is_none_or(|expires_at| input.at.as_millis() < expires_at.as_millis().saturating_add(MAX_LAG_MS))
        });
        if !able {
            return Err(wrong(format!("the credential `{}` could not submit it", input.credential)));
        }
        if input.catalogue != state.catalogue.digest() {
            return Err(wrong(format!("classified by the catalogue {}, which is not the one here", input.catalogue)));
        }
        if state.catalogue.classify(&input.intent.action.name) != input.classification {
            return Err(wrong("the recorded classification is not the catalogue's".to_owned()));
        }
        // I7: what it says it saw is what the ledger before it says.
        let wanted = needs(state, &input.intent, input.at);
        let session = wanted.session.as_ref().map(|key| match self.sessions.get(key) {
            Some(kept) if input.at < kept.expires_at => kept.context.clone(),
            _ => SessionContext::default(),
        });
        if session != input.session {
            return Err(wrong("the recorded session context is not what the ledger says".to_owned()));
        }
        for budget in &wanted.budgets {
            let seen = input.counters.get(budget.key.as_str()).copied().unwrap_or(0);
            let now = self.counters.get(&budget.key).map_or(0, |c| c.0);
            // It may lag behind concurrent decisions; it may not run ahead.
            if seen > now {
                return Err(wrong(format!("the budget `{}` stood at {now}, it says {seen}", budget.id)));
            }
        }
        for approval in &input.approvals {
            let known = self.approvals.get(&approval.entry);
            let same = known.is_some_and(|k| {
                k.approver == approval.approver
                    && k.intent_hash == approval.intent_hash
                    && k.policy == approval.policy
                    && k.expires_at == approval.expires_at
                    && k.intent_hash == input.intent_hash
            });
            if !same {
                return Err(fail(
                    Check::Approval,
                    index,
                    format!(
                        "intent {}: it counts an approval by `{}` that the ledger does not hold",
                        input.id, approval.approver
                    ),
                ));
            }
        }
        let again = decide(state, input);
        if again != record.decision {
            let what = format!(
                "recorded {} ({}), deciding again gives {} ({})",
                record.decision.decision.as_str(),
                record.decision.reason,
                again.decision.as_str(),
                again.reason
            );
            return Err(wrong(what));
        }
        self.grant(index, &record)?;
        let state = self.state.as_ref().ok_or_else(|| fail(Check::Fold, index, "no state"))?;
        for effect in effects(state, &record) {
            match effect {
                Effect::Session { key, context, expires_at } => {
                    self.sessions.insert(key, KeptSession { context, expires_at });
                }
                Effect::Count { key, n, max, expires_at } => {
                    let counter = self.counters.entry(key).or_insert((0, expires_at));
                    counter.0 = counter.0.saturating_add(n);
                    if counter.0 > max {
                        let what = format!("intent {}: it takes a budget to {} of {max}", record.input.id, counter.0);
                        return Err(fail(Check::Decision, index, what));
                    }
                }
                Effect::Open { expires_at, .. } => {
                    self.open.insert(record.input.id, expires_at);
                }
            }
        }
        self.report.decisions += 1;
        self.report.allowed += u64::from(permits);
        Ok(())
    }

    /// I1: what permits has exactly one grant, by the environment's rules, and nothing else has one.
    fn grant(&mut self, index: u64, record: &DecisionRecord) -> Result<(), Failure> {
        let wrong = |what: &str| fail(Check::Durable, index, format!("intent {}: {what}", record.input.id));
        let environment = &record.input.intent.environment;
        let (grant, true) = (&record.grant, record.decision.decision.permits()) else {
            return if record.grant.is_none() { Ok(()) } else { Err(wrong("a grant without an allow")) };
        };
        let grant = grant.as_ref().ok_or_else(|| wrong("an allow without its grant"))?;
        let known = self.state.as_ref().and_then(|s| s.environments.get(environment));
        let known = known.ok_or_else(|| wrong("its environment does not exist"))?;
        let iat = record.input.at.as_secs();
        if grant.iat != iat || grant.exp != iat + i64::from(known.settings.token_ttl_secs) {
            return Err(wrong("the grant's times are not those of the environment's settings"));
        }
        if !known.keys.iter().any(|k| k.kid == grant.kid && k.status == KeyStatus::Active) {
            return Err(wrong("the grant names a key that was not active"));
        }
        let granted =
            Granted { index, intent: record.input.id, environment: environment.as_str().into(), exp: grant.exp };
        if self.granted.insert(grant.jti.clone(), granted).is_some() {
            return Err(wrong("its token id was granted before"));
        }
        Ok(())
    }

    /// There are more entries than were signed for, up to `size`: they are taken too, and counted.
    /// Their tree is held against nothing but itself.
    pub fn beyond(&mut self, size: u64) {
        self.report.unsigned = size.saturating_sub(self.header.size);
        self.header.size = self.header.size.max(size);
    }

    /// Holds the working facts of a store against what the ledger says (I7): `facts` are all that
    /// the store has, of the same snapshot as the entries, in any order. A fact may be missing once
    /// `now` is past the time that it is needed for.
    pub fn facts(&mut self, facts: impl IntoIterator<Item = (String, Vec<u8>)>, now: Timestamp) -> Result<(), Failure> {
        let wrong = |what: String| fail(Check::Fact, None, what);
        let (mut expected, mut held): (HashMap<String, (Vec<u8>, Timestamp)>, u64) = (HashMap::new(), 0);
        let after = |exp: i64| Timestamp::from_millis(exp.saturating_mul(1000));
        for jti in &self.consumed {
            let exp = self.granted.get(jti).map_or(0, |g| g.exp);
            expected.insert(keys::consumed(jti), (b"1".to_vec(), after(exp)));
        }
        for jti in &self.revoked {
            let exp = self.granted.get(jti).map_or(0, |g| g.exp);
            expected.insert(keys::revoked(jti), (exp.to_string().into_bytes(), after(exp)));
        }
        for (intent, expires_at) in &self.open {
            let value = expires_at.as_millis().to_string().into_bytes();
            expected.insert(keys::open(intent), (value, Timestamp::from_millis(i64::MAX)));
        }
        for (key, (sum, until)) in &self.counters {
            expected.insert(key.clone(), (sum.to_string().into_bytes(), *until));
        }
        for (key, kept) in &self.sessions {
            let value = serde_json::to_vec(kept).map_err(|e| wrong(e.to_string()))?;
            expected.insert(key.clone(), (value, kept.expires_at));
        }
        for (key, value) in facts {
            if !FACTS.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            match expected.remove(&key) {
                Some((expected, _)) if expected == value => held += 1,
                Some(_) => return Err(wrong(format!("the fact `{key}` is not what the ledger says"))),
                None => return Err(wrong(format!("the fact `{key}` follows from no entry of the ledger"))),
            }
        }
        if let Some(key) = expected.into_iter().filter(|(_, (_, until))| *until > now).map(|(key, _)| key).min() {
            return Err(wrong(format!("the fact `{key}` is missing")));
        }
        self.report.facts = Some(held);
        Ok(())
    }

    /// All entries were taken: the tree must be the signed one, and whole.
    pub fn finish(mut self) -> Result<Report, Failure> {
        let size = self.frontier.size();
        if size != self.header.size {
            let what =
                format!("the checkpoint signs {} entries, {size} are here: the tail is missing", self.header.size);
            return Err(fail(Check::Tree, None, what));
        }
        self.report.checkpoints = self.signed.len() as u64;
        self.report.root = self.frontier.root().to_string();
        Ok(self.report)
    }
}

const fn kind_is_control(event: &Event) -> bool {
    event.kind().is_control()
}
