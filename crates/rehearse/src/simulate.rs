//! What a version would have decided.
//!
//! The ledger's entries go in, in their order. Control entries are folded, so that each decision is
//! made again on the state of its own position, with one thing exchanged: the version that the
//! environment decides by. The recorded decision is what it is compared with. Each decision stands by
//! itself on its recorded inputs: a session whose earlier action would have been denied is still the
//! session that the decision saw. Nothing is written anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use intended_engine::{State, Version, decide};
use intended_ledger::Leaf;
use intended_model::decision::{Decision, DecisionRecord, Input, Obligations, PROCEDURE};
use intended_model::entry::SimulationSummary;
use intended_model::{Code, Digest, EnvironmentId, Event, IntentId, Kind, Outcome, Timestamp, Value};

/// Most changes that a report lists; all are counted.
pub const MAX_CHANGES: usize = 10_000;
/// Most rows of one breakdown, without the one of [`OTHERS`].
pub const MAX_ROWS: usize = 50;
/// Most names that one breakdown keeps while it counts, of those that changed and of those that did
/// not: callers choose the names, so there is no end to them.
pub const MAX_NAMES: usize = 10_000;
/// The name of the row that sums up what has no row of its own.
pub const OTHERS: &str = "others";
/// Most characters of an obligation in a listed change.
const MAX_OBLIGATION: usize = 200;
const HOUR_SECS: i64 = 3_600;

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
    /// What had to happen then: `2 of leads`, what was missing, the arguments that policy set.
    pub before_obligation: Box<str>,
    /// Ids of the policies that determined it then.
    pub before_policies: Vec<Box<str>>,
    pub after: Outcome,
    pub after_reason: Code,
    pub after_obligation: Box<str>,
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
    /// `allow → deny` and the like with their counts; of equal outcomes only those with another
    /// obligation: `escalate → escalate (other obligation)`.
    pub transitions: BTreeMap<String, u64>,
    /// The outcome and the obligation are the same, the reason is another.
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
    /// How many changes are not listed; [`Simulator::only`] opens any of them.
    pub changes_omitted: u64,
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

/// One breakdown as it is counted: replayed and changed, by name.
#[derive(Default)]
struct Counts {
    rows: BTreeMap<Box<str>, (u64, u64)>,
    /// Of them, how many have changed.
    changed: usize,
    /// What found no room.
    others: (u64, u64),
}

impl Counts {
    fn add(&mut self, name: &str, changed: bool) {
        // Names that did not change leave room for those that will.
        let room = if changed { self.changed < MAX_NAMES } else { self.rows.len() < MAX_NAMES };
        let row = match self.rows.get_mut(name) {
            Some(row) => row,
            None if room => self.rows.entry(name.into()).or_default(),
            None => {
                self.others.0 += 1;
                self.others.1 += u64::from(changed);
                return;
            }
        };
        self.changed += usize::from(changed && row.1 == 0);
        row.0 += 1;
        row.1 += u64::from(changed);
    }

    /// Those that changed, most changed first; last, what the others come to.
    fn rows(self) -> Vec<Row> {
        let row = |(name, (replayed, changed))| Row { name, replayed, changed };
        let mut rows: Vec<Row> = self.rows.into_iter().filter(|(_, (_, changed))| *changed > 0).map(row).collect();
        rows.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.name.cmp(&b.name)));
        let rest = rows.split_off(rows.len().min(MAX_ROWS));
        let sum = |(replayed, changed), row: &Row| (replayed + row.replayed, changed + row.changed);
        let others = rest.iter().fold(self.others, sum);
        if others.1 > 0 {
            rows.push(row((OTHERS.into(), others)));
        }
        rows
    }
}

/// How many there are in the busiest hour, wherever it begins, to the second.
#[derive(Default)]
struct Busiest {
    /// The seconds of the last hour in which there were any.
    hour: VecDeque<(i64, u64)>,
    within: u64,
    most: u64,
}

