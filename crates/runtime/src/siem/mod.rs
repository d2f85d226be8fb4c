//! Streaming a ledger to those who watch: every entry, in order, at least once.
//!
//! A sink follows the ledger by a cursor, which is kept as a fact only when the collector has what is
//! before it. What is between the cursor and what was sent is sent again after a crash or a broken
//! connection: some of it twice, none of it never; each event carries tenant and index, by which a
//! receiver tells. A sink reads what is committed already, in small pages, on a task of its own, and
//! holds one batch: decisions neither wait for it nor know of it, and a collector that stands still
//! costs a growing number in the health check and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use intended_ledger::leaf_hash;
use intended_model::about::{About, Activity, Class, about};
use intended_model::entry::Scope;
use intended_model::{Code, Event, Name, TenantId, Timestamp};
use intended_store::{Commit, StoreError, StoredEntry, Write};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Environments, Reach};
use crate::metrics::Stopwatch;
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError, Tenant};

pub mod cef;
pub mod filter;
pub mod ocsf;

pub use filter::Filter;
pub use intended_model::about::Severity;

/// Entries that are read at once.
const PAGE: usize = 32;
/// Entries that are looked at for one batch: where a filter takes few, others get their turn.
const MAX_SCAN: usize = 4_096;
/// A batch has not many more bytes than these.
const MAX_BYTES: usize = 1 << 20;
/// Sent and not yet certain: places to go back to, not events.
const MAX_PENDING: usize = 65_536;
/// How far a cursor may be behind what no filter took.
const MAX_UNKEPT: u64 = 1_000;
/// How often it looks for new entries.
const LOOK: Duration = Duration::from_millis(250);
/// After the first failure; doubled each time, up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// Longest message of a failure that is kept.
const MAX_WHY: usize = 300;
/// Behind by so much, a sink is degraded.
pub const BEHIND_MS: i64 = 60_000;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Ocsf,
    Cef,
}

impl Format {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }
}

/// Where a sink begins that has never sent anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Beginning,
    Now,
}

/// What a sink gets.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    pub name: Name,
    pub format: Format,
    pub filter: Filter,
    /// None: all of the server's.
    pub tenants: Vec<TenantId>,
    pub start: Start,
    /// `file`, `syslog`, `https`.
    pub transport: &'static str,
    /// Most events in one batch.
    pub batch: usize,
}

/// One event, without a line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub kind: &'static str,
    pub severity: Severity,
    pub at: Timestamp,
}

impl Line {
    fn of(position: &Position<'_>, about: &About<'_>) -> Self {
        Self { text: String::new(), kind: position.kind, severity: about.severity, at: position.at }
    }
}

/// Where an event stands.
#[derive(Debug, Clone)]
pub struct Position<'a> {
    pub tenant: &'a str,
    pub index: u64,
    pub at: Timestamp,
    pub kind: &'static str,
    /// RFC 6962, as the tree has it.
    pub leaf_hash: String,
    /// None where it is about the whole tenant.
    pub environments: Vec<String>,
    pub test: bool,
}

impl Position<'_> {
    /// What a receiver tells duplicates by.
    #[must_use]
    pub fn uid(&self) -> String {
        if self.test {
            format!("{}/test/{}", self.tenant, self.at.as_millis())
        } else {
            format!("{}/{}", self.tenant, self.index)
        }
    }
}

pub type Sending<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What takes events to a collector.
pub trait Collector: Send + 'static {
    /// Sends all of them, in order. Answers how long after this it is certain that they arrived,
    /// unless [`Self::stands`] says otherwise until then. It gives up by itself after some time.
    fn send<'a>(&'a mut self, batch: &'a [Line]) -> Sending<'a, Duration>;
    /// Whether nothing has happened to what was sent.
    fn stands(&mut self) -> Sending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// How far a tenant's export has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The index after the last entry that needs no sending any more.
    pub acknowledged: u64,
    /// Events, not entries: since the beginning.
    pub exported: u64,
    /// Since the start of the process.
    pub failures: u64,
    /// Since the last success.
    pub failing: bool,
    pub last_error: Option<String>,
    pub last_error_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

/// What is kept of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    exported: u64,
    next: u64,
}

type Tested = oneshot::Sender<Result<(), String>>;
type Test = (TenantId, Tested);

