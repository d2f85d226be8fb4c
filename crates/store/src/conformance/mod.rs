//! What every engine must do, as tests that run against any of them unchanged.
//!
//! An engine offers a [`Place`]: somewhere empty that can be opened, opened a second time while it
//! is open (another connection to the same data), and opened again after it was let go without
//! closing. [`conformance_suite!`](crate::conformance_suite) makes one test of each check; [`CHECKS`]
//! lists them. [`kill`] needs more than a place, a process to kill, so each engine calls it itself.
//!
//! This module is test code: a broken promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_ledger::{Frontier, leaf_hash, verify_inclusion};
use intended_model::{TenantId, Timestamp};
use tokio::task::JoinSet;

use crate::{BoxFuture, Commit, Committed, NewEntry, Result, Store, Write};

pub mod commits;
pub mod kill;
pub mod ledger;

/// Where an engine keeps its data in one test; empty at first.
pub trait Place: Send + Sync {
    /// Opens it: the same data each time.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// A check of the suite.
pub type Check = for<'p> fn(&'p dyn Place) -> BoxFuture<'p, ()>;

/// Hands the names of all checks to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_check {
    ($then:ident $($argument:tt)*) => {
        $then! { ($($argument)*)
            commits: a_commit_is_an_entry_facts_and_a_proof
            commits: a_conflict_leaves_nothing
            commits: versions_never_come_again
            commits: counters_stop_at_their_bound
            commits: each_commit_of_a_batch_is_judged_alone
            commits: many_tenants_share_a_batch_and_nothing_else
            commits: of_a_hundred_racers_one_creates
            commits: two_writers_on_two_connections_are_fenced
            commits: expired_facts_stay_until_they_are_purged
            commits: what_is_not_there_or_not_valid_is_refused
            commits: a_closed_store_takes_nothing_more
            ledger: many_writers_lose_nothing
            ledger: time_never_goes_backwards
            ledger: proofs_lead_to_the_root_of_every_size
            ledger: pages_hold_what_was_asked_for
            ledger: what_was_acknowledged_is_there_when_the_store_is_let_go_amid_commits
        }
    };
}

macro_rules! list {
    (() $($module:ident: $check:ident)+) => {
        /// Every check by name, for an engine whose tests share a server.
        pub const CHECKS: &[(&str, Check)] = &[$((stringify!($check), |place| Box::pin($module::$check(place)))),+];
    };
}
for_each_check!(list);

/// One test for each check. The argument makes a fresh [`Place`].
#[macro_export]
macro_rules! conformance_suite {
    ($place:expr) => {
        use $crate::conformance_tests;
        $crate::for_each_check! { conformance_tests $place }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (($place:expr) $($module:ident: $check:ident)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            let place = $place;
            $crate::conformance::$module::$check(&place).await;
        }
    )+};
}

/// A tenant's name.
fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// Opens the place and makes the tenant `acme`.
async fn with_acme(place: &dyn Place) -> (Arc<dyn Store>, TenantId) {
    let (store, acme) = (place.open().await, tenant("acme"));
    store.create_tenant(&acme).await.unwrap();
    (store, acme)
}

/// An entry that says `n`.
fn entry(n: u64) -> NewEntry {
    NewEntry { kind: "test".into(), control: false, subject: None, body: format!("{{\"n\":{n}}}").into() }
}

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.into(), value: value.as_bytes().to_vec(), expires_at: None }
}

fn add(key: &str, n: i64, max: i64) -> Write {
    Write::Add { key: key.into(), n, max, expires_at: None }
}

/// A commit that relies on nothing and changes nothing.
fn nothing(tenant: &TenantId) -> Commit {
    Commit {
        tenant: tenant.clone(),
        now: Timestamp::from_millis(1_000),
        control_version: None,
        reads: Vec::new(),
        writes: Vec::new(),
        entries: Vec::new(),
    }
}

fn appending(tenant: &TenantId, n: u64) -> Commit {
    Commit { entries: vec![entry(n)], ..nothing(tenant) }
}

/// Commits all of them at once; outcomes in the order of the commits.
async fn at_once(store: &Arc<dyn Store>, commits: Vec<Commit>) -> Vec<Result<Committed>> {
    let mut tasks = JoinSet::new();
    for (i, commit) in commits.into_iter().enumerate() {
        let store = Arc::clone(store);
        tasks.spawn(async move { (i, store.commit(commit).await) });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (i, outcome) = done.unwrap();
        outcomes.insert(i, outcome);
    }
    outcomes.into_values().collect()
}

/// Waits for whatever a let-go writer has under way: a commit to the same tenant comes after it.
async fn settle(store: &Arc<dyn Store>, tenant: &TenantId) {
    store.commit(nothing(tenant)).await.unwrap();
}

/// Each leaf of a commit is proved in the head that came with it.
fn check_proofs(committed: &Committed) {
    assert_eq!(committed.leaves.len(), committed.proofs.len());
    for ((index, leaf), proof) in (committed.first_index..).zip(&committed.leaves).zip(&committed.proofs) {
        let head = &committed.head;
        verify_inclusion(leaf_hash(leaf), index, head.size, proof, head.root).unwrap();
    }
}

/// The whole ledger as it is read back: without gaps, with the root of its head.
async fn check_ledger(store: &Arc<dyn Store>, tenant: &TenantId) -> Vec<crate::StoredEntry> {
    let head = store.head(tenant).await.unwrap();
    let entries = store.entries(tenant, 0, usize::MAX).await.unwrap();
    let mut frontier = Frontier::empty();
    for (index, entry) in (0..).zip(&entries) {
        assert_eq!(entry.index, index, "a gap");
        frontier.push(leaf_hash(&entry.leaf));
    }
    assert_eq!((frontier.size(), frontier.root()), (head.size, head.root));
    assert!(entries.is_sorted_by_key(|e| e.at), "time goes forwards");
    entries
}
