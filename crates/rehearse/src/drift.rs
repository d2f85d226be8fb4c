//! Decision drift: how the decisions of two windows differ, by what was asked and what came of it.

use std::collections::BTreeMap;

use intended_model::decision::DecisionRecord;
use serde::Serialize;

use crate::simulate::OTHERS;

/// Most rows that a comparison lists.
pub const MAX_ROWS: usize = 50;
/// Most kinds of decisions that a window keeps by agent and action: callers choose the names, so there
/// is no end to them. The rest is summed up as of [`OTHERS`], by outcome and reason.
pub const MAX_KINDS: usize = 20_000;

/// How often each kind of decision was made in a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    pub total: u64,
    counts: BTreeMap<Key, u64>,
}

/// Agent, action, outcome, reason.
type Key = (Box<str>, Box<str>, &'static str, &'static str);

impl Shares {
    pub fn add(&mut self, record: &DecisionRecord) {
        self.total += 1;
        let intent = &record.input.intent;
        let decision = &record.decision;
        let (outcome, reason) = (decision.decision.as_str(), decision.reason.as_str());
        let key = (intent.subject.id.clone(), intent.action.name.clone(), outcome, reason);
        let room = self.counts.len() < MAX_KINDS || self.counts.contains_key(&key);
        let key = if room { key } else { (OTHERS.into(), OTHERS.into(), outcome, reason) };
        *self.counts.entry(key).or_default() += 1;
    }

    fn permille(&self, key: &Key) -> u32 {
        let count = self.counts.get(key).copied().unwrap_or(0);
        (count * 1000).checked_div(self.total).map_or(0, |n| u32::try_from(n).unwrap_or(1000))
    }
}

/// One kind of decision in both windows; shares in thousandths of the window's decisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub agent: Box<str>,
    pub action: Box<str>,
    pub decision: &'static str,
    pub reason: &'static str,
    pub before_permille: u32,
    pub after_permille: u32,
    pub before: u64,
    pub after: u64,
}

/// How two windows differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub before: u64,
    pub after: u64,
    /// Half the sum of the differences between the shares, in thousandths: 0 for the same mixture,
    /// 1000 for windows that have nothing in common (total variation distance).
    pub distance_permille: u32,
    /// Kinds that one window has and the other has not.
    pub appeared: usize,
    pub disappeared: usize,
    /// Most different first.
    pub rows: Vec<Row>,
}

/// Compares two windows.
#[must_use]
pub fn drift(before: &Shares, after: &Shares) -> Drift {
    let mut keys: Vec<&Key> = before.counts.keys().chain(after.counts.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut rows: Vec<Row> = keys
        .iter()
        .map(|key| Row {
            agent: key.0.clone(),
            action: key.1.clone(),
            decision: key.2,
            reason: key.3,
            before_permille: before.permille(key),
            after_permille: after.permille(key),
            before: before.counts.get(*key).copied().unwrap_or(0),
            after: after.counts.get(*key).copied().unwrap_or(0),
        })
        .collect();
    let distance = match (before.total, after.total) {
        (0, 0) => 0,
        (0, _) | (_, 0) => 1000,
        (b, a) => {
            // Over the common denominator, so that nothing is rounded before the end.
            let difference: u128 = rows
                .iter()
                .map(|r| (u128::from(r.before) * u128::from(a)).abs_diff(u128::from(r.after) * u128::from(b)))
                .sum();
            u32::try_from(difference * 500 / (u128::from(a) * u128::from(b))).unwrap_or(1000)
        }
    };
    let appeared = rows.iter().filter(|r| r.before == 0).count();
    let disappeared = rows.iter().filter(|r| r.after == 0).count();
    rows.retain(|r| r.before_permille != r.after_permille);
    rows.sort_by_key(|r| std::cmp::Reverse(r.before_permille.abs_diff(r.after_permille)));
    rows.truncate(MAX_ROWS);
    Drift { before: before.total, after: after.total, distance_permille: distance, appeared, disappeared, rows }
}
