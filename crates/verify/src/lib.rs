//! Re-execution of a ledger, from an export alone: no server, no database, no clock.
//!
//! Entry by entry: its bytes are canonical and stand where they say (hashes, tree, checkpoints), it
//! can follow what is before it (fold), and if it is a decision, deciding it again on the state of
//! its position gives the same decision. The invariants I1 to I6 are checked besides, by rules of
//! their own that do not call the engine where that is possible: two different ways to the same no.
//!
//! The first entry that fails is named, with what differs; nothing after it is looked at. What was
//! signed last is known only to those who kept it: [`Verifier::kept`] takes a checkpoint from elsewhere,
//! without which a ledger that was cut back to an earlier state of its own looks like a young one.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod authority;
mod difference;
mod emergency;
pub mod incident;
mod outcomes;
pub mod timeline;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use intended_engine::approvals::{self, Request, only_adds_context};
use intended_engine::effects::{self, effects};
use intended_engine::{Effect, KeptSession, KeyStatus, SignIns, State, decide, keys, needs};
use intended_ledger::{
    BLOCK, Checkpoint, ExportHeader, Frontier, Leaf, NodeHash, NoteVerifier, check_canonical, leaf_hash,
};
use intended_model::decision::{ApprovalRef, Decision, DecisionRecord, Input, Outcome, PROCEDURE, SessionContext};
use intended_model::entry::{
    ApprovalGranted, ApprovalNote, BODY_VERSION, BreakerClosed, BreakerOpened, BreakerProbing, DeployCause,
    EscalationClosed, KeyAdded, Scope,
};
use intended_model::json::{compact, written};
use intended_model::{Class, Code, CredentialId, Digest, EnvironmentId, Event, IntentId, Kind, Timestamp, synthetic};
use intended_token::{Jwk, JwkSet, KeySet};

use crate::difference::difference;
use crate::emergency::{Emergencies, Facts};
use crate::outcomes::Outcomes;

/// Longest time between deciding and being recorded, in milliseconds: the runtime's own deadline.
pub const MAX_LAG_MS: i64 = 10_000;

/// How long after its time an escalation may stay open: the runtime closes them every second.
const OVERDUE_MS: i64 = 60_000;

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
    /// A breaker that opened or closed as it must not.
    Breaker,
    /// What came of an action that nobody was let through to do, or said twice.
    Outcome,
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
            Self::Breaker => "breaker",
            Self::Outcome => "outcome",
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
pub const FACTS: [&str; 9] = [
    keys::APPROVALS_PREFIX,
    keys::CONSUMED_PREFIX,
    keys::REVOKED_PREFIX,
    keys::OPEN_PREFIX,
    keys::BUDGET_PREFIX,
    keys::PROBE_PREFIX,
    keys::SESSION_PREFIX,
    keys::OUTCOME_PREFIX,
    keys::SIGN_IN_PREFIX,
];

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
    /// Escalations that were still open long after their time: nothing was allowed by them, and no
    /// server was there to say so.
    pub overdue: u64,
    /// Working facts that were held against the ledger; absent for an export, which has none.
    pub facts: Option<u64>,
    pub root: String,
    /// Where it goes on from copies of itself.
    pub restored: Vec<Restored>,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

/// Where a ledger goes on from a copy of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Of the entry that says so: so many entries were copied.
    pub index: u64,
    /// How many entries after those are known to be lost.
    pub lost: u64,
}

/// A body in canonical form.
enum Body {
    /// What stands there is how it is written.
    Decision(Box<DecisionRecord>),
    /// Not held against its type yet.
    Other(intended_model::Value),
}

impl Body {
    /// Most entries are decisions that were written as they are read: those need no second look. Of
    /// everything else it is said what is wrong with it.
    fn read(leaf: &Leaf<'_>) -> Result<Self, String> {
        let is_decision = leaf.kind == Kind::Decision.as_str();
        match is_decision.then(|| written::read::<Box<DecisionRecord>>(leaf.body)).flatten() {
            Some(record) if record.v == BODY_VERSION => Ok(Self::Decision(record)),
            _ => check_canonical(leaf.body).map(Self::Other).map_err(|e| e.to_string()),
        }
    }
}

/// One event has one spelling: what the types leave out or fill in is not free to choose.
fn event_of(kind: Kind, text: &str, body: &intended_model::Value) -> Result<Event, String> {
    let event = Event::parse(kind, body).map_err(|e| e.to_string())?;
    if event.version() != BODY_VERSION {
        return Err(format!("its body has the version {}; this release reads {BODY_VERSION}", event.version()));
    }
    let written = match &event {
        // Declared in canonical order.
        Event::Decision(record) => compact::to_string(record, text.len()).map_err(|e| e.to_string())?,
        other => other.to_canonical().map_err(|e| e.to_string())?,
    };
    if written == text {
        return Ok(event);
    }
    let again = check_canonical(&written).map_err(|e| e.to_string())?;
    let (pointer, is, wanted) = difference(body, &again).unwrap_or_default();
    Err(format!("its body is not as it is written: `{pointer}` is {is}, written is {wanted}"))
}

/// A token's id, as it is before it is written.
type TokenId = [u8; 32];

fn token_id(jti: &str) -> Option<TokenId> {
    intended_token::from_base64url(jti)?.try_into().ok()
}