impl Busiest {
    fn add(&mut self, at: Timestamp) {
        let now = at.as_secs();
        while let Some((_, count)) = self.hour.pop_front_if(|(second, _)| *second + HOUR_SECS <= now) {
            self.within = self.within.saturating_sub(count);
        }
        match self.hour.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => self.hour.push_back((now, 1)),
        }
        self.within += 1;
        self.most = self.most.max(self.within);
    }
}

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
    /// If set, decisions on other intents are passed over.
    only: Option<IntentId>,
    actual: Option<State>,
    /// The state with the version exchanged, made when a decision asks for it. Its approvals are those
    /// of the decision at hand.
    tried: Option<State>,
    out: Simulation,
    agents: Counts,
    actions: Counts,
    categories: Counts,
    resources: Counts,
    new_escalations: Busiest,
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
            only: None,
            actual: None,
            tried: None,
            out: Simulation::default(),
            agents: Counts::default(),
            actions: Counts::default(),
            categories: Counts::default(),
            resources: Counts::default(),
            new_escalations: Busiest::default(),
        }
    }

    /// Compares with what `base` would decide, rather than with what was recorded.
    #[must_use]
    pub fn against(mut self, base: Arc<Version>) -> Self {
        self.base = Some(base);
        self
    }

    /// Looks at the decisions on one intent alone.
    #[must_use]
    pub const fn only(mut self, intent: IntentId) -> Self {
        self.only = Some(intent);
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
        // An approval is looked up when its intent is decided: it leaves the exchanged states as they are.
        if !matches!(event, Event::ApprovalGranted(_)) {
            self.tried = None;
            self.base_state = None;
        }
        Ok(())
    }

    fn skip(&mut self, why: Skipped) {
        *self.out.skipped.entry(why.as_str()).or_default() += 1;
    }

    fn concerns(&self, environment: Option<&EnvironmentId>, intent: Option<IntentId>) -> bool {
        environment.is_none_or(|e| *e == self.environment)
            && self.only.zip(intent).is_none_or(|(only, intent)| only == intent)
    }

    /// One more decision in the window.
    const fn count(&mut self, index: u64) {
        let summary = &mut self.out.summary;
        if summary.decisions == 0 {
            summary.from_index = index;
        }
        summary.to_index = index + 1;
        summary.decisions += 1;
    }

    fn decision(&mut self, leaf: &Leaf<'_>) {
        let Ok(record) = serde_json::from_str::<DecisionRecord>(leaf.body) else {
            // What it is about may still be told; what cannot be told may be about this.
            let (environment, intent) = told(leaf.body);
            if self.concerns(environment.as_ref(), intent) {
                self.count(leaf.index);
                self.skip(Skipped::Unreadable);
            }
            return;
        };
        // No policy is written for the self-test: it says nothing of what another one would change.
        if record.input.class.is_synthetic()
            || !self.concerns(Some(&record.input.intent.environment), Some(record.input.id))
        {
            return;
        }
        self.count(leaf.index);
        if record.input.procedure > PROCEDURE {
            return self.skip(Skipped::Procedure);
        }
        let Some(actual) = &self.actual else { return self.skip(Skipped::Environment) };
        let recorded = record.decision.policy.as_ref().map(|p| p.digest);
        let mut input = record.input;
        let environment = &self.environment;
        let by = |state: &mut Option<State>, version: &Arc<Version>, input: &mut Input| {
            if state.is_none() {
                *state = actual.trying(environment, version);
            }
            state.as_mut().map(|tried| decide_by(tried, actual, input, recorded, version.digest))
        };
        let before = match &self.base {
            None => Some(record.decision),
            Some(base) => by(&mut self.base_state, base, &mut input),
        };
        let after = by(&mut self.tried, &self.version, &mut input);
        match before.zip(after) {
            Some((before, after)) => self.compare(leaf, &input, &before, &after, recorded),
            None => self.skip(Skipped::Environment),
        }
    }

    fn compare(
        &mut self,
        leaf: &Leaf<'_>,
        input: &Input,
        before: &Decision,
        after: &Decision,
        recorded: Option<Digest>,
    ) {
        let summary = &mut self.out.summary;
        summary.replayed += 1;
        if after.policy.as_ref().is_some_and(|p| !p.determining.is_empty()) {
            summary.matched += 1;
        }
        let by = recorded.map_or_else(|| "none".to_owned(), |d| d.to_string());
        *self.out.recorded_by.entry(by).or_default() += 1;
        let other_outcome = before.decision != after.decision;
        // One person of another group where it took two is as much of a change as another outcome.
        let changed = other_outcome || !same_obligation(&before.obligations, &after.obligations);
        let intent = &input.intent;
        let resource: Box<str> = format!("{}/{}", intent.resource.kind, intent.resource.id).into();
        let category: Box<str> = input.classification.category.clone().unwrap_or_else(|| "unknown".into());
        self.agents.add(&intent.subject.id, changed);
        self.actions.add(&intent.action.name, changed);
        self.categories.add(&category, changed);
        self.resources.add(&resource, changed);
        if !changed {
            self.out.other_reason += u64::from(before.reason != after.reason);
            return;
        }
        summary.changed += 1;
        if other_outcome && after.decision == Outcome::Escalate {
            self.new_escalations.add(leaf.at);
        }
        let obligation = if other_outcome { "" } else { " (other obligation)" };
        let transition = format!("{} → {}{obligation}", before.decision.as_str(), after.decision.as_str());
        *self.out.transitions.entry(transition).or_default() += 1;
        if self.out.changes.len() >= MAX_CHANGES {
            self.out.changes_omitted += 1;
            return;
        }
        let policies = |d: &Decision| d.policy.as_ref().map(|p| p.determining.clone()).unwrap_or_default();
        self.out.changes.push(Change {
            index: leaf.index,
            intent: input.id,
            at: input.at,
            agent: intent.subject.id.clone(),
            action: intent.action.name.clone(),
            category,
            resource,
            before: before.decision,
            before_reason: before.reason,
            before_obligation: obligation_text(&before.obligations, &intent.action.properties),
            before_policies: policies(before),
            after: after.decision,
            after_reason: after.reason,
            after_obligation: obligation_text(&after.obligations, &intent.action.properties),
            after_policies: policies(after),
        });
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
        // The busiest hour, as a mean over a day hides the hour in which people drown in questions. A
        // window shorter than an hour says what it has seen, not what an hour would bring.
        summary.new_escalations_per_hour = u32::try_from(self.new_escalations.most).unwrap_or(u32::MAX);
        self.out.by_agent = self.agents.rows();
        self.out.by_action = self.actions.rows();
        self.out.by_category = self.categories.rows();
        self.out.by_resource = self.resources.rows();
        self.out
    }
}

