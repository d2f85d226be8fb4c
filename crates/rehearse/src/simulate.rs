//! What a version would have decided.
//!
//! The ledger's entries go in, in their order. Control entries are folded, so that each decision is
//! made again on the state of its own position, with one thing exchanged: the version that the
//! environment decides by. The recorded decision is what it is compared with. Each decision stands by
//! itself on its recorded inputs: a session whose earlier action would have been denied is still the
//! session that the decision saw. Nothing is written anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{State, Version, decide};
use intended_ledger::Leaf;
use intended_model::decision::{Decision, DecisionRecord, PROCEDURE};
use intended_model::entry::SimulationSummary;
use intended_model::{Code, Digest, EnvironmentId, Event, IntentId, Kind, Outcome, Timestamp};

/// Most changes that a report lists; all are counted.
pub const MAX_CHANGES: usize = 1_000;
/// Most rows of one breakdown.
pub const MAX_ROWS: usize = 50;

/// Why a recorded decision could not be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skipped {
    /// Its record cannot be read by this release.
    Unreadable,
    /// It was made by a decision procedure that this release does not have.
    Procedure,
    /// There was no environment of that name yet.
    Environment,
}

impl Skipped {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Procedure => "procedure",
            Self::Environment => "environment",
        }
    }
}

/// A decision that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub index: u64,
    pub intent: IntentId,
    pub at: Timestamp,
    pub agent: Box<str>,
    pub action: Box<str>,
    pub category: Box<str>,
    pub resource: Box<str>,
    pub before: Outcome,
    pub before_reason: Code,
    /// Ids of the policies that determined it then.
    pub before_policies: Vec<Box<str>>,
    pub after: Outcome,
    pub after_reason: Code,
    pub after_policies: Vec<Box<str>>,
}

/// How often something changed, by one of its properties.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    pub name: Box<str>,
    pub replayed: u64,
    pub changed: u64,
}

/// What a simulation found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Simulation {
    #[serde(flatten)]
    pub summary: SimulationSummary,
    /// `allow → deny` and the like with their counts, equal ones left out.
    pub transitions: BTreeMap<String, u64>,
    /// The outcome is the same, the reason or the obligation is another.
    pub other_reason: u64,
    /// Why decisions could not be replayed.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The versions that the recorded decisions were made by, with their counts.
    pub recorded_by: BTreeMap<String, u64>,
    pub by_agent: Vec<Row>,
    pub by_action: Vec<Row>,
    pub by_category: Vec<Row>,
    pub by_resource: Vec<Row>,
    /// The first [`MAX_CHANGES`].
    pub changes: Vec<Change>,
}

impl Simulation {
    /// Decisions that come out the same.
    #[must_use]
    pub const fn unchanged(&self) -> u64 {
        self.summary.replayed.saturating_sub(self.summary.changed)
    }
    /// Of the decisions in the window, how many could be replayed, in whole percent, rounded down.
    #[must_use]
    pub fn coverage_percent(&self) -> u64 {
        (self.summary.replayed * 100).checked_div(self.summary.decisions).unwrap_or(100)
    }
}

/// An entry that cannot be part of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {message}")]
pub struct SimulationError {
    pub index: u64,
    pub message: String,
}

type Counts = BTreeMap<Box<str>, (u64, u64)>;

/// Takes a ledger's entries in order. Control entries before the window are needed, decisions are not.
pub struct Simulator {
    environment: EnvironmentId,
    version: Arc<Version>,
    /// Compared with, instead of what was recorded.
    base: Option<Arc<Version>>,
    base_state: Option<State>,
    /// Decisions from then on, inclusive; exclusive end.
    from: Timestamp,
    to: Timestamp,
    actual: Option<State>,
    /// The state with the version exchanged, made when a decision asks for it.
    tried: Option<State>,
    out: Simulation,
    agents: Counts,
    actions: Counts,
    categories: Counts,
    resources: Counts,
    new_escalations: u64,
}