struct Granted {
    class: Class,
    index: u64,
    intent: IntentId,
    environment: EnvironmentId,
    exp: i64,
    kid: Arc<str>,
}

/// An escalation or deferral that waits.
struct Open {
    expires_at: Timestamp,
    /// Ledger position of the decision that first asked for it.
    request: u64,
    record: Box<DecisionRecord>,
}

impl Open {
    fn environment(&self) -> &EnvironmentId {
        &self.record.input.intent.environment
    }
    fn credential(&self) -> &CredentialId {
        &self.record.input.credential
    }
    fn outcome(&self) -> Outcome {
        self.record.decision.decision
    }
    fn policy(&self) -> Option<Digest> {
        self.record.decision.policy.as_ref().map(|p| p.digest)
    }
}

/// A budget's window.
struct Counter {
    sum: i64,
    /// Until when it is needed.
    until: Timestamp,
    /// Earlier sums and when each was replaced.
    past: VecDeque<(i64, Timestamp)>,
}

impl Counter {
    /// A decision of time `at` can have seen what stood when it read. What is recorded as earlier may
    /// have been committed up to [`MAX_LAG_MS`] later.
    fn stood(&self, seen: i64, at: Timestamp) -> bool {
        let lately = |(sum, replaced): &(i64, Timestamp)| *sum == seen && replaced.plus_millis(MAX_LAG_MS) >= at;
        self.sum == seen || self.past.iter().any(lately)
    }
    fn add(&mut self, n: i64, at: Timestamp) {
        self.past.push_back((self.sum, at));
        // Entries to come are evaluated at most `MAX_LAG_MS` before their own time.
        while self.past.front().is_some_and(|(_, replaced)| replaced.plus_millis(2 * MAX_LAG_MS) < at) {
            self.past.pop_front();
        }
        self.sum = self.sum.saturating_add(n);
    }
}

/// What a store says of its ledger besides the entries: all of it follows from them.
#[derive(Debug, Clone)]
pub struct StoredHead {
    pub size: u64,
    pub root: NodeHash,
    /// How many control entries there are.
    pub control: u64,
    /// The root of each whole block of [`BLOCK`] entries, in order.
    pub blocks: Vec<NodeHash>,
}