/// Decides by the version that `tried` has. What was approved under the recorded version counts as it
/// counted there, which takes both sides of an approval: the reference to it and what was recorded.
fn decide_by(
    tried: &mut State,
    actual: &State,
    input: &mut Input,
    recorded: Option<Digest>,
    version: Digest,
) -> Decision {
    let mut granted = actual.approvals.get(&input.id).cloned().unwrap_or_default();
    granted.iter_mut().filter(|(_, a)| Some(a.policy) == recorded).for_each(|(_, a)| a.policy = version);
    tried.approvals = Arc::new(BTreeMap::from([(input.id, granted)]));
    let mut references = input.approvals.clone();
    references.iter_mut().filter(|a| Some(a.policy) == recorded).for_each(|a| a.policy = version);
    let given = std::mem::replace(&mut input.approvals, references);
    let decision = decide(tried, input);
    input.approvals = given;
    decision
}

/// The environment and the intent of a record that this release does not read, if they can be told.
fn told(body: &str) -> (Option<EnvironmentId>, Option<IntentId>) {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer| body.pointer(pointer).and_then(serde_json::Value::as_str);
    let environment = text("/input/intent/environment").and_then(|e| EnvironmentId::new(e).ok());
    (environment, text("/input/id").and_then(|id| id.parse().ok()))
}

/// Whether the same must happen; when it runs out is no policy's doing, nor is the order.
fn same_obligation(a: &Obligations, b: &Obligations) -> bool {
    fn sorted<T: Ord>(all: &[T]) -> Vec<&T> {
        let mut all: Vec<&T> = all.iter().collect();
        all.sort();
        all
    }
    a.arguments == b.arguments && sorted(&a.approvals) == sorted(&b.approvals) && sorted(&a.needs) == sorted(&b.needs)
}

/// What must happen, for people: of arguments, those that are not as they were asked for.
fn obligation_text(obligations: &Obligations, asked: &Value) -> Box<str> {
    let mut parts: Vec<String> = obligations.approvals.iter().map(ToString::to_string).collect();
    parts.extend(obligations.needs.iter().map(|n| format!("needs {n}")));
    if let Some(arguments) = &obligations.arguments {
        let members = |value| Value::as_object(value).into_iter().flat_map(|o| o.iter());
        let set = members(arguments).filter(|(n, v)| asked.get(n) != Some(*v));
        parts.extend(set.map(|(n, v)| format!("{n}={}", v.to_canonical())));
        let dropped = members(asked).filter(|(n, _)| arguments.get(n).is_none());
        parts.extend(dropped.map(|(n, _)| format!("without {n}")));
    }
    let text = parts.join(", ");
    match text.char_indices().nth(MAX_OBLIGATION) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breakdown_keeps_no_more_names_than_its_bound() {
        let mut counts = Counts::default();
        for changed in [false, true] {
            (0..MAX_NAMES + 500).for_each(|n| counts.add(&format!("{changed}/{n}"), changed));
        }
        assert_eq!(counts.rows.len(), 2 * MAX_NAMES, "what did not change leaves room for what does");
        assert_eq!(counts.others, (1_000, 500));
        counts.add("false/0", true);
        assert_eq!(counts.rows["false/0"], (2, 1), "who is known is counted under their name");
        let rows = counts.rows();
        assert_eq!((rows.len(), &*rows.last().unwrap().name), (MAX_ROWS + 1, OTHERS));
        assert_eq!(rows.iter().map(|r| r.changed).sum::<u64>(), MAX_NAMES as u64 + 501);
    }

    #[test]
    fn an_obligation_is_the_same_in_another_order_and_until_another_time() {
        let of = |groups: [&str; 2], at| Obligations {
            approvals: groups.map(|g| intended_model::decision::Requirement::of(1, g)).into(),
            expires_at: Some(Timestamp::from_millis(at)),
            ..Obligations::default()
        };
        assert!(same_obligation(&of(["a", "b"], 1), &of(["b", "a"], 2)));
        assert!(!same_obligation(&of(["a", "b"], 1), &of(["a", "a"], 1)));
    }
}
