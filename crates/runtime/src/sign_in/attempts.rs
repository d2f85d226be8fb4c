//! How often somebody may fail: at a member from where the attempt comes, at a member from anywhere, and
//! from there at anybody. An attempt is counted before it is looked at, so that a thousand at once are
//! not a thousand guesses. The counts are facts: a restart does not lift a lock.
//!
//! A lock that anybody can bring about by failing is a way of keeping others out. So the long one is of
//! the member and the place together; that of the member alone is short, and does not hold where the
//! member has signed in from lately. Who has the password and guesses codes is locked out for long from
//! anywhere: nobody comes that far without the password.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use intended_model::{Code, Digest, MemberId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{MAX_ATTEMPTS, Record, delete, place, put, version};
use crate::{Runtime, RuntimeError, Tenant};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const FIRST_LOCK_MS: i64 = 30_000;
/// How long a place is known as one of a member's, after they were there last.
const KNOWN_MS: i64 = 30 * 24 * HOUR_MS;
/// Most strangers that are remembered.
const MAX_STRANGERS: usize = 10_000;
/// Sign-ins with a provider that are begun within ten minutes: from one place, and of one tenant.
const BEGINS_AT: u32 = 300;
const BEGINS_OF_TENANT: u32 = 3_000;
const BEGINS_MS: i64 = 10 * MINUTE_MS;

/// How failures of one kind lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Failures that cost nothing; the last of them locks.
    free: u32,
    /// The first lock is half a minute, each further one twice as long, up to this.
    longest_ms: i64,
    /// How long failures are remembered after the last one, or after its lock.
    memory_ms: i64,
}

impl Rule {
    const HARD: Self = Self { free: 5, longest_ms: HOUR_MS, memory_ms: 24 * HOUR_MS };
    /// For all from one address: many people can be behind it.
    const PLACE: Self = Self { free: 20, longest_ms: 15 * MINUTE_MS, memory_ms: HOUR_MS };
    /// For one member from anywhere.
    const MEMBER: Self = Self { free: 20, longest_ms: MINUTE_MS, memory_ms: HOUR_MS };