/// A sink as everyone sees it.
pub struct Sink {
    pub spec: SinkSpec,
    progress: Mutex<BTreeMap<TenantId, Progress>>,
    tests: mpsc::Sender<Test>,
    waiting: Mutex<Option<mpsc::Receiver<Test>>>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

impl Sink {
    #[must_use]
    pub fn new(spec: SinkSpec) -> Arc<Self> {
        let (tests, waiting) = mpsc::channel(4);
        Arc::new(Self { spec, progress: Mutex::default(), tests, waiting: Mutex::new(Some(waiting)) })
    }
    /// Whether it gets what happens in a tenant.
    #[must_use]
    pub fn takes(&self, tenant: &TenantId) -> bool {
        self.spec.tenants.is_empty() || self.spec.tenants.contains(tenant)
    }
    #[must_use]
    pub fn progress(&self, tenant: &TenantId) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned().unwrap_or_default()
    }
    fn note(&self, tenant: &TenantId, change: impl FnOnce(&mut Progress)) {
        change(self.progress.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant.clone()).or_default());
    }
    fn key(&self) -> String {
        format!("x/{}", self.spec.name)
    }
}

/// A sink of a tenant, and how it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    pub sink: Arc<Sink>,
    pub progress: Progress,
    pub lag_entries: u64,
    pub lag_ms: i64,
}

impl Standing {
    /// `ok`, `behind` or `failing`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self { progress: Progress { failing: true, .. }, .. } => "failing",
            Self { lag_ms, .. } if *lag_ms > BEHIND_MS => "behind",
            _ => "ok",
        }
    }
}

/// A place that was sent up to, and when that is certain.
struct Sent {
    kept: Kept,
    since: Stopwatch,
    after: Duration,
}

/// The export of one tenant to one sink.
struct Run {
    /// As it is in the store, with the fact's version.
    kept: Kept,
    version: u64,
    /// What will be read next, and the number of events up to there.
    at: Kept,
    pending: VecDeque<Sent>,
    /// After a failure.
    wait: Option<(Stopwatch, Duration)>,
}

impl Run {
    /// Back to what is certain.
    fn again(&mut self) {
        self.pending.clear();
        self.at = self.kept;
    }
    fn failed(&mut self) {
        self.again();
        let last = self.wait.map_or(Duration::ZERO, |(_, wait)| wait);
        self.wait = Some((Stopwatch::start(), (last * 2).clamp(FIRST_WAIT, LAST_WAIT)));
    }
    fn waits(&self) -> bool {
        self.wait.is_some_and(|(since, wait)| since.elapsed() < wait)
    }
}

/// One exporter: the runs of a sink over its tenants.
pub struct Exporter {
    sink: Arc<Sink>,
    collector: Box<dyn Collector>,
    runs: BTreeMap<TenantId, Run>,
}

impl Exporter {
    #[must_use]
    pub fn new(sink: Arc<Sink>, collector: Box<dyn Collector>) -> Self {
        Self { sink, collector, runs: BTreeMap::new() }
    }
    #[must_use]
    pub fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.sink)
    }
}

impl Runtime {
    /// The sinks of this server, said once.
    pub fn set_sinks(&self, sinks: Vec<Arc<Sink>>) {
        let _ = self.sinks.set(sinks);
    }

    fn sinks(&self) -> &[Arc<Sink>] {
        self.sinks.get().map_or(&[], Vec::as_slice)
    }

