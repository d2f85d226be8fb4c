//! Who guesses keys is told to wait, and for longer each time.
//!
//! Failures are counted by address: an IPv4 address, or the /64 that an IPv6 host can take any
//! address of. Nothing is looked up here for a key that is good, so who shares an address with
//! somebody that guesses is served as before; and a key that is not good is refused either way. What
//! is kept is bounded: where there are more addresses than that, the one that was quiet longest is
//! forgotten.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use intended_model::Timestamp;

/// So many failures within [`WINDOW_MS`], and the address has to wait.
pub const FAILURES: u32 = 20;
pub const WINDOW_MS: i64 = 60_000;
/// The first time so long, then twice as long each time, up to an hour.
const FIRST_WAIT_MS: i64 = 30_000;
const LONGEST_WAIT_MS: i64 = 3_600_000;
/// After so long without a failure it starts anew.
const FORGET_MS: i64 = 2 * LONGEST_WAIT_MS;
/// Most addresses that are remembered.
pub const MAX_ADDRESSES: usize = 4_096;

#[derive(Debug, Default)]
pub struct Lockout(Mutex<HashMap<IpAddr, Record>>);

#[derive(Debug, Clone, Copy)]
struct Record {
    window: Timestamp,
    failures: u32,
    /// How often it had to wait.
    waits: u32,
    until: Timestamp,
    last: Timestamp,
}

/// What counts as one address.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

impl Lockout {
    /// Counts a failure. `Err`: how many seconds the address has to wait.
    pub fn failed(&self, address: IpAddr, now: Timestamp) -> Result<(), u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place(address);
        if all.len() >= MAX_ADDRESSES && !all.contains_key(&place) {
            make_room(&mut all, now);
        }
        let fresh = Record { window: now, failures: 0, waits: 0, until: now, last: now };
        let record = all.entry(place).or_insert(fresh);
        if now.millis_since(record.last) > FORGET_MS {
            *record = fresh;
        }
        if now.millis_since(record.window) >= WINDOW_MS {
            (record.window, record.failures) = (now, 0);
        }
        record.last = record.last.max(now);
        record.failures += 1;
        if record.failures >= FAILURES {
            // Who goes on while waiting waits longer.
            let wait = FIRST_WAIT_MS.saturating_mul(1 << record.waits.min(16)).min(LONGEST_WAIT_MS);
            record.until = record.until.max(now.plus_millis(wait));
            record.waits += 1;
            (record.window, record.failures) = (now, 0);
        }
        let left = record.until.millis_since(now);
        if left <= 0 { Ok(()) } else { Err(u32::try_from((left + 999) / 1_000).unwrap_or(u32::MAX)) }
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Forgets those that are over, or else the eighth that was quiet longest: so that who comes from ever
/// new addresses does not have all of them looked through each time.
fn make_room(all: &mut HashMap<IpAddr, Record>, now: Timestamp) {
    all.retain(|_, r| now < r.until || now.millis_since(r.window) < WINDOW_MS);
    if all.len() < MAX_ADDRESSES {
        return;
    }
    let mut last: Vec<Timestamp> = all.values().map(|r| r.last).collect();
    let (_, edge, _) = last.select_nth_unstable(MAX_ADDRESSES / 8);
    let edge = *edge;
    let mut over = MAX_ADDRESSES / 8;
    all.retain(|_, r| {
        let gone = r.last <= edge && over > 0;
        over -= usize::from(gone);
        !gone
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000 + millis)
    }
    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn twenty_failures_in_a_minute_have_to_wait_and_each_time_longer() {
        let (lockout, address) = (Lockout::default(), ip("192.0.2.7"));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..4 {
            let refused = (0..FAILURES).map(|_| lockout.failed(address, at(now))).collect::<Vec<_>>();
            assert!(refused.iter().take(19).all(Result::is_ok), "nineteen are mistakes");
            let wait = refused.last().unwrap().unwrap_err();
            waits.push(wait);
            now += i64::from(wait) * 1_000 + 1;
        }
        assert_eq!(waits, [30, 60, 120, 240]);
        assert_eq!(lockout.failed(ip("192.0.2.8"), at(now)), Ok(()), "nobody else waits");
    }

    #[test]
    fn who_goes_on_while_waiting_waits_longer_and_never_longer_than_an_hour() {
        let (lockout, address) = (Lockout::default(), ip("192.0.2.7"));
        let longest = (0..2_000).filter_map(|n| lockout.failed(address, at(n)).err()).max();
        assert_eq!(longest, Some(3_600));
        assert_eq!(lockout.failed(address, at(FORGET_MS + 10_000)), Ok(()), "a day later it is forgotten");
    }

    #[test]
    fn slow_mistakes_wait_for_nothing() {
        let (lockout, address) = (Lockout::default(), ip("192.0.2.7"));
        assert!((0..200).all(|n| lockout.failed(address, at(n * 4_000)).is_ok()));
    }

    #[test]
    fn all_of_a_64_is_one_address_and_an_ipv4_address_is_one_however_it_is_written() {
        let lockout = Lockout::default();
        let refused = (0..30).filter(|n| lockout.failed(ip(&format!("2001:db8:1:2::{n:x}")), at(0)).is_err()).count();
        assert_eq!(refused, 11);
        assert_eq!(lockout.failed(ip("2001:db8:1:3::1"), at(0)), Ok(()));
        for n in 0..20 {
            let _ = lockout.failed(ip(if n % 2 == 0 { "192.0.2.9" } else { "::ffff:192.0.2.9" }), at(0));
        }
        assert!(lockout.failed(ip("192.0.2.9"), at(0)).is_err());
    }

    #[test]
    fn any_number_of_addresses_is_remembered_in_bounded_memory() {
        let lockout = Lockout::default();
        for n in 0..20_000_u32 {
            let _ = lockout.failed(IpAddr::V4(n.into()), at(i64::from(n)));
        }
        assert!(lockout.len() <= MAX_ADDRESSES);
        // The newest are not those that were forgotten.
        let newest = IpAddr::V4(19_999.into());
        assert!((0..FAILURES).any(|_| lockout.failed(newest, at(20_000)).is_err()));
    }
}