/// Takes a ledger's entries in order.
pub struct Verifier {
    header: ExportHeader,
    /// Roots that were signed, by size.
    signed: BTreeMap<u64, NodeHash>,
    frontier: Frontier,
    /// The root before the entry at hand, where that says that the ledger was restored.
    copied: Option<NodeHash>,
    /// The largest size so far whose root was signed.
    held: u64,
    stored: Option<StoredHead>,
    state: Option<State>,
    /// The newest decision procedure so far.
    procedure: u32,
    last_at: Timestamp,
    sessions: HashMap<String, KeptSession>,
    /// Of people who signed in.
    sign_ins: SignIns,
    counters: HashMap<String, Counter>,
    open: HashMap<IntentId, Open>,
    granted: HashMap<TokenId, Granted>,
    /// The key of the token that was granted last: most are of few.
    kid: Arc<str>,
    consumed: HashSet<TokenId>,
    revoked: HashSet<TokenId>,
    seen: HashSet<IntentId>,
    approvals: HashMap<u64, ApprovalGranted>,
    /// How many approvals each person gave in each hour, and until when that is needed.
    given: HashMap<String, (u32, Timestamp)>,
    emergencies: Emergencies,
    /// Of tokens that may not have expired, what halts and revocations ask.
    alive: HashMap<TokenId, Box<Facts>>,
    /// When to forget it, about in order.
    ends: VecDeque<(i64, TokenId)>,
    outcomes: Outcomes,
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
            copied: None,
            held: 0,
            stored: None,
            state: None,
            procedure: 0,
            last_at: Timestamp::default(),
            sessions: HashMap::new(),
            sign_ins: SignIns::default(),
            counters: HashMap::new(),
            open: HashMap::new(),
            granted: HashMap::new(),
            kid: Arc::default(),
            consumed: HashSet::new(),
            revoked: HashSet::new(),
            seen: HashSet::new(),
            approvals: HashMap::new(),
            given: HashMap::new(),
            emergencies: Emergencies::default(),
            alive: HashMap::new(),
            ends: VecDeque::new(),
            outcomes: Outcomes::default(),
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
        let body = Body::read(&leaf).map_err(at)?;
        self.copied = (leaf.kind == Kind::LedgerRestored.as_str()).then(|| self.frontier.root());
        let block = self.frontier.push(leaf_hash(bytes));
        self.check_tree(block)?;
        let kind =
            Kind::parse(leaf.kind).ok_or_else(|| at(format!("the kind `{}` is unknown to this release", leaf.kind)))?;
        let event = match body {
            Body::Decision(record) => Event::Decision(*record),
            Body::Other(body) => event_of(kind, leaf.body, &body).map_err(at)?,
        };
        self.last_at = leaf.at;
        self.report.first_at.get_or_insert(leaf.at);
        self.report.last_at = Some(leaf.at);
        self.report.entries += 1;
        self.event(index, leaf.at, event)
    }

    /// Holds the tree against what was signed, and against the blocks that a store keeps.
    fn check_tree(&mut self, block: Option<NodeHash>) -> Result<(), Failure> {
        let size = self.frontier.size();
        let altered = |what: String| Err(fail(Check::Tree, size.checked_sub(1), what));
        if let Some(root) = self.signed.get(&size) {
            if *root != self.frontier.root() {
                let place = match self.held {
                    0 => format!("before the checkpoint of size {size}"),
                    held => format!("between the checkpoints of size {held} and {size}"),
                };
                // A checkpoint of what was lost signs for another history, and that is what it is there for.
                let restored = self.report.restored.iter().rev().find(|r| r.index < size).map_or_else(
                    || format!("an entry {place} was altered"),
                    |r| format!(
                        "the ledger says of itself that it was restored from a copy of its first {0} entries (entry {0}), \
                         and what was signed for is another history after those; or an entry {place} was altered",
                        r.index
                    ),
                );
                return altered(format!(
                    "the tree of {size} entries does not have the root that was signed: {restored}"
                ));
            }
            self.held = size;
        }
        let Some((stored, block)) = self.stored.as_ref().zip(block) else { return Ok(()) };
        let nth = usize::try_from(size / BLOCK - 1).ok();
        if nth.and_then(|n| stored.blocks.get(n)) != Some(&block) {
            let from = size - BLOCK;
            return altered(format!(
                "the entries {from} to {} do not have the root that the store keeps of them: one was altered",
                size - 1
            ));
        }
        Ok(())
    }

    fn event(&mut self, index: u64, at: Timestamp, event: Event) -> Result<(), Failure> {
        if let Some(what) = self.state.as_ref().and_then(|state| authority::refuse(state, self.procedure, &event, at)) {
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
                let granted = token_id(&consumed.jti).and_then(|jti| Some((jti, self.granted.get(&jti)?)));
                let (jti, granted) = granted.ok_or_else(|| wrong("no decision before it granted it"))?;
                if granted.intent != consumed.intent || granted.environment != consumed.environment {
                    return Err(wrong("it was granted for another intent or environment"));
                }
                if granted.class != consumed.class {
                    return Err(wrong("it was granted to an intent of another class"));
                }
                if self.revoked.contains(&jti) {
                    return Err(wrong("it was revoked before"));
                }
                let place = self.state.as_ref().and_then(|s| s.environments.get(&consumed.environment));
                if place.is_some_and(|e| e.suspended.is_some()) {
                    return Err(wrong("its environment was suspended"));
                }
                if at.as_secs() > granted.exp + MAX_LAG_MS / 1000 {
                    return Err(wrong("it had expired"));
                }
                let facts = self.alive.get(&jti).ok_or_else(|| wrong("nothing is known of it any more"))?;
                if let Some(halt) = self.emergencies.killed(facts, granted.index) {
                    let what =
                        format!("token of intent {} was consumed under or after the halt `{halt}`", consumed.intent);
                    return Err(fail(Check::Halt, index, what));
                }
                if let Some(at) = self.emergencies.revoked(facts, granted.index) {
                    return Err(wrong(&format!("entry {at} had revoked it with others")));
                }
                let keys = self.state.as_ref().and_then(|s| s.environments.get(&consumed.environment)).map(|e| &e.keys);
                if keys.is_none_or(|k| k.iter().any(|k| *k.kid == *granted.kid && k.status == KeyStatus::Retired)) {
                    return Err(wrong("its key was retired before"));
                }
                if !self.consumed.insert(jti) {
                    return Err(wrong(&format!("consumed twice; granted by entry {}", granted.index)));
                }
                // Nothing comes of a self-test: nobody acts on it.
                if granted.class.is_traffic() {
                    self.outcomes.used(&consumed, granted.exp);
                }
                self.report.consumptions += 1;
                Ok(())
            }
            Event::TokenRevoked(revoked) => {
                let wrong = |what: &str| {
                    fail(
                        Check::Consumption,
                        index,
                        format!("revocation of a token of intent {}: {what}", revoked.intent),
                    )
                };
                let granted = token_id(&revoked.jti).and_then(|jti| Some((jti, self.granted.get(&jti)?)));
                let (jti, granted) = granted.ok_or_else(|| wrong("no decision before it granted it"))?;
                if granted.intent != revoked.intent
                    || granted.environment != revoked.environment
                    || granted.exp != revoked.exp
                {
                    return Err(wrong("it was granted for another intent, environment or time"));
                }
                if !self.revoked.insert(jti) {
                    return Err(wrong("it was revoked before"));
                }
                Ok(())
            }
            Event::EscalationClosed(closed) => self.closed(index, at, &closed),
            Event::ApprovalNote(note) => self
                .note(at, &note)
                .map_err(|what| fail(Check::Approval, index, format!("note on intent {}: {what}", note.intent))),
            Event::SessionStarted(started) => {
                let wrong =
                    |what: String| fail(Check::Authority, index, format!("session of `{}`: {what}", started.member));
                let state = self.state.as_ref().ok_or_else(|| wrong("there is no tenant".to_owned()))?;
                let asked = at.plus_millis(-MAX_LAG_MS);
                self.sign_ins.start(state, &started, asked).map_err(|e| wrong(e.to_string()))
            }
            Event::SessionEnded(ended) => {
                let wrong = |what: String| fail(Check::Authority, index, format!("end of a session: {what}"));
                self.sign_ins.end(&ended).map_err(|e| wrong(e.to_string()))
            }
            Event::IntentOutcome(outcome) => self
                .outcomes
                .reported(self.state.as_ref(), at, &outcome)
                .map_err(|what| fail(Check::Outcome, index, format!("outcome of intent {}: {what}", outcome.intent))),
            _ => Ok(()),
        }
    }

    /// What waits ends without being allowed: its time is over, or somebody denied it who has a say.
    fn closed(&mut self, index: u64, at: Timestamp, closed: &EscalationClosed) -> Result<(), Failure> {
        let wrong = |what: &str| fail(Check::Decision, index, format!("closing of intent {}: {what}", closed.intent));
        let open = self.open.remove(&closed.intent).ok_or_else(|| wrong("it was not open"))?;
        if open.expires_at != closed.expires_at || *open.environment() != closed.environment {
            return Err(wrong("it was open in another environment or until another time"));
        }
        match (closed.reason, &closed.by, &closed.note) {
            (Code::EscalationTimedOut, None, None) if at < open.expires_at => {
                return Err(wrong("it was closed before its time"));
            }
            (Code::EscalationTimedOut, None, None) => {}
            (Code::EscalationDenied, Some(by), Some(_)) => {
                let state = self.state.as_ref().ok_or_else(|| wrong("there is no tenant"))?;
                let denies = |what: &str| fail(Check::Approval, index, format!("denial of {}: {what}", closed.intent));
                if open.outcome() != Outcome::Escalate {
                    return Err(denies("it waits for context, not for people"));
                }
                if at >= open.expires_at.plus_millis(MAX_LAG_MS) {
                    return Err(denies("its time was over"));
                }
                let member = state.member_behind(by).ok_or_else(|| denies("nobody denied it"))?;
                let request = Request::of(&open.record, open.request);
                approvals::may_decide(state, &request, by, &member, at.plus_millis(-MAX_LAG_MS))
                    .map_err(|why| denies(why.why()))?;
            }
            (Code::EscalationCancelled, Some(by), None) => {
                // Whoever asked for it wants it no more, and is still who may ask.
                let state = self.state.as_ref().ok_or_else(|| wrong("there is no tenant"))?;
                let may = authority::access(state, by, at)
                    .is_ok_and(|a| a.may(Scope::IntentSubmit, Some(open.environment())));
                if *by != open.record.input.credential || !may || open.outcome() != Outcome::Escalate {
                    return Err(wrong("it was cancelled by somebody who had not asked for it, or could not"));
                }
            }
            _ => return Err(wrong("it is closed for another reason than time or a person's word")),
        }
        // Who waited for it in its session waits no more.
        let wanted = self
            .state
            .as_ref()
            .and_then(|s| needs(s, open.record.input.procedure, &open.record.input.intent, at).session);
        if let Some(key) = wanted
            && let Some(kept) = self.sessions.get(&key).and_then(|kept| effects::closed(kept, closed.intent))
        {
            self.sessions.insert(key, kept);
        }
        Ok(())
    }

    /// A question is somebody's who may decide here, an answer theirs who asked for the action.
    fn note(&self, at: Timestamp, note: &ApprovalNote) -> Result<(), &'static str> {
        let open = self.open.get(&note.intent).ok_or("the intent is not open")?;
        if *open.environment() != note.environment || open.outcome() != Outcome::Escalate {
            return Err("it waits in another environment, or not for people");
        }
        if at >= open.expires_at.plus_millis(MAX_LAG_MS) {
            return Err("its time was over");
        }
        if note.answer {
            return if note.by == *open.credential() { Ok(()) } else { Err("it was asked for by somebody else") };
        }
        let state = self.state.as_ref().ok_or("there is no tenant")?;
        if state.member_behind(&note.by).is_none() { Err("nobody asked it") } else { Ok(()) }
    }

    /// How many approvals somebody gave in an hour, this one among them.
    fn rate(&mut self, at: Timestamp, approval: &ApprovalGranted) -> Result<(), &'static str> {
        let given_at = approval.at.ok_or("it does not say when it was given")?;
        if given_at > at || at.millis_since(given_at) > MAX_LAG_MS {
            return Err("it says that it was given at another time");
        }
        let most = self.state.as_ref().and_then(|s| s.environments.get(&approval.environment));
        let most = most.map_or(0, |e| e.settings.approvals.max_per_person_per_hour);
        let (key, until) = keys::approvals(&approval.environment, &approval.approver, given_at);
        let (given, _) = self.given.entry(key).or_insert((0, until));
        *given += 1;
        if most > 0 && *given > most { Err("it is more than one person may approve in an hour") } else { Ok(()) }
    }

    fn control(&mut self, index: u64, at: Timestamp, event: &Event) -> Result<(), Failure> {
        if let Some(what) = self.state.as_ref().and_then(|state| emergency::untimely(state, event, at)) {
            return Err(fail(Check::Fold, index, what));
        }
        match event {
            Event::ApprovalWithdrawn(gone) => {
                let open = self.open.get(&gone.intent).filter(|o| *o.environment() == gone.environment);
                if open.is_none_or(|o| at >= o.expires_at.plus_millis(MAX_LAG_MS)) {
                    let what = format!("withdrawal of {}: it does not wait any more", gone.intent);
                    return Err(fail(Check::Approval, index, what));
                }
            }
            Event::ApprovalGranted(approval) => {
                let rated = if approval.request.is_some() { self.rate(at, approval) } else { Ok(()) };
                rated.and_then(|()| self.approval(at, approval)).map_err(|what| {
                    let by = &approval.approver;
                    fail(Check::Approval, index, format!("approval of {} by `{by}`: {what}", approval.intent))
                })?;
                self.approvals.insert(index, approval.clone());
            }
            Event::LedgerRestored(restored) => {
                let root = self.copied.map(|root| root.to_base64());
                if restored.copied.size != index || root.as_deref() != Some(&*restored.copied.root) {
                    let what = "it says that another ledger was copied than the one before it";
                    return Err(fail(Check::Tree, index, what));
                }
                let lost = restored.lost.as_ref().map_or(0, |lost| lost.size.saturating_sub(index));
                self.report.restored.push(Restored { index, lost });
            }
            Event::PolicyVerified(verified) if !(0..=MAX_LAG_MS).contains(&at.millis_since(verified.at)) => {
                let what = format!("the verification of {} was made at another time", verified.digest);
                return Err(fail(Check::Fold, index, what));
            }
            Event::PolicyDeployed(deployed) if deployed.cause == DeployCause::Rollback => {
                let environment = self.state.as_ref().and_then(|s| s.environments.get(&deployed.environment));
                let alone = environment.zip(self.state.as_ref()).is_some_and(|(e, s)| s.rollback_people(e) < 2);
                let asked = environment.and_then(|e| e.rollback.as_ref());
                if !alone && asked.is_some_and(|p| at >= p.expires_at.plus_millis(MAX_LAG_MS)) {
                    let what = format!("the rollback of `{}` was asked for too long ago", deployed.environment);
                    return Err(fail(Check::Fold, index, what));
                }
            }
            Event::BreakerOpened(BreakerOpened { at: said, breaker, .. })
            | Event::BreakerProbing(BreakerProbing { at: said, breaker, .. })
            | Event::BreakerClosed(BreakerClosed { at: said, breaker, .. })
                if !(0..=MAX_LAG_MS).contains(&at.millis_since(*said)) =>
            {
                return Err(fail(Check::Breaker, index, format!("the breaker `{breaker}` changed at another time")));
            }
            Event::BreakerClosed(closed) => {
                let breakers = self.state.as_ref().map(|s| &s.breakers);
                self.outcomes.closed(breakers, closed).map_err(|what| {
                    fail(Check::Breaker, index, format!("the breaker `{}` closed, and {what}", closed.breaker))
                })?;
            }
            Event::KeyAdded(added) if !usable(added) => {
                return Err(fail(Check::Fold, index, format!("the key `{}` is none that verifies tokens", added.kid)));
            }
            _ => {}
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
                    let check = match event {
                        Event::ApprovalGranted(_) => Check::Approval,
                        Event::BreakerOpened(_) | Event::BreakerProbing(_) | Event::BreakerClosed(_) => Check::Breaker,
                        _ => Check::Fold,
                    };
                    fail(check, index, e.to_string())
                })?;
            }
        }
        self.emergencies.note(index, event);
        self.report.control += 1;
        Ok(())
    }

    /// I5: an approval is of exactly what waits, by somebody else than who asks, with a credential of
    /// their own.
    fn approval(&self, at: Timestamp, approval: &ApprovalGranted) -> Result<(), &'static str> {
        let open = self.open.get(&approval.intent).ok_or("the intent is not open")?;
        if open.outcome() != Outcome::Escalate {
            return Err("the intent waits for context, not for people");
        }
        // It was given in time; that it is recorded can take a little longer.
        let given = approval.at.unwrap_or(at);
        if given >= open.expires_at || !(0..=MAX_LAG_MS).contains(&at.millis_since(given)) {
            return Err("the escalation had timed out");
        }
        if approval.intent_hash != open.record.input.intent_hash
            || Some(approval.policy) != open.policy()
            || approval.environment != *open.environment()
        {
            return Err("what waits is another intent, under another policy version or in another environment");
        }
        let state = self.state.as_ref().ok_or("there is no tenant")?;
        if state.member_behind(&approval.by).as_ref() != Some(&approval.approver) {
            return Err("it was not given with a credential of the approver's own");
        }
        if state.member_behind(open.credential()).as_ref() == Some(&approval.approver) {
            return Err("nobody approves what they asked for");
        }
        if open.record.input.procedure == 1 {
            return Ok(());
        }
        if approval.request != Some(open.request) {
            return Err("it was given for another request than the one that waits");
        }
        if approval.expires_at > open.expires_at {
            return Err("it is good for longer than what it approves");
        }
        let request = Request::of(&open.record, open.request);
        // Which step is next is as it was then; whether the approver may is judged with what recording it
        // takes, as with every other entry.
        let progress = approvals::progress(state, &open.record, given);
        let then = at.plus_millis(-MAX_LAG_MS);
        approvals::may_approve(state, &request, &progress, &approval.by, &approval.approver, then)
            .map_err(|why| why.why())
    }

    /// I5: a decision that counts approvals is the second one of an intent that waits, unchanged and
    /// asked for by the same, and counts what was approved of it. What it decides for good is used up.
    fn decided_again(&self, input: &Input) -> Result<(), String> {
        let open = self.open.get(&input.id).ok_or("it counts approvals and does not wait for any")?;
        if input.at >= open.expires_at {
            return Err("it counts approvals after its time".to_owned());
        }
        if self.state.as_ref().is_some_and(|s| s.from_before_a_copy(open.request)) {
            return Err("it waited when the ledger was restored from a copy, and ends by its time".to_owned());
        }
        if input.intent.environment != *open.environment() || input.credential != *open.credential() {
            return Err("it is not the intent that waits, or somebody else's".to_owned());
        }
        if input.procedure > 1 {
            if input.expires_at != Some(open.expires_at) {
                return Err("it does not say until when it waits".to_owned());
            }
            if input.audience != open.record.input.audience {
                return Err("its token is for somebody else".to_owned());
            }
        }
        let same = input.intent_hash == open.record.input.intent_hash;
        match open.outcome() {
            Outcome::Defer => return self.resumed(input, open, same),
            _ if !same => return Err("it is not the intent that waits, or somebody else's".to_owned()),
            _ => {}
        }
        // Without approvals there is nothing to decide again, unless they would no longer count.
        let policy = self.state.as_ref().and_then(|s| s.environments.get(open.environment()));
        let policy = policy.and_then(|e| e.deployed.as_ref()).map(|v| v.digest);
        if input.approvals.is_empty() && policy == open.policy() {
            return Err("it is decided again without anything that is new".to_owned());
        }
        let recorded = |a: &ApprovalRef| {
            self.approvals.get(&a.entry).is_some_and(|k| {
                k.intent == input.id
                    && k.approver == a.approver
                    && k.intent_hash == a.intent_hash
                    && k.policy == a.policy
                    && k.expires_at == a.expires_at
            })
        };
        match input.approvals.iter().find(|a| !recorded(a)) {
            None => Ok(()),
            Some(a) => Err(format!("it counts an approval by `{}` that the ledger does not hold", a.approver)),
        }
    }

    /// What was deferred is decided again when what was missing is there, which only adds to it, or when
    /// what it waited for in its session is settled.
    fn resumed(&self, input: &Input, open: &Open, same: bool) -> Result<(), String> {
        if !input.approvals.is_empty() {
            return Err("it counts approvals and waits for none".to_owned());
        }
        if !same {
            return match only_adds_context(&open.record.input.intent, &input.intent) {
                true => Ok(()),
                false => Err("more than its context is new".to_owned()),
            };
        }
        let waited = open.record.decision.reason == Code::SessionWaiting;
        let first = input.session.as_ref().is_none_or(|s| s.waiting.first().is_none_or(|w| *w == input.id));
        if waited && first { Ok(()) } else { Err("it is decided again without anything that is new".to_owned()) }
    }

    fn decision(&mut self, index: u64, at: Timestamp, record: DecisionRecord) -> Result<(), Failure> {
        let wrong = |what: String| fail(Check::Decision, index, format!("intent {}: {what}", record.input.id));
        let state =
            self.state.as_ref().ok_or_else(|| fail(Check::Fold, index, "a decision before the tenant exists"))?;
        let input = &record.input;
        let permits = record.decision.decision.permits();

        // I2, without the engine: no halt in force covers an allow.
        let halted = if permits { self.emergencies.halted(&Facts::of(state, &record)) } else { None };
        if let Some(halt) = halted {
            return Err(fail(Check::Halt, index, format!("intent {} was allowed under the halt `{halt}`", input.id)));
        }
        if !(1..=PROCEDURE).contains(&input.procedure) {
            return Err(wrong(format!("decided by procedure {}, which this release does not have", input.procedure)));
        }
        self.procedure = self.procedure.max(input.procedure);
        if input.control != state.control {
            return Err(wrong(format!("decided on state {}, but the state here is {}", input.control, state.control)));
        }
        if input.at > at || at.millis_since(input.at) > MAX_LAG_MS {
            return Err(wrong(format!("evaluated at {}, recorded at {at}", input.at)));
        }
        if input.intent.digest().ok() != Some(input.intent_hash) {
            return Err(wrong("the intent does not have the hash that is recorded".to_owned()));
        }
        if !input.approvals.is_empty() || input.expires_at.is_some() {
            self.decided_again(input)
                .map_err(|what| fail(Check::Approval, index, format!("intent {}: {what}", input.id)))?;
        } else if !self.seen.insert(input.id) {
            return Err(wrong("this intent was decided before".to_owned()));
        }
        // Until it expires a credential is good for what it asks; what it asked for is recorded later.
        let scope = self_test(&record).map_err(|what| wrong(what.to_owned()))?;
        let able = authority::access(state, &input.credential, input.at)
            .is_ok_and(|access| access.may(scope, Some(&input.intent.environment)));
        if !able {
            return Err(wrong(format!("the credential `{}` could not submit it", input.credential)));
        }
        if input.catalogue != state.catalogue.digest() {
            return Err(wrong(format!("classified by the catalogue {}, which is not the one here", input.catalogue)));
        }
        if state.classify(input.procedure, &input.intent.action.name) != input.classification {
            return Err(wrong("the recorded classification is not the catalogue's".to_owned()));
        }
        // I7: what it says it saw is what the ledger before it says.
        let wanted = needs(state, input.procedure, &input.intent, input.at);
        let session = wanted.session.as_ref().map(|key| match self.sessions.get(key) {
            Some(kept) if input.at < kept.expires_at => kept.context.clone(),
            _ => SessionContext::default(),
        });
        if session != input.session {
            return Err(wrong("the recorded session context is not what the ledger says".to_owned()));
        }
        for budget in wanted.counters() {
            let Some(seen) = input.counters.get(budget.key.as_str()).copied() else {
                return Err(wrong(format!("it does not say how the budget `{}` stood", budget.id)));
            };
            // It may lag behind concurrent decisions, and only behind those.
            let counter = self.counters.get(&budget.key);
            if !counter.map_or(seen == 0, |c| c.stood(seen, input.at)) {
                let now = counter.map_or(0, |c| c.sum);
                return Err(wrong(format!("the budget `{}` stood at {now}, it says {seen}", budget.id)));
            }
        }
        if input.counters.len() != wanted.counters().count() {
            return Err(wrong("it says how a budget stood that does not apply".to_owned()));
        }
        let again = decide(state, input);
        if again != record.decision {
            return Err(wrong(differs(&record.decision, &again)));
        }
        self.grant(index, &record)?;
        let state = self.state.as_ref().ok_or_else(|| fail(Check::Fold, index, "no state"))?;
        for effect in effects(state, &record) {
            match effect {
                Effect::Session { key, context, expires_at } => {
                    self.sessions.insert(key, KeptSession { context, expires_at });
                }
                Effect::Count { key, n, max, expires_at } => {
                    let fresh = || Counter { sum: 0, until: expires_at, past: VecDeque::new() };
                    let counter = self.counters.entry(key).or_insert_with(fresh);
                    counter.add(n, at);
                    if counter.sum > max {
                        let what = format!("intent {}: it takes a budget to {} of {max}", record.input.id, counter.sum);
                        return Err(fail(Check::Decision, index, what));
                    }
                }
                Effect::Close { .. } => {
                    self.open.remove(&record.input.id);
                }
                Effect::Open { expires_at, .. } => {
                    let before = self.open.get(&record.input.id).map(|o| (o.request, &*o.record));
                    let asked = approvals::requested_at(before.into_iter().chain([(index, &record)]));
                    let open = Open { expires_at, request: asked.unwrap_or(index), record: Box::new(record.clone()) };
                    self.open.insert(record.input.id, open);
                }
            }
        }
        if permits {
            self.outcomes.permitted(&record);
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
        let facts = self.state.as_ref().map(|s| Facts::of(s, record)).ok_or_else(|| wrong("no state"))?;
        let known = self.state.as_ref().and_then(|s| s.environments.get(environment));
        let known = known.ok_or_else(|| wrong("its environment does not exist"))?;
        let iat = record.input.at.as_secs();
        if grant.iat != iat || grant.exp != iat + i64::from(effects::token_ttl_secs(&known.settings, &record.input)) {
            return Err(wrong("the grant's times are not those of the environment's settings"));
        }
        if record.input.class.is_synthetic() && *grant.aud != *synthetic::NAME {
            return Err(wrong("the grant of a self-test is for somebody who acts"));
        }
        if record.input.audience.as_ref().is_some_and(|audience| *audience != grant.aud) {
            return Err(wrong("the grant is for another audience than the one that was asked for"));
        }
        if !known.keys.iter().any(|k| k.kid == grant.kid && k.status == KeyStatus::Active) {
            return Err(wrong("the grant names a key that was not active"));
        }
        let jti = token_id(&grant.jti).filter(|_| !grant.aud.is_empty());
        let jti = jti.ok_or_else(|| wrong("the grant's token id or audience is none"))?;
        if *self.kid != *grant.kid {
            self.kid = Arc::from(&*grant.kid);
        }
        let granted = Granted {
            class: record.input.class,
            index,
            intent: record.input.id,
            environment: environment.clone(),
            exp: grant.exp,
            kid: Arc::clone(&self.kid),
        };
        self.remember(jti, grant.exp, facts, record.input.at);
        if self.granted.insert(jti, granted).is_some() {
            return Err(wrong("its token id was granted before"));
        }
        Ok(())
    }

    /// Keeps what halts and revocations ask of a token until it has expired.
    fn remember(&mut self, jti: TokenId, exp: i64, facts: Facts, now: Timestamp) {
        while let Some((_, jti)) = self.ends.pop_front_if(|(exp, _)| *exp + 2 * MAX_LAG_MS / 1000 < now.as_secs()) {
            self.alive.remove(&jti);
        }
        self.alive.insert(jti, Box::new(facts));
        self.ends.push_back((exp, jti));
    }

    /// Takes the head of the store that the entries come from, before the first of them. There may be
    /// more entries than were signed for: they are taken too, and counted. Nobody has signed for their
    /// tree; it must be the one that the store's head has.
    pub fn stored(&mut self, head: StoredHead) -> Result<(), Failure> {
        let (size, signed) = (head.size, self.header.size);
        if size < signed {
            let what =
                format!("the checkpoint signs {signed} entries, the store's head has {size}: the tail is missing");
            return Err(fail(Check::Tree, None, what));
        }
        self.report.unsigned = size - signed;
        self.header.size = size;
        self.stored = Some(head);
        Ok(())
    }

    /// Takes a checkpoint of this ledger that was kept elsewhere, before the first entry and after
    /// [`Self::stored`]: the ledger must still begin with what it signs.
    pub fn kept(&mut self, note: &str) -> Result<(), Failure> {
        let at = |what: String| fail(Check::Checkpoint, None, what);
        let key = NoteVerifier::parse(&self.header.vkey).map_err(|e| at(e.to_string()))?;
        let kept = Checkpoint::verified(note, &key).map_err(|e| at(format!("the kept checkpoint: {e}")))?;
        if kept.size > self.header.size {
            return Err(at(format!(
                "a checkpoint that was kept signs {} entries, {} are here: the ledger was taken back",
                kept.size, self.header.size
            )));
        }
        match self.signed.insert(kept.size, kept.root) {
            Some(other) if other != kept.root => {
                Err(at(format!("two checkpoints of size {} have different roots", kept.size)))
            }
            _ => Ok(()),
        }
    }

    /// All entries were taken: there are as many as there must be, and the store's head is theirs.
    pub fn whole(&self) -> Result<(), Failure> {
        let size = self.frontier.size();
        if size != self.header.size {
            let of = if self.report.unsigned > 0 { "the store's head has" } else { "the checkpoint signs" };
            let what = format!("{of} {} entries, {size} are here: the tail is missing", self.header.size);
            return Err(fail(Check::Tree, None, what));
        }
        let Some(stored) = &self.stored else { return Ok(()) };
        if (stored.size, stored.root) != (self.frontier.size(), self.frontier.root()) {
            let what = format!(
                "the {} entries after the checkpoint of size {} do not have the root that the store's head has: one was altered",
                self.report.unsigned, self.held
            );
            return Err(fail(Check::Tree, None, what));
        }
        if stored.control != self.report.control || stored.blocks.len() as u64 != size / BLOCK {
            let what = "the store counts other control entries or blocks than there are";
            return Err(fail(Check::Tree, None, what));
        }
        Ok(())
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
            expected.insert(keys::consumed(&intended_token::base64url(jti)), (b"1".to_vec(), after(exp)));
        }
        for jti in &self.revoked {
            let exp = self.granted.get(jti).map_or(0, |g| g.exp);
            let value = exp.to_string().into_bytes();
            expected.insert(keys::revoked(&intended_token::base64url(jti)), (value, after(exp)));
        }
        for (intent, open) in &self.open {
            let value = open.expires_at.as_millis().to_string().into_bytes();
            expected.insert(keys::open(intent), (value, Timestamp::from_millis(i64::MAX)));
        }
        for (key, (given, until)) in &self.given {
            expected.insert(key.clone(), (given.to_string().into_bytes(), *until));
        }
        self.outcomes.facts(&mut expected);
        for (key, counter) in &self.counters {
            expected.insert(key.clone(), (counter.sum.to_string().into_bytes(), counter.until));
        }
        for (key, kept) in &self.sessions {
            let value = serde_json::to_vec(kept).map_err(|e| wrong(e.to_string()))?;
            expected.insert(key.clone(), (value, kept.expires_at));
        }
        for (session, kept) in self.sign_ins.open() {
            let value = serde_json::to_vec(kept).map_err(|e| wrong(e.to_string()))?;
            expected.insert(keys::sign_in(*session), (value, kept.expires_at));
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
        self.whole()?;
        let overdue = |open: &&Open| open.expires_at.plus_millis(OVERDUE_MS) < self.last_at;
        self.report.overdue = self.open.values().filter(overdue).count() as u64;
        self.report.checkpoints = self.signed.len() as u64;
        self.report.root = self.frontier.root().to_string();
        Ok(self.report)
    }
}