impl Simulator {
    #[must_use]
    pub fn new(environment: EnvironmentId, version: Arc<Version>, from: Timestamp, to: Timestamp) -> Self {
        Self {
            environment,
            version,
            base: None,
            base_state: None,
            from,
            to,
            actual: None,
            tried: None,
            out: Simulation::default(),
            agents: Counts::new(),
            actions: Counts::new(),
            categories: Counts::new(),
            resources: Counts::new(),
            new_escalations: 0,
        }
    }

    /// Compares with what `base` would decide, rather than with what was recorded.
    #[must_use]
    pub fn against(mut self, base: Arc<Version>) -> Self {
        self.base = Some(base);
        self
    }

    /// How many decisions have been replayed so far.
    #[must_use]
    pub const fn replayed(&self) -> u64 {
        self.out.summary.replayed
    }

    /// Takes an entry.
    pub fn entry(&mut self, bytes: &[u8]) -> Result<(), SimulationError> {
        self.entry_reusing(bytes, &BTreeMap::new())
    }

    /// Takes an entry; versions that are known compiled are not compiled again.
    pub fn entry_reusing(
        &mut self,
        bytes: &[u8],
        known: &BTreeMap<Digest, Arc<Version>>,
    ) -> Result<(), SimulationError> {
        let wrong = |index, message: String| SimulationError { index, message };
        let leaf = Leaf::parse(bytes).map_err(|e| wrong(0, e.to_string()))?;
        let kind = Kind::parse(leaf.kind);
        match kind {
            Some(Kind::Decision) => {
                if leaf.at >= self.from && leaf.at < self.to {
                    self.decision(&leaf);
                }
                Ok(())
            }
            Some(kind) if kind.is_control() => {
                let event = serde_json::from_str(leaf.body)
                    .map_err(|e| e.to_string())
                    .and_then(|body| Event::parse(kind, &body).map_err(|e| e.to_string()))
                    .map_err(|e| wrong(leaf.index, e))?;
                self.control_reusing(leaf.index, &event, known).map_err(|e| wrong(leaf.index, e))
            }
            Some(_) => Ok(()),
            None => Err(wrong(leaf.index, format!("the kind `{}` is unknown to this release", leaf.kind))),
        }
    }

    /// Takes a control entry that has been read already.
    pub fn control_reusing(
        &mut self,
        index: u64,
        event: &Event,
        known: &BTreeMap<Digest, Arc<Version>>,
    ) -> Result<(), String> {
        match &mut self.actual {
            None => self.actual = Some(State::genesis(event).map_err(|e| e.to_string())?),
            Some(state) => state.apply_reusing(index, event, known).map_err(|e| e.to_string())?,
        }
        self.tried = None;
        self.base_state = None;
        Ok(())
    }

    fn skip(&mut self, why: Skipped) {
        *self.out.skipped.entry(why.as_str()).or_default() += 1;
    }

    fn decision(&mut self, leaf: &Leaf<'_>) {
        let record: DecisionRecord = match serde_json::from_str(leaf.body) {
            Ok(record) => record,
            Err(_) => {
                self.out.summary.decisions += 1;
                return self.skip(Skipped::Unreadable);
            }
        };
        if record.input.intent.environment != self.environment {
            return;
        }
        let summary = &mut self.out.summary;
        if summary.decisions == 0 {
            summary.from_index = leaf.index;
        }
        summary.to_index = leaf.index + 1;
        summary.decisions += 1;
        if record.input.procedure > PROCEDURE {
            return self.skip(Skipped::Procedure);
        }
        if self.tried.is_none() {
            self.tried = self.actual.as_ref().and_then(|s| s.trying(&self.environment, &self.version));
        }
        let Some(tried) = &self.tried else { return self.skip(Skipped::Environment) };
        let mut input = record.input;
        // What was approved under the recorded version counts here as it counted there.
        let recorded = record.decision.policy.as_ref().map(|p| p.digest);
        for approval in &mut input.approvals {
            if Some(approval.policy) == recorded {
                approval.policy = self.version.digest;
            }
        }
        let after = decide(tried, &input);
        let before = match &self.base {
            None => record.decision,
            Some(base) => {
                if self.base_state.is_none() {
                    self.base_state = self.actual.as_ref().and_then(|s| s.trying(&self.environment, base));
                }
                let Some(state) = &self.base_state else { return self.skip(Skipped::Environment) };
                for approval in input.approvals.iter_mut().filter(|a| a.policy == self.version.digest) {
                    approval.policy = base.digest;
                }
                decide(state, &input)
            }
        };
        self.compare(leaf.index, &input, &before, after, recorded);
    }