    /// By what a count is kept under.
    fn of(key: &str) -> Self {
        match key.get(..5) {
            Some("pf/a/") => Self::PLACE,
            Some("pf/m/") => Self::MEMBER,
            _ => Self::HARD,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tries {
    count: u32,
    until: Timestamp,
    last: Timestamp,
    /// The member has signed in from here.
    #[serde(default)]
    known: bool,
}

impl Tries {
    /// With one more; `Err` with how long it is locked.
    fn one_more(self, rule: Rule, now: Timestamp) -> Result<Self, i64> {
        if now < self.until {
            return Err(self.until.millis_since(now));
        }
        let known = if self.last.max(self.until).plus_millis(rule.memory_ms) <= now { 0 } else { self.count };
        let count = known.saturating_add(1);
        let until = if count < rule.free {
            Timestamp::default()
        } else {
            let lock = FIRST_LOCK_MS << (count - rule.free).min(10);
            now.plus_millis(lock.min(rule.longest_ms))
        };
        Ok(Self { count, until, last: now, known: self.known })
    }
    const fn forgotten_at(self, rule: Rule) -> Timestamp {
        let last = if self.until.as_millis() > self.last.as_millis() { self.until } else { self.last };
        last.plus_millis(if self.known { KNOWN_MS } else { rule.memory_ms })
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

/// Where a member's failures are counted.
pub(crate) fn of_member(member: &str) -> String {
    format!("pf/m/{}", Digest::of(member.as_bytes()).to_hex())
}
/// And those from one place.
pub(crate) fn of_member_at(member: &str, from: Option<IpAddr>) -> String {
    format!("pf/p/{}", Digest::of(format!("{member}\n{}", place(from)).as_bytes()).to_hex())
}
/// Where wrong codes are counted, of who was right in everything before.
pub(crate) fn of_code(member: &MemberId) -> String {
    format!("pf/c/{}", Digest::of(member.as_str().as_bytes()).to_hex())
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
            let (mut record, mut counted, mut known) = (Record::default(), Vec::new(), false);
            for key in &places {
                if known && key.starts_with("pf/m/") {
                    continue;
                }
                let fact = self.fact(tenant, key)?;
                let before: Tries = match &fact {
                    Some(fact) => serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?,
                    None => Tries::default(),
                };
                let rule = Rule::of(key);
                known |= before.known && now < before.forgotten_at(rule);
                let after = before.one_more(rule, now).map_err(locked)?;
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
                if ended == Ended::Well && !key.starts_with("pf/a/") {
                    if key.starts_with("pf/p/") {
                        let known = Tries { last: stands.last, known: true, ..Tries::default() };
                        record.writes.push(kept(key, known)?);
                    } else {
                        record.writes.push(delete(key.as_str()));
                    }
                    continue;
                }
                // Others may have failed meanwhile: their lock stays.
                let until = if stands == *after { before.until } else { stands.until };
                let less = Tries { count: stands.count.saturating_sub(1), until, ..stands };
                record.writes.push(kept(key, less)?);
            }
            if self.try_record(&tenant, &tenant.folded(), self.now(), record).await?.is_some() {
                return Ok(());
            }
        }
        // It stays counted, which lets nobody in.
        Ok(())
    }

    /// Counts an attempt at a name, which a member has or not: nobody learns which by how it locks. Only
    /// members have facts, so that names that are made up fill nothing.
    pub(crate) async fn attempt_at(
        &self,
        tenant: &Arc<Tenant>,
        name: &str,
        from: Option<IpAddr>,
    ) -> Result<Attempt, RuntimeError> {
        if super::named(name).is_some_and(|m| tenant.state().members.contains_key(&m)) {
            return self.attempt(tenant, vec![of_member_at(name, from), of_member(name), of_place(from)]).await;
        }
        let of = |key: &str| format!("{}\n{key}", tenant.id);
        let strange = [of(&of_member_at(name, from)), of(&of_member(name))];
        self.desk.strangers.look(&strange, self.now())?;
        let attempt = self.attempt(tenant, vec![of_place(from)]).await?;
        self.desk.strangers.count(&strange, self.now())?;
        Ok(attempt)
    }

    /// Counts an attempt at a tenant that there is not: it locks like one that there is.
    pub(crate) fn stranger(&self, tenant: &str, name: Option<&str>, from: Option<IpAddr>) -> Result<(), RuntimeError> {
        let of = |key: &str| format!("{tenant}\n{key}");
        let named = name.into_iter().flat_map(|name| [of(&of_member_at(name, from)), of(&of_member(name))]);
        let strange: Vec<_> = named.chain([of(&of_place(from))]).collect();
        self.desk.strangers.look(&strange, self.now())?;
        self.desk.strangers.count(&strange, self.now())
    }
}

/// Failures at what there is not, in memory.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<HashMap<Digest, (Rule, Tries)>>);

impl Strangers {
    /// Whether any is locked.
    fn look(&self, keys: &[String], now: Timestamp) -> Result<(), RuntimeError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = keys.iter().filter_map(|key| all.get(&Digest::of(key.as_bytes())));
        tries.into_iter().try_for_each(|(rule, tries)| tries.one_more(*rule, now).map(drop).map_err(locked))
    }
    fn count(&self, keys: &[String], now: Timestamp) -> Result<(), RuntimeError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            let (rule, key) = (Rule::of(key.rsplit('\n').next().unwrap_or(key)), Digest::of(key.as_bytes()));
            if all.len() >= MAX_STRANGERS && !all.contains_key(&key) {
                make_room(&mut all, now);
            }
            let (_, tries) = all.entry(key).or_insert((rule, Tries::default()));
            *tries = tries.one_more(rule, now).map_err(locked)?;
        }
        Ok(())
    }
}

