//! How often somebody may fail: by member and by where the attempt comes from. An attempt is counted
//! before it is looked at, so that a thousand at once are not a thousand guesses. The counts are facts:
//! a restart does not lift a lock.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use intended_model::{Code, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::{MAX_ATTEMPTS, Record, delete, place, put, version};
use crate::{Runtime, RuntimeError, Tenant};

/// Failures that cost nothing; the last of them locks.
const FREE: u32 = 5;
const FIRST_LOCK_MS: i64 = 30_000;
const LONGEST_LOCK_MS: i64 = 3_600_000;
/// How long failures are remembered after the last one, or after its lock.
const MEMORY_MS: i64 = 24 * 3_600_000;
/// Most strangers that are remembered; beyond, all of them are forgotten.
const MAX_STRANGERS: usize = 10_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tries {
    count: u32,
    until: Timestamp,
    last: Timestamp,
}

impl Tries {
    /// With one more; `Err` with how long it is locked.
    fn one_more(self, now: Timestamp) -> Result<Self, i64> {
        if now < self.until {
            return Err(self.until.millis_since(now));
        }
        let known = if self.last.max(self.until).plus_millis(MEMORY_MS) <= now { 0 } else { self.count };
        let count = known.saturating_add(1);
        let until = if count < FREE {
            Timestamp::default()
        } else {
            let lock = FIRST_LOCK_MS << (count - FREE).min(10);
            now.plus_millis(lock.min(LONGEST_LOCK_MS))
        };
        Ok(Self { count, until, last: now })
    }
    const fn forgotten_at(self) -> Timestamp {
        let last = if self.until.as_millis() > self.last.as_millis() { self.until } else { self.last };
        last.plus_millis(MEMORY_MS)
    }
}

/// An attempt that was counted.
#[must_use]
pub(crate) struct Attempt {
    tenant: Arc<Tenant>,
    /// What was counted where, and what stood there before.
    counted: Vec<(String, Tries, Tries)>,
}

/// How an attempt ended that was no failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The member's failures are forgotten. Where it came from has this one less, no more: who has an
    /// account of their own does not buy guesses at others with it.
    Well,
    /// It was half of one: the password was right, the code is to come.
    Half,
}

/// Where a member's failures are counted: by what was asked for, whether there is such a member or not.
pub(crate) fn of_member(member: &str) -> String {
    format!("pf/m/{}", Digest::of(member.as_bytes()).to_hex())
}
pub(crate) fn of_place(from: Option<IpAddr>) -> String {
    format!("pf/a/{}", Digest::of(place(from).as_bytes()).to_hex())
}

pub(crate) fn locked(millis: i64) -> RuntimeError {
    let seconds = (millis + 999) / 1000;
    let mut error = RuntimeError::new(Code::SignInLocked, format!("try again in {seconds} s"));
    error.retry_after = u32::try_from(seconds).ok();
    error
}

impl Runtime {
    /// Counts an attempt, or says for how long there is to be none.
    pub(crate) async fn attempt(&self, tenant: &Arc<Tenant>, places: Vec<String>) -> Result<Attempt, RuntimeError> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let (mut record, mut counted) = (Record::default(), Vec::new());
            for key in &places {
                let fact = self.fact(tenant, key)?;
                let before: Tries = match &fact {
                    Some(fact) => serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?,
                    None => Tries::default(),
                };
                let after = before.one_more(now).map_err(locked)?;
                record.reads.push((key.as_str().into(), version(fact.as_ref())));
                record.writes.push(kept(key, after)?);
                counted.push((key.clone(), before, after));
            }
            if self.try_record(tenant, &tenant.folded(), now, record).await?.is_some() {
                return Ok(Attempt { tenant: Arc::clone(tenant), counted });
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Takes the count of an attempt back that was no failure.
    pub(crate) async fn settle_attempt(&self, attempt: Attempt, ended: Ended) -> Result<(), RuntimeError> {
        let Attempt { tenant, counted } = attempt;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = Record::default();
            for (key, before, after) in &counted {
                let Some(fact) = self.fact(&tenant, key)? else { continue };
                let stands: Tries = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
                record.reads.push((key.as_str().into(), fact.version));
                if ended == Ended::Well && key.starts_with("pf/m/") {
                    record.writes.push(delete(key.as_str()));
                    continue;
                }
                // Others may have failed meanwhile: their lock stays.
                let until = if stands == *after { before.until } else { stands.until };
                let less = Tries { count: stands.count.saturating_sub(1), until, last: stands.last };
                record.writes.push(kept(key, less)?);
            }
            if self.try_record(&tenant, &tenant.folded(), self.now(), record).await?.is_some() {
                return Ok(());
            }
        }
        // It stays counted, which lets nobody in.
        Ok(())
    }

    /// Counts what belongs to no tenant, in memory: a tenant that there is not locks like one that there is.
    pub(crate) fn stranger(&self, what: &str, from: Option<IpAddr>) -> Result<(), RuntimeError> {
        let key = Digest::of(format!("{what}\n{}", place(from)).as_bytes());
        let mut strangers = self.desk.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() >= MAX_STRANGERS && !strangers.contains_key(&key) {
            strangers.clear();
        }
        let tries = strangers.entry(key).or_default();
        *tries = tries.one_more(self.now()).map_err(locked)?;
        Ok(())
    }
}

fn kept(key: &str, tries: Tries) -> Result<intended_store::Write, RuntimeError> {
    let value = serde_json::to_vec(&tries).map_err(RuntimeError::internal)?;
    Ok(put(key, value, Some(tries.forgotten_at())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_locks_for_half_a_minute_and_each_more_for_twice_as_long_up_to_an_hour() {
        let (mut tries, mut now, mut locks) = (Tries::default(), Timestamp::from_millis(1_000_000_000), Vec::new());
        for _ in 0..16 {
            tries = tries.one_more(now).unwrap();
            let lock = tries.until.millis_since(now).max(0);
            locks.push(lock / 1000);
            if lock > 0 {
                assert_eq!(tries.one_more(now.plus_millis(lock - 1)), Err(1));
                now = tries.until;
            }
        }
        assert_eq!(locks, [0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600, 3600]);
        let long_after = tries.forgotten_at();
        assert_eq!(tries.one_more(long_after).unwrap().count, 1);
        assert!(tries.one_more(long_after.plus_millis(-1)).unwrap().count > 1);
    }
}