    fn compare(
        &mut self,
        index: u64,
        input: &intended_model::decision::Input,
        before: &Decision,
        after: Decision,
        recorded: Option<Digest>,
    ) {
        let summary = &mut self.out.summary;
        summary.replayed += 1;
        if after.policy.as_ref().is_some_and(|p| !p.determining.is_empty()) {
            summary.matched += 1;
        }
        let by = recorded.map_or_else(|| "none".to_owned(), |d| d.to_string());
        *self.out.recorded_by.entry(by).or_default() += 1;
        let changed = before.decision != after.decision;
        let intent = &input.intent;
        let resource: Box<str> = format!("{}/{}", intent.resource.kind, intent.resource.id).into();
        let category: Box<str> = input.classification.category.clone().unwrap_or_else(|| "unknown".into());
        let rows: [(&mut Counts, &str); 4] = [
            (&mut self.agents, &intent.subject.id),
            (&mut self.actions, &intent.action.name),
            (&mut self.categories, &category),
            (&mut self.resources, &resource),
        ];
        for (counts, name) in rows {
            // A resource seen once is no row of a breakdown: beyond a bound only what changed is kept.
            if let Some(row) = counts.get_mut(name) {
                row.0 += 1;
                row.1 += u64::from(changed);
            } else if counts.len() < 10_000 || changed {
                counts.insert(name.into(), (1, u64::from(changed)));
            }
        }
        if !changed {
            let same = before.reason == after.reason && before.obligations == after.obligations;
            self.out.other_reason += u64::from(!same);
            return;
        }
        summary.changed += 1;
        if after.decision == Outcome::Escalate {
            self.new_escalations += 1;
        }
        let transition = format!("{} → {}", before.decision.as_str(), after.decision.as_str());
        *self.out.transitions.entry(transition).or_default() += 1;
        if self.out.changes.len() < MAX_CHANGES {
            let policies = |d: &Decision| d.policy.as_ref().map(|p| p.determining.clone()).unwrap_or_default();
            self.out.changes.push(Change {
                index,
                intent: input.id,
                at: input.at,
                agent: intent.subject.id.clone(),
                action: intent.action.name.clone(),
                category,
                resource,
                before: before.decision,
                before_reason: before.reason,
                before_policies: policies(before),
                after: after.decision,
                after_reason: after.reason,
                after_policies: policies(&after),
            });
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Simulation {
        let window = u64::try_from(self.to.millis_since(self.from).max(0) / 1000).unwrap_or(0);
        let summary = &mut self.out.summary;
        summary.window_secs = window;
        summary.blast_permille = match summary.replayed {
            0 => 0,
            replayed => u32::try_from((summary.changed * 1000).div_ceil(replayed)).unwrap_or(1000),
        };
        // A window shorter than an hour says what it has seen, not what an hour would bring.
        summary.new_escalations_per_hour =
            u32::try_from((self.new_escalations * 3600).div_ceil(window.max(3600))).unwrap_or(u32::MAX);
        self.out.by_agent = rows(self.agents);
        self.out.by_action = rows(self.actions);
        self.out.by_category = rows(self.categories);
        self.out.by_resource = rows(self.resources);
        self.out
    }
}

/// Those that changed, most changed first.
fn rows(counts: Counts) -> Vec<Row> {
    let mut rows: Vec<Row> = counts
        .into_iter()
        .filter(|(_, (_, changed))| *changed > 0)
        .map(|(name, (replayed, changed))| Row { name, replayed, changed })
        .collect();
    rows.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(MAX_ROWS);
    rows
}