/// Forgets those that are over, or else the eighth that was quiet longest.
fn make_room(all: &mut HashMap<Digest, (Rule, Tries)>, now: Timestamp) {
    all.retain(|_, (rule, tries)| now < tries.forgotten_at(*rule));
    if all.len() < MAX_STRANGERS {
        return;
    }
    let mut last: Vec<Timestamp> = all.values().map(|(_, t)| t.last).collect();
    let (_, edge, _) = last.select_nth_unstable(MAX_STRANGERS / 8);
    let (edge, mut over) = (*edge, MAX_STRANGERS / 8);
    all.retain(|_, (_, tries)| {
        let gone = tries.last <= edge && over > 0;
        over -= usize::from(gone);
        !gone
    });
}

/// Sign-ins with a provider that were begun: each asks another server and keeps something, so there are
/// so many in a time, from a place and of a tenant, whether they come to something or not.
#[derive(Default)]
pub(crate) struct Begins(Mutex<HashMap<Digest, (Timestamp, u32)>>);

impl Begins {
    /// One more of each, or `Err` with how long there is to be none.
    pub(crate) fn one_more(&self, tenant: &str, from: Option<IpAddr>, now: Timestamp) -> Result<(), RuntimeError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |since: Timestamp| now.millis_since(since) >= BEGINS_MS;
        if all.len() + 2 > MAX_STRANGERS {
            all.retain(|_, (since, _)| !over(*since));
            if all.len() + 2 > MAX_STRANGERS {
                return Err(Code::Overloaded.into());
            }
        }
        let of = |text: String| Digest::of(text.as_bytes());
        // The place first: who has had their share does not use up what is the tenant's.
        for (key, most) in
            [(of(format!("{tenant}\n{}", place(from))), BEGINS_AT), (of(tenant.to_owned()), BEGINS_OF_TENANT)]
        {
            let (since, count) = all.entry(key).or_insert((now, 0));
            if over(*since) {
                (*since, *count) = (now, 0);
            }
            if *count >= most {
                return Err(locked(BEGINS_MS - now.millis_since(*since)));
            }
            *count += 1;
        }
        Ok(())
    }
}

fn kept(key: &str, tries: Tries) -> Result<intended_store::Write, RuntimeError> {
    let value = serde_json::to_vec(&tries).map_err(RuntimeError::internal)?;
    Ok(put(key, value, Some(tries.forgotten_at(Rule::of(key)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_locks_for_half_a_minute_and_each_more_for_twice_as_long_up_to_an_hour() {
        let rule = Rule::HARD;
        let (mut tries, mut now, mut locks) = (Tries::default(), Timestamp::from_millis(1_000_000_000), Vec::new());
        for _ in 0..16 {
            tries = tries.one_more(rule, now).unwrap();
            let lock = tries.until.millis_since(now).max(0);
            locks.push(lock / 1000);
            if lock > 0 {
                assert_eq!(tries.one_more(rule, now.plus_millis(lock - 1)), Err(1));
                now = tries.until;
            }
        }
        assert_eq!(locks, [0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600, 3600]);
        let long_after = tries.forgotten_at(rule);
        assert_eq!(tries.one_more(rule, long_after).unwrap().count, 1);
        assert!(tries.one_more(rule, long_after.plus_millis(-1)).unwrap().count > 1);
    }
    /// Names and addresses that are made up fill no memory, and who was locked stays so.
    #[test]
    fn made_up_names_are_remembered_in_bounded_memory() {
        let (strangers, begins) = (Strangers::default(), Begins::default());
        let at = |n: i64| Timestamp::from_millis(1_000_000_000 + n);
        for n in 0..15_000 {
            strangers.count(&[format!("acme\npf/p/{n}")], at(n)).unwrap();
            let from = Some(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
            let _ = begins.one_more(&format!("tenant-{n}"), from, at(n));
        }
        assert!(strangers.0.lock().unwrap().len() <= MAX_STRANGERS);
        assert!(begins.0.lock().unwrap().len() <= MAX_STRANGERS);
        let last = ["acme\npf/p/14999".to_owned()];
        (0..4).for_each(|_| strangers.count(&last, at(15_000)).unwrap());
        assert!(strangers.look(&last, at(15_001)).is_err());
    }
}
