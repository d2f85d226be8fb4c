//! How fast the ledger takes entries, durably, and how long a commit waits.
//!
//! `append [seconds] [directory]`: first one commit at a time, each beside an fdatasync of 4 KiB on
//! the same disk: whatever else the machine does slows both, so the ratio is what compares. Then for
//! 1, 32 and 256 commits in flight, entries a second and the distribution of the time from handing
//! a commit over to knowing that it is durable. Leaves have 2.4 KB, as decisions do; a commit is
//! entries alone, or, as a decision is, one entry, one new fact and one counter.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::indexing_slicing)]

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intended_model::{TenantId, Timestamp};
use intended_store::{Commit, NewEntry, Store, Write};
use intended_store_sqlite::{Options, SqliteStore};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(5, |text| text.parse().unwrap());
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for facts in [false, true] {
        let directory = tempfile::tempdir_in(&parent).unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), &Options::default()).unwrap());
        let (mut commits, mut syncs, frames) =
            runtime.block_on(one_by_one(&store, directory.path(), facts, Duration::from_secs(seconds)));
        runtime.block_on(store.close()).unwrap();
        println!("one at a time{}: {}", if facts { ", and facts" } else { "" }, summary(&mut commits));
        println!("  fdatasync of 4 KiB beside it: {}", summary(&mut syncs));
        let ratio = |per_mille| at(&commits, per_mille) as f64 / at(&syncs, per_mille) as f64;
        println!(
            "  ratio: p50 {:.2}, p99 {:.2}, p99.9 {:.2}; {frames:.2} log frames a commit",
            ratio(500),
            ratio(990),
            ratio(999)
        );
    }
    for (in_flight, entries, facts) in
        [(1, 1, true), (32, 1, true), (1, 1, false), (32, 1, false), (256, 1, false), (32, 32, false)]
    {
        let directory = tempfile::tempdir_in(&parent).unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), &Options::default()).unwrap());
        let started = Instant::now();
        let mut times = runtime.block_on(load(&store, in_flight, entries, facts, Duration::from_secs(seconds)));
        let rate = times.len() as f64 * f64::from(entries) / started.elapsed().as_secs_f64();
        let wal = runtime.block_on(store.health()).wal_bytes.unwrap_or(0) >> 20;
        let what = if facts { "and facts" } else { "each" };
        println!(
            "{in_flight:>3} in flight, {entries:>2} entries {what:<9}: {rate:>7.0} entries/s; {}; log {wal} MiB",
            summary(&mut times)
        );
        runtime.block_on(store.close()).unwrap();
    }
}

/// Commits for this long, one at a time, a sync of 4 KiB between any two; and the mean frames that
/// one adds to the log, of those before the log first starts over.
async fn one_by_one(
    store: &Arc<dyn Store>,
    directory: &Path,
    facts: bool,
    time: Duration,
) -> (Vec<Duration>, Vec<Duration>, f64) {
    const COUNTED: usize = 260;
    let tenant = TenantId::new("acme").unwrap();
    store.create_tenant(&tenant).await.unwrap();
    let mut file = tempfile::tempfile_in(directory).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.sync_all().unwrap();
    let log = || std::fs::metadata(directory.join("ledger.db-wal")).unwrap().len();
    let (before, mut frames) = (log(), 0.0);
    let (mut commits, mut syncs) = (Vec::new(), Vec::new());
    let until = Instant::now() + time;
    while Instant::now() < until {
        let commit = commit(&tenant, 0, u32::try_from(commits.len()).unwrap() + 1, 1, facts);
        let started = Instant::now();
        store.commit(commit).await.unwrap();
        commits.push(started.elapsed());
        let started = Instant::now();
        file.rewind().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        syncs.push(started.elapsed());
        if commits.len() == COUNTED {
            frames = (log() - before) as f64 / (8192.0 + 24.0) / COUNTED as f64;
        }
    }
    (commits, syncs, frames)
}

/// One commit of the load.
fn commit(tenant: &TenantId, writer: u32, n: u32, entries: u32, facts: bool) -> Commit {
    // Consumed tokens and sessions are named by random ids: spread as a hash spreads.
    let spread = (u64::from(n) << 32 | u64::from(writer)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key: Box<str> = format!("record/{spread:016x}").into();
    let subject = (u128::from(n) << 64 | u128::from(writer)).to_be_bytes();
    let entry = NewEntry {
        kind: "bench".into(),
        control: false,
        subject: Some(subject),
        body: format!("{{\"text\":\"{}\"}}", "x".repeat(2_300)).into(),
    };
    let expires_at = Some(Timestamp::from_millis(1_900_000_000_000));
    let writes = vec![
        Write::Put { key: key.clone(), value: vec![b'x'; 64], expires_at },
        Write::Add { key: format!("count/{writer}").into(), n: 1, max: i64::MAX, expires_at: None },
    ];
    Commit {
        tenant: tenant.clone(),
        now: Timestamp::from_millis(1_800_000_000_000 + i64::from(n)),
        control_version: Some(0),
        reads: if facts { vec![(key, 0)] } else { Vec::new() },
        writes: if facts { writes } else { Vec::new() },
        entries: vec![entry; entries as usize],
    }
}

async fn load(store: &Arc<dyn Store>, in_flight: u32, entries: u32, facts: bool, time: Duration) -> Vec<Duration> {
    let tenant = TenantId::new("acme").unwrap();
    store.create_tenant(&tenant).await.unwrap();
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..in_flight {
        let (store, tenant) = (Arc::clone(store), tenant.clone());
        tasks.spawn(async move {
            let (mut times, mut n) = (Vec::new(), 0_u32);
            while Instant::now() < until {
                n += 1;
                let commit = commit(&tenant, writer, n, entries, facts);
                let started = Instant::now();
                store.commit(commit).await.unwrap();
                times.push(started.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.concat()
}

fn at(sorted: &[Duration], per_mille: usize) -> u128 {
    sorted[(sorted.len() - 1) * per_mille / 1000].as_micros()
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |per_mille| at(times, per_mille);
    format!("p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs", at(500), at(990), at(999), at(1000))
}
