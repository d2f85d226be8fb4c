//! How many requests a credential may make: a token bucket for each, without a lock.
//!
//! The generic cell rate algorithm: the bucket is one number, the time at which it will be full
//! again. A request moves it on by the time that one request is worth, and is refused if that
//! would be further ahead than the whole bucket.

use std::sync::atomic::{AtomicI64, Ordering};

use intended_model::Timestamp;

/// Requests of one credential in one second; as many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    per_second: u32,
}

/// What is left to a credential, for the `RateLimit` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub limit: u32,
    pub remaining: u32,
    /// Seconds until all of it is there again; for a refusal, until one more is.
    pub reset_secs: u32,
}

const SECOND: i64 = 1_000_000;

impl RateLimit {
    /// `None` for 0, which limits nothing.
    #[must_use]
    pub fn per_second(requests: u32) -> Option<Self> {
        (requests > 0).then_some(Self { per_second: requests })
    }
}

/// One credential's bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Microseconds since 1970.
    full_at: AtomicI64,
}

impl Bucket {
    /// Takes one request out, or says how long it would have to wait.
    pub fn take(&self, limit: RateLimit, now: Timestamp) -> Result<Quota, Quota> {
        let now = now.as_millis().saturating_mul(1_000);
        let one = (SECOND / i64::from(limit.per_second)).max(1);
        let quota = |full_at: i64| {
            let missing = full_at.saturating_sub(now).max(0);
            Quota {
                limit: limit.per_second,
                remaining: u32::try_from((SECOND - missing).max(0) / one).unwrap_or(u32::MAX).min(limit.per_second),
                reset_secs: u32::try_from((missing + SECOND - 1) / SECOND).unwrap_or(u32::MAX),
            }
        };
        let taken = self.full_at.try_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
            let next = full_at.max(now).saturating_add(one);
            (next.saturating_sub(now) <= SECOND).then_some(next)
        });
        match taken {
            Ok(before) => Ok(quota(before.max(now) + one)),
            Err(full_at) => Err(Quota { remaining: 0, reset_secs: 1, ..quota(full_at) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_second_holds_what_was_promised_and_no_more() {
        let (bucket, limit) = (Bucket::default(), RateLimit::per_second(10).unwrap());
        let granted = (0..50).filter(|_| bucket.take(limit, at(1_000)).is_ok()).count();
        assert_eq!(granted, 10);
        assert_eq!(bucket.take(limit, at(1_000)).unwrap_err().remaining, 0);
        // A tenth of a second is worth one request.
        assert!(bucket.take(limit, at(1_100)).is_ok());
        assert!(bucket.take(limit, at(1_100)).is_err());
        let later = (0..50).filter(|_| bucket.take(limit, at(60_000)).is_ok()).count();
        assert_eq!(later, 10, "what was not used is not saved up");
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let (bucket, limit) = (Bucket::default(), RateLimit::per_second(2).unwrap());
        assert!(bucket.take(limit, at(10_000)).is_ok());
        assert!(bucket.take(limit, at(5_000)).is_err());
    }

    #[test]
    fn threads_do_not_share_a_request() {
        let (bucket, limit) = (Bucket::default(), RateLimit::per_second(100).unwrap());
        let count = || (0..200).filter(|_| bucket.take(limit, at(1)).is_ok()).count();
        let total: usize = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(count)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(total, 100);
    }
}