/// What submitting an intent takes. I2 to I5 hold of a self-test as of everything; that it is one, and
/// nothing more, is seen here without the engine.
fn self_test(record: &DecisionRecord) -> Result<Scope, &'static str> {
    let DecisionRecord { decision, input, .. } = record;
    if input.class != Class::of(input.procedure, &input.intent.action.name) {
        return Err("it is recorded as of another class than its tool is");
    }
    if input.class.is_traffic() {
        return Ok(Scope::IntentSubmit);
    }
    let plain = input.intent == synthetic::intent(input.intent.environment.clone()) && input.session.is_none();
    let waits = input.expires_at.is_some() || decision.obligations.expires_at.is_some();
    if decision.decision.permits() && !(plain && input.counters.is_empty() && input.audience.is_none()) {
        return Err("a self-test was allowed that says more than one does");
    }
    if waits || !input.approvals.is_empty() {
        return Err("a self-test waits for nobody");
    }
    Ok(Scope::TokenTest)
}

/// Where the recorded decision and the one made again differ first.
fn differs(recorded: &Decision, again: &Decision) -> String {
    let value = |d: &Decision| {
        let text = serde_json::to_string(d).unwrap_or_default();
        intended_model::json::parse_recorded(text.as_bytes()).unwrap_or(intended_model::Value::Null)
    };
    let (pointer, is, wanted) = difference(&value(recorded), &value(again)).unwrap_or_default();
    format!("deciding again differs: `/decision{pointer}` is recorded as {is} and comes to {wanted}")
}

/// Whether tokens can be verified with the key, under the id and algorithm that the entry names.
fn usable(added: &KeyAdded) -> bool {
    let jwk = intended_model::json::from_value::<Jwk>(&added.jwk).ok();
    jwk.filter(|k| *k.kid == *added.kid && k.alg.as_str() == &*added.alg)
        .is_some_and(|k| KeySet::from_jwks(&JwkSet { keys: vec![k] }).is_ok())
}

const fn kind_is_control(event: &Event) -> bool {
    event.kind().is_control()
}
