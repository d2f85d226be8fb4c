//! How fast the ledger takes entries, durably, and how long a commit waits.
//!
//! `append [seconds] [directory]`: for 1, 32 and 256 commits in flight, entries a second and the
//! distribution of the time from handing a commit over to knowing that it is durable. Bodies have
//! 1.5 KB; a commit is entries alone, or, as a decision is, one entry, one new fact and one counter.
//! Beside it, what the same disk takes for an fdatasync of 4 KiB, for scale.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::indexing_slicing)]

use std::io::{Seek as _, Write as _};
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
    println!("fdatasync of 4 KiB: {}", summary(&mut syncs(&parent)));
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

fn syncs(parent: &str) -> Vec<Duration> {
    let mut file = tempfile::tempfile_in(parent).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.sync_all().unwrap();
    let sync = |_| {
        let started = Instant::now();
        file.rewind().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        started.elapsed()
    };
    (0..2_000).map(sync).collect()
}

async fn load(store: &Arc<dyn Store>, in_flight: u32, entries: u32, facts: bool, time: Duration) -> Vec<Duration> {
    let tenant = TenantId::new("acme").unwrap();
    store.create_tenant(&tenant).await.unwrap();
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..in_flight {
        let (store, tenant) = (Arc::clone(store), tenant.clone());
        tasks.spawn(async move {
            let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1_500));
            let (mut times, mut n) = (Vec::new(), 0_u32);
            while Instant::now() < until {
                n += 1;
                let key: Box<str> = format!("record/{writer:03}/{n:09}").into();
                let subject = (u128::from(n) << 64 | u128::from(writer)).to_be_bytes();
                let entry = NewEntry {
                    kind: "bench".into(),
                    control: false,
                    subject: Some(subject),
                    body: body.as_str().into(),
                };
                let expires_at = Some(Timestamp::from_millis(1_900_000_000_000));
                let writes = vec![
                    Write::Put { key: key.clone(), value: vec![b'x'; 64], expires_at },
                    Write::Add { key: format!("count/{writer}").into(), n: 1, max: i64::MAX, expires_at: None },
                ];
                let commit = Commit {
                    tenant: tenant.clone(),
                    now: Timestamp::from_millis(1_800_000_000_000 + i64::from(n)),
                    control_version: Some(0),
                    reads: if facts { vec![(key, 0)] } else { Vec::new() },
                    writes: if facts { writes } else { Vec::new() },
                    entries: vec![entry; entries as usize],
                };
                let started = Instant::now();
                store.commit(commit).await.unwrap();
                times.push(started.elapsed());
            }
            times
        });
    }
    tasks.join_all().await.concat()
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000].as_micros();
    format!("p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs", at(500), at(990), at(999), at(1000))
}