    /// Exports for as long as it is polled.
    pub async fn export(self: Arc<Self>, mut exporter: Exporter) {
        let mut tests = exporter.sink.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        loop {
            let moved = self.export_round(&mut exporter).await;
            let pause = if moved { Duration::ZERO } else { LOOK };
            let test = async {
                match &mut tests {
                    Some(tests) => tests.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                biased;
                Some((tenant, answer)) = test => {
                    let line = self.test_line(&exporter.sink, &tenant);
                    let sent = exporter.collector.send(&[line]).await;
                    if sent.is_err() {
                        exporter.runs.values_mut().for_each(Run::again);
                    }
                    let _ = answer.send(sent.map(drop));
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends one batch of each tenant, as far as there is something to send. Answers whether anything
    /// moved.
    pub async fn export_round(&self, exporter: &mut Exporter) -> bool {
        let mut moved = false;
        for tenant in self.tenants() {
            if !exporter.sink.takes(&tenant.id) {
                continue;
            }
            let sink = Arc::clone(&exporter.sink);
            match self.step(&sink, &tenant, exporter).await {
                Ok(more) => moved |= more,
                Err(why) => {
                    tracing::warn!(tenant = %tenant.id, sink = %sink.spec.name, %why, "nothing can be exported");
                    // The connection is everyone's: what was sent over it and is not certain is sent again.
                    exporter.runs.values_mut().for_each(Run::again);
                    if let Some(run) = exporter.runs.get_mut(&tenant.id) {
                        run.failed();
                    }
                    let now = self.now();
                    sink.note(&tenant.id, |p| {
                        p.failures += 1;
                        p.failing = true;
                        p.last_error = Some(why.chars().take(MAX_WHY).collect());
                        p.last_error_at = Some(now);
                    });
                }
            }
        }
        moved
    }

    async fn step(&self, sink: &Sink, tenant: &Arc<Tenant>, exporter: &mut Exporter) -> Result<bool, String> {
        let said = |e: RuntimeError| e.to_string();
        if !exporter.runs.contains_key(&tenant.id) {
            let run = self.begin(sink, tenant).await.map_err(said)?;
            exporter.runs.insert(tenant.id.clone(), run);
        }
        let Some(run) = exporter.runs.get_mut(&tenant.id) else { return Ok(false) };
        if run.waits() {
            return Ok(false);
        }
        let settled = self.acknowledge(sink, tenant, run, &mut *exporter.collector).await?;
        if run.pending.len() >= MAX_PENDING {
            return Ok(settled);
        }
        let (lines, next) = self.batch(sink, tenant, run.at.next).await.map_err(said)?;
        if next == run.at.next {
            return Ok(settled);
        }
        let after = match lines.as_slice() {
            // Nothing of it is for this sink: there is nothing to wait for.
            [] => Duration::ZERO,
            lines => exporter.collector.send(lines).await?,
        };
        run.wait = None;
        run.at = Kept { next, exported: run.at.exported + lines.len() as u64 };
        run.pending.push_back(Sent { kept: run.at, since: Stopwatch::start(), after });
        if !lines.is_empty() {
            let now = self.now();
            sink.note(&tenant.id, |p| {
                p.failing = false;
                p.last_at = Some(now);
            });
        }
        self.acknowledge(sink, tenant, run, &mut *exporter.collector).await?;
        Ok(true)
    }

    /// Moves the cursor over what is certain.
    async fn acknowledge(
        &self,
        sink: &Sink,
        tenant: &Arc<Tenant>,
        run: &mut Run,
        collector: &mut dyn Collector,
    ) -> Result<bool, String> {
        let due = run.pending.iter().take_while(|s| s.since.elapsed() >= s.after).count();
        let Some(last) = due.checked_sub(1).and_then(|n| run.pending.get(n)) else { return Ok(false) };
        let (kept, waited) = (last.kept, run.pending.iter().take(due).any(|s| !s.after.is_zero()));
        if waited {
            collector.stands().await?;
        }
        run.pending.drain(..due);
        // What no filter took is not worth a commit each time: it would only be looked at again.
        if kept.exported > run.kept.exported || kept.next - run.kept.next >= MAX_UNKEPT {
            let kept_now = self.keep_cursor(sink, tenant, run, kept).await.map_err(|e| e.to_string())?;
            if !kept_now {
                return Ok(true);
            }
        }
        sink.note(&tenant.id, |p| {
            p.acknowledged = kept.next;
            p.exported = kept.exported;
        });
        Ok(true)
    }

    async fn begin(&self, sink: &Sink, tenant: &Arc<Tenant>) -> Result<Run, RuntimeError> {
        let fact = self.store().fact_now(&tenant.id, &sink.key())?;
        let (kept, version) = match fact {
            Some(fact) => (serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?, fact.version),
            None => (Kept::default(), 0),
        };
        let mut run = Run { kept, version, at: kept, pending: VecDeque::new(), wait: None };
        if version == 0 && sink.spec.start == Start::Now {
            let now = Kept { next: self.store().head(&tenant.id).await?.size, exported: 0 };
            self.keep_cursor(sink, tenant, &mut run, now).await?;
            run.at = run.kept;
        }
        let kept = run.kept;
        sink.note(&tenant.id, |p| {
            p.acknowledged = kept.next;
            p.exported = kept.exported;
        });
        Ok(run)
    }

    /// The next events, and the index that they reach up to.
    async fn batch(&self, sink: &Sink, tenant: &Arc<Tenant>, from: u64) -> Result<(Vec<Line>, u64), RuntimeError> {
        let (mut lines, mut next, mut bytes) = (Vec::new(), from, 0);
        let most = sink.spec.batch.max(1);
        let mut reach: Option<Arc<Reach>> = None;
        let state = tenant.state();
        let limit = u64::try_from(MAX_SCAN).unwrap_or(u64::MAX);
        while next - from < limit {
            let page = self.store().entries(&tenant.id, next, PAGE).await?;
            if page.is_empty() {
                break;
            }
            // After the page: it then knows every control entry that the page can mean.
            let fresh = self.reach(tenant).await?;
            let reach = reach.insert(fresh);
            for entry in page {
                let event = event_of(&entry.leaf)?;
                let about = about(&event);
                let environments = reach.of(&event);
                if sink.spec.filter.takes(&event, &about, environments, &state) {
                    let line = line(sink.spec.format, &tenant.id, &entry, environments, &event, &about);
                    bytes += line.text.len();
                    lines.push(line);
                }
                next = entry.index + 1;
                if lines.len() >= most || bytes >= MAX_BYTES {
                    return Ok((lines, next));
                }
            }
            // Others come in between.
            tokio::task::yield_now().await;
        }
        Ok((lines, next))
    }

    /// Writes a cursor down; `false` when another process moved it, whose word is then taken.
    async fn keep_cursor(&self, sink: &Sink, tenant: &Tenant, run: &mut Run, kept: Kept) -> Result<bool, RuntimeError> {
        let key = sink.key();
        let value = serde_json::to_vec(&kept).map_err(RuntimeError::internal)?;
        let commit = Commit {
            tenant: tenant.id.clone(),
            now: self.now(),
            control_version: None,
            reads: vec![(key.as_str().into(), run.version)],
            writes: vec![Write::Put { key: key.as_str().into(), value, expires_at: None }],
            entries: Vec::new(),
        };
        let moved = match self.follower.commit(commit).await {
            Ok(_) => true,
            Err(StoreError::Conflict(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let fact = self.store().fact_now(&tenant.id, &key)?;
        run.version = fact.as_ref().map_or(0, |f| f.version);
        if moved {
            run.kept = kept;
        } else if let Some(fact) = fact {
            run.kept = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
            run.again();
        }
        Ok(moved)
    }

    /// How every sink of a tenant stands.
    pub async fn siem(&self, tenant: &Tenant) -> Result<Vec<Standing>, RuntimeError> {
        let mut out = Vec::new();
        let head = self.store().head(&tenant.id).await?;
        for sink in self.sinks().iter().filter(|s| s.takes(&tenant.id)) {
            let progress = sink.progress(&tenant.id);
            let lag_entries = head.size.saturating_sub(progress.acknowledged);
            let oldest =
                if lag_entries == 0 { None } else { self.store().entry(&tenant.id, progress.acknowledged).await? };
            let lag_ms = oldest.map_or(0, |e| self.now().millis_since(e.at).max(0));
            out.push(Standing { sink: Arc::clone(sink), progress, lag_entries, lag_ms });
        }
        Ok(out)
    }

    /// Sends one event that is marked as a test, in its turn, and says what came of it.
    pub async fn test_sink(&self, by: &Principal, name: &Name) -> Result<Result<(), String>, RuntimeError> {
        // It ends up where the whole tenant's events are.
        by.require_whole(Scope::AccessWrite)?;
        let sink =
            self.sinks().iter().find(|s| s.spec.name == *name && s.takes(&by.tenant.id)).ok_or(Code::NotFound)?;
        let (answer, answered) = oneshot::channel();
        let busy = || Ok(Err("the sink is busy with a batch or with other tests".to_owned()));
        if sink.tests.try_send((by.tenant.id.clone(), answer)).is_err() {
            return busy();
        }
        match tokio::time::timeout(Duration::from_secs(20), answered).await {
            Ok(Ok(sent)) => Ok(sent),
            Ok(Err(_)) => Ok(Err("this server exports nothing".to_owned())),
            Err(_) => busy(),
        }
    }

    fn test_line(&self, sink: &Sink, tenant: &TenantId) -> Line {
        let position = Position {
            tenant: tenant.as_str(),
            index: 0,
            at: self.now(),
            kind: "siem.test",
            leaf_hash: String::new(),
            environments: Vec::new(),
            test: true,
        };
        let about = About {
            class: Class::Entity,
            activity: Activity::Other("test"),
            entity: "siem sink",
            id: sink.spec.name.to_string(),
            by: None,
            member: None,
            agent: None,
            intent: None,
            reason: None,
            severity: Severity::Informational,
            summary: format!("a test of the sink `{}`: nothing happened", sink.spec.name),
        };
        match sink.spec.format {
            Format::Ocsf => ocsf::line(&position, &about, None, b""),
            Format::Cef => cef::line(&position, &about, None),
        }
    }
}

/// The event of an entry.
fn line(
    format: Format,
    tenant: &TenantId,
    entry: &StoredEntry,
    environments: Environments<'_>,
    event: &Event,
    about: &About<'_>,
) -> Line {
    let position = Position {
        tenant: tenant.as_str(),
        index: entry.index,
        at: entry.at,
        kind: event.kind().as_str(),
        leaf_hash: leaf_hash(&entry.leaf).to_string(),
        environments: match environments {
            Environments::Every => Vec::new(),
            Environments::These(these) => these.iter().map(ToString::to_string).collect(),
        },
        test: false,
    };
    match format {
        Format::Ocsf => ocsf::line(&position, about, Some(event), &entry.leaf),
        Format::Cef => cef::line(&position, about, Some(event)),
    }
}

/// The event of an entry as it stands, for those who make it outside of an export.
#[must_use]
pub fn line_of(format: Format, tenant: &TenantId, entry: &StoredEntry, event: &Event, of: Environments<'_>) -> Line {
    line(format, tenant, entry, of, event, &about(event))
}
