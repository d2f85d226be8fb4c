//! What was acknowledged survives: a killed process, a power cut at any moment, a disk that fails.
//!
//! Each test runs this program again as a child that commits. Between the child and its files stands
//! a shim (`faults/shim.c`) that records every write and every sync. From the record the test builds
//! what a disk would have that keeps what was synced and, of the rest, nothing, or any part of it;
//! that is opened, and everything acknowledged until then must be there.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use intended_ledger::{Frontier, leaf_hash};
use intended_model::{TenantId, Timestamp};
use intended_store::conformance::{Place, kill};
use intended_store::{BoxFuture, Commit, Committed, NewEntry, Store, StoreError, StoredEntry, Write};
use intended_store_sqlite::{FILE, Options, SqliteStore};

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(dir, &Options::default())
}

/// An entry that says `n`, with so many bytes more, and one more in the counter.
fn commit(n: u64, size: usize) -> Commit {
    let body = format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(size)).into();
    Commit {
        tenant: acme(),
        now: Timestamp::from_millis(1),
        control_version: None,
        reads: Vec::new(),
        writes: vec![Write::Add { key: "count".into(), n: 1, max: i64::MAX, expires_at: None }],
        entries: vec![NewEntry { kind: "test".into(), control: false, subject: Some([7; 16]), body }],
    }
}

fn says(entry: &StoredEntry, n: u64) -> bool {
    String::from_utf8_lossy(&entry.leaf).contains(&format!("{{\"n\":{n},"))
}

/// `n ok index leaf` or `n code`.
fn line(n: u64, outcome: &Result<Committed, StoreError>) -> String {
    match outcome {
        Ok(committed) => format!("{n} ok {} {}\n", committed.first_index, leaf_hash(&committed.leaves[0])),
        Err(error) => format!("{n} {}\n", error.code()),
    }
}

// The child.

/// Child processes are this test, run by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the other tests start"]
async fn child() {
    let Ok(task) = std::env::var("CHILD_TASK") else { return };
    let dir = PathBuf::from(std::env::var("CHILD_DIR").unwrap());
    let store = Arc::new(open(&dir).unwrap());
    if task == "kill" {
        return kill::write_until_killed(store).await;
    }
    store.create_tenant(&acme()).await.unwrap();
    drop(std::fs::File::create(dir.join("arm")).unwrap());
    let acks = Arc::new(Mutex::new(std::fs::File::create(dir.join("acks")).unwrap()));
    let tell = move |line: String| acks.lock().unwrap().write_all(line.as_bytes()).unwrap();
    match task.as_str() {
        "writers" => writers(&store, tell).await,
        "one" => one(&store, tell, 2_000).await,
        "one, large" => one(&store, tell, 250_000).await,
        other => panic!("no task {other}"),
    }
    let _ = store.close().await;
}

/// Small commits and large ones, at once, until the log has started over.
async fn writers<T: Fn(String) + Clone + Send + 'static>(store: &Arc<SqliteStore>, tell: T) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (store, tell) = (Arc::clone(store), tell.clone());
        tasks.spawn(async move {
            for n in (0..50).map(|n| n * 8 + writer) {
                let size = if n % 4 == 0 { 200_000 } else { 1_500 };
                let outcome = store.commit(commit(n, size)).await;
                tell(line(n, &outcome));
                outcome.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// One commit after the other, until some after the fault.
async fn one<T: Fn(String)>(store: &SqliteStore, tell: T, size: usize) {
    let fired = PathBuf::from(format!("{}.fired", std::env::var("SHIM_TRACE").unwrap()));
    let mut after = 0;
    for n in 0..120 {
        tell(line(n, &store.commit(commit(n, size)).await));
        after += u32::from(fired.exists());
        // Faults of the files that a commit does not touch wait for the end, or for a full log.
        if after > 8 || (size < 100_000 && n > 30) {
            break;
        }
    }
}

// The parent.

struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(dir.path().join("shim.so"))
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status()
            .expect("no C compiler found: install the package `build-essential` (test.sh does)");
        assert!(built.success());
        Self { dir }
    }

    fn command(dir: &Path, task: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env("CHILD_TASK", task).env("CHILD_DIR", dir).stdin(Stdio::null());
        command
    }

    /// Runs the child under the shim in a fresh directory, and gives the directory and the trace.
    fn shimmed(&self, name: &str, task: &str, fault: Option<&str>) -> (PathBuf, Vec<Step>) {
        let (dir, trace) = (self.dir.path().join("data").join(name), self.dir.path().join(format!("{name}.trace")));
        std::fs::create_dir(&dir).unwrap();
        let mut command = Self::command(&dir, task);
        command.env("LD_PRELOAD", self.dir.path().join("shim.so")).env("SHIM_DIR", &dir).env("SHIM_TRACE", &trace);
        if let Some(fault) = fault {
            command.env("SHIM_FAULT", fault);
        }
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{fault:?}: {}", String::from_utf8_lossy(&ended.stderr));
        let steps = steps(&std::fs::read(&trace).unwrap());
        std::fs::remove_file(trace).unwrap();
        (dir, steps)
    }
}

/// One record of the trace.
struct Step {
    kind: u8,
    file: String,
    offset: u64,
    data: Vec<u8>,
}

fn steps(mut trace: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while !trace.is_empty() {
        let number = |at: usize| u64::from_le_bytes(trace[at..at + 8].try_into().unwrap());
        let (kind, name) = (trace[0], u32::from_le_bytes(trace[4..8].try_into().unwrap()) as usize);
        let (offset, length) = (number(8), number(16) as usize);
        let file = String::from_utf8(trace[24..24 + name].to_vec()).unwrap();
        let data = trace[24 + name..24 + name + length].to_vec();
        trace = &trace[24 + name + length..];
        steps.push(Step { kind, file, offset, data });
    }
    steps
}

/// What is to be expected of a write that no sync has covered.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Dropped,
    /// Any subset of the writes, and of each any subset of its sectors.
    Torn(u64),
}

/// A file of the disk: what is safe, and the changes that are not yet.
#[derive(Default)]
struct OnDisk {
    safe: Option<Vec<u8>>,
    /// Places in the trace.
    pending: Vec<usize>,
}

/// The disk as the trace goes on.
struct Disk<'t> {
    steps: &'t [Step],
    files: BTreeMap<&'t str, OnDisk>,
    /// What a sync under way covers: everything before this place.
    syncing: HashMap<u64, usize>,
    acknowledged: Vec<u8>,
}

fn apply(to: &mut Vec<u8>, step: &Step, keep: impl Fn(usize) -> bool) {
    let start = step.offset as usize;
    if step.kind == b'T' {
        if keep(0) {
            to.resize(start, 0);
        }
        return;
    }
    for (sector, piece) in step.data.chunks(512).enumerate().filter(|(sector, _)| keep(*sector)) {
        let at = start + sector * 512;
        if to.len() < at + piece.len() {
            to.resize(at + piece.len(), 0);
        }
        to[at..at + piece.len()].copy_from_slice(piece);
    }
}

fn mixed(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl<'t> Disk<'t> {
    fn new(steps: &'t [Step]) -> Self {
        Self { steps, files: BTreeMap::new(), syncing: HashMap::new(), acknowledged: Vec::new() }
    }

    fn step(&mut self, at: usize) {
        let step = &self.steps[at];
        match step.kind {
            b'W' if step.file == "acks" => self.acknowledged.extend_from_slice(&step.data),
            b'W' | b'T' => self.files.entry(&step.file).or_default().pending.push(at),
            b'U' => drop(self.files.remove(&*step.file)),
            b'B' => drop(self.syncing.insert(step.offset, at)),
            b'E' | b'F' => {
                let before = self.syncing.remove(&step.offset).unwrap();
                let file = self.files.entry(&step.file).or_default();
                let covered = file.pending.partition_point(|p| *p < before);
                // After a failed sync the pages count as clean: they never get to the disk.
                let covered = file.pending.drain(..covered);
                if step.kind == b'E' {
                    let safe = file.safe.get_or_insert_default();
                    covered.for_each(|p| apply(safe, &self.steps[p], |_| true));
                }
            }
            _ => {}
        }
    }

    /// Writes what the disk has after a power cut now.
    fn cut(&self, dir: &Path, unsynced: Unsynced) {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir(dir).unwrap();
        for (name, file) in self.files.iter().filter(|(name, _)| name.starts_with(FILE) && !name.ends_with("-shm")) {
            let mut image = file.safe.clone();
            if let Unsynced::Torn(seed) = unsynced {
                for p in &file.pending {
                    let of_write = mixed(seed ^ (*p as u64) << 20);
                    // A third is whole, a third is lost, a third is in pieces.
                    let keep = |sector: usize| match of_write % 3 {
                        0 => true,
                        1 => false,
                        _ => mixed(of_write ^ sector as u64) & 1 == 0,
                    };
                    apply(image.get_or_insert_default(), &self.steps[*p], keep);
                }
            }
            if let Some(image) = image {
                std::fs::write(dir.join(name), image).unwrap();
            }
        }
    }
}

/// Opens the directory and holds it against what was told: each acknowledged entry is there, of a
/// refused one nothing is, and an entry and its fact are one.
async fn check(dir: &Path, told: &[u8], context: &str) {
    let store = open(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    let head = store.head(&acme()).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let stored = store.entries(&acme(), 0, usize::MAX).await.unwrap();
    let mut frontier = Frontier::empty();
    for entry in &stored {
        frontier.push(leaf_hash(&entry.leaf));
    }
    assert_eq!((frontier.size(), frontier.root()), (head.size, head.root), "{context}");
    assert_eq!(store.counter_now(&acme(), "count"), Ok(stored.len() as i64), "{context}");
    assert_eq!(store.entries_of(&acme(), [7; 16]).await.unwrap().len(), stored.len(), "{context}");
    for line in std::str::from_utf8(told).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [_, "ok", index, leaf] => {
                let found = stored.get(index.parse::<usize>().unwrap()).map(|e| leaf_hash(&e.leaf).to_string());
                assert_eq!(found.as_deref(), Some(*leaf), "{context}: entry {index} was acknowledged");
            }
            // Unknown is unknown.
            [_, "store.stopped"] => {}
            [n, code] => {
                let n = n.parse().unwrap();
                assert!(!stored.iter().any(|entry| says(entry, n)), "{context}: {n} was refused with {code}");
            }
            _ => panic!("{line}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_power_cut_at_any_moment() {
    let run = Run::new();
    let (_, steps) = run.shimmed("power", "writers", None);
    let armed = steps.iter().position(|step| step.kind == b'A').unwrap();
    let is_file = |step: &Step| step.file == FILE;
    // Every so many steps and acknowledgements, and wherever the log is folded in.
    let mut moments: Vec<usize> = (armed..steps.len()).step_by((steps.len() - armed) / 20 + 1).collect();
    let acks: Vec<usize> = (armed..steps.len()).filter(|at| steps[*at].file == "acks").collect();
    moments.extend(acks.iter().step_by(acks.len() / 35 + 1));
    let folding: Vec<usize> = (armed..steps.len()).filter(|at| is_file(&steps[*at])).collect();
    moments.extend(folding.iter().step_by(folding.len() / 14 + 1));
    moments.extend(folding.iter().filter(|at| steps[**at].kind == b'E').flat_map(|at| [*at - 1, *at, *at + 1]));
    moments.retain(|at| *at < steps.len());
    moments.sort_unstable();
    moments.dedup();
    assert!(folding.iter().any(|at| steps[*at].kind == b'E'), "the log was never folded in");
    assert!(acks.len() >= 400 && moments.len() >= 60, "{} acknowledgements, {} moments", acks.len(), moments.len());

    let image = run.dir.path().join("image");
    let (mut disk, mut moments) = (Disk::new(&steps), moments.into_iter().peekable());
    for at in 0..steps.len() {
        disk.step(at);
        if moments.next_if_eq(&at).is_some() {
            for unsynced in [Unsynced::Dropped, Unsynced::Torn(at as u64)] {
                disk.cut(&image, unsynced);
                check(&image, &disk.acknowledged, &format!("cut after step {at}, {unsynced:?}")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_many_at_once_share_their_syncs() {
    let run = Run::new();
    let (_, steps) = run.shimmed("batches", "writers", None);
    let armed = steps.iter().position(|step| step.kind == b'A').unwrap();
    let syncs = steps[armed..].iter().filter(|step| step.kind == b'E' && step.file.ends_with("-wal")).count();
    let acks = steps.iter().filter(|step| step.file == "acks" && step.kind == b'W').count();
    assert_eq!(acks, 400);
    assert!(syncs > 10 && syncs < acks * 3 / 4, "{syncs} syncs for {acks} commits");
}

/// Which codes a fault may be answered with; none: it has to be borne.
fn answers(call: &str, how: &str) -> &'static [&'static str] {
    match (call, how) {
        (_, "SHORT") => &[],
        // What a failed sync leaves on the disk is unknown, whatever its reason; and a size that cannot
        // be set is not for want of room.
        ("sync" | "truncate", _) | (_, "EIO") => &["store.stopped"],
        (_, "ENOSPC" | "SHORTFULL") => &["store.full"],
        _ => &["store.full", "store.stopped"],
    }
}

async fn faults(file: &str, cases: &[(&str, &[&str], &[u32])]) {
    let run = Run::new();
    let of_commits = file.ends_with("-wal");
    for (call, hows, counts) in cases {
        for (how, n) in hows.iter().flat_map(|how| counts.iter().map(move |n| (how, n))) {
            let fault = format!("{file}:{call}:{n}:{how}");
            // The first of the file itself hits the thread that folds a full log in, others the end.
            let task = if !of_commits && *n == 1 { "one, large" } else { "one" };
            let (dir, steps) = run.shimmed(&format!("{file}-{call}-{n}-{how}"), task, Some(&fault));
            assert!(steps.iter().any(|step| step.kind == b'X'), "{fault}: it never came to that");
            let mut disk = Disk::new(&steps);
            (0..steps.len()).for_each(|at| disk.step(at));
            let told = String::from_utf8(disk.acknowledged.clone()).unwrap();
            let codes: Vec<&str> = told.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
            let wrong: Vec<_> = codes.iter().filter(|c| **c != "ok" && !answers(call, how).contains(c)).collect();
            assert!(wrong.is_empty(), "{fault}: {codes:?}");
            if of_commits && *call != "truncate" && *how != "SHORT" {
                assert!(codes.iter().any(|code| *code != "ok"), "{fault}: it was acknowledged");
            }
            match codes.iter().position(|code| *code == "store.stopped") {
                Some(first) => {
                    assert!(codes[first..].iter().all(|code| *code == "store.stopped"), "{fault}: {codes:?}");
                }
                // A full disk is not for ever.
                None => assert_eq!(codes.last(), Some(&"ok"), "{fault}: {codes:?}"),
            }
            check(&dir, told.as_bytes(), &fault).await;
            // The same with a power cut after it: what a failed sync did not write is lost.
            let image = run.dir.path().join("image");
            for unsynced in [Unsynced::Dropped, Unsynced::Torn(u64::from(*n))] {
                disk.cut(&image, unsynced);
                check(&image, told.as_bytes(), &format!("{fault}, then a power cut, {unsynced:?}")).await;
            }
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

const WRITE: &[&str] = &["EIO", "ENOSPC", "EDQUOT", "SHORT", "SHORTFULL"];
const SYNC: &[&str] = &["EIO", "ENOSPC", "EDQUOT"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_or_synced_acknowledges_nothing_it_does_not_have() {
    let file = format!("{FILE}-wal");
    faults(&file, &[("write", WRITE, &[1, 2, 3, 10]), ("sync", SYNC, &[1, 4]), ("truncate", SYNC, &[1])]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_log_cannot_be_folded_into_loses_nothing() {
    faults(FILE, &[("write", WRITE, &[1, 3]), ("sync", SYNC, &[1]), ("truncate", SYNC, &[1])]).await;
}

struct Directory(tempfile::TempDir);

impl Place for Directory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async move {
            // The killed process's lock goes with it, but maybe not at once.
            for _ in 0..100 {
                match open(self.0.path()) {
                    Err(StoreError::Locked(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => return Arc::new(other.unwrap()) as Arc<dyn Store>,
                }
            }
            panic!("the directory stays locked")
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_was_told_is_there() {
    let place = Directory(tempfile::tempdir().unwrap());
    kill::what_a_killed_process_was_told_is_there(&place, || Run::command(place.0.path(), "kill")).await;
}
