//! `/metrics` in the OpenMetrics text format.
//!
//! Without a credential nothing is said of any tenant: figures are sums over all of them, and what is
//! counted by environment is counted by `tier`, whose three words are the same for everyone. Who
//! brings a credential with `status:read` gets their tenant's own, by `environment`, and which policy
//! version each of them decides by.

use std::collections::BTreeMap;

use intended_model::entry::Tier;
use intended_runtime::metrics::{BOUNDS, PHASES, Times};
use intended_runtime::{Principal, RuntimeError, Tenant};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::App;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What halts are on.
const HALTS: [&str; 6] = ["tenant", "environment", "agent", "connector", "tool", "category"];

/// Everything on one page, read before it is written.
#[derive(Debug, Default)]
struct Snapshot {
    /// `environment` or `tier`.
    by: &'static str,
    decisions: BTreeMap<(String, &'static str, &'static str), u64>,
    phases: BTreeMap<String, [Times; PHASES.len()]>,
    tokens_issued: u64,
    conflicts: u64,
    verifications: Vec<(&'static str, u64)>,
    append: Times,
    ledger_size: u64,
    checkpoint_age: f64,
    /// Of the tenant, of an environment.
    halts: [u64; HALTS.len()],
    open: u64,
    policies: Vec<(String, String)>,
    /// By sink: entries and seconds behind, events, failures. Strangers get them as one.
    sinks: BTreeMap<String, (u64, f64, u64, u64)>,
    /// Spans exported and dropped, attempts that failed; where they are exported.
    traces: Option<[u64; 3]>,
    process: Process,
    started: f64,
}

/// The page for a caller, or for nobody in particular.
pub async fn page(app: &App, caller: Option<&Principal>) -> Result<String, RuntimeError> {
    let runtime = &app.runtime;
    let metrics = runtime.metrics();
    let own = |tenant: &Tenant| caller.is_none_or(|c| c.tenant.id == tenant.id);
    let tenants: Vec<_> = runtime.tenants().into_iter().filter(|t| own(t)).collect();
    let mut page = Snapshot {
        by: if caller.is_some() { "environment" } else { "tier" },
        tokens_issued: metrics.tokens_issued(),
        conflicts: metrics.conflicts(),
        verifications: metrics.verifications().collect(),
        append: metrics.append(),
        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit for many thousand years")]
        started: runtime.started().as_millis() as f64 / 1000.0,
        traces: app.traces.as_ref().map(|counts| counts.read()),
        process: Process::read(),
        ..Snapshot::default()
    };
    for tenant in &tenants {
        page.ledger_size += runtime.store().head(&tenant.id).await.map_err(RuntimeError::from)?.size;
        #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds")]
        let age = runtime.checkpoint_age(tenant).await? as f64 / 1000.0;
        page.checkpoint_age = page.checkpoint_age.max(age);
        page.open += runtime.open_escalations(tenant).await?;
        for standing in runtime.siem(tenant).await? {
            let label = if caller.is_some() { standing.sink.spec.name.to_string() } else { "all".to_owned() };
            let sink = page.sinks.entry(label).or_default();
            sink.0 += standing.lag_entries;
            #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds")]
            let lag = standing.lag_ms as f64 / 1000.0;
            sink.1 = sink.1.max(lag);
            sink.2 += standing.progress.exported;
            sink.3 += standing.progress.failures;
        }
        let state = tenant.state();
        for halt in state.halts.values() {
            let kind = halt.on.as_ref().map(intended_model::emergency::HaltTarget::kind);
            let kind = kind.unwrap_or(if halt.environment.is_none() { "tenant" } else { "environment" });
            if let Some((_, n)) = HALTS.iter().zip(&mut page.halts).find(|(scope, _)| **scope == kind) {
                *n += 1;
            }
        }
        for environment in state.environments.values() {
            let named = caller.is_some_and(|c| c.sees(&environment.id));
            if let (true, Some(version)) = (named, &environment.deployed) {
                page.policies.push((environment.id.to_string(), format!("{} {}", version.pack, version.version)));
            }
        }
    }
    metrics.each(|tenant, environment, counted| {
        let Some(known) = tenants.iter().find(|t| t.id == *tenant) else { return };
        let label = match caller {
            Some(caller) if !caller.sees(environment) => return,
            Some(_) => environment.to_string(),
            None => {
                let tier = known.state().environments.get(environment).map(|e| e.tier);
                tier.map_or("unknown", Tier::as_str).to_owned()
            }
        };
        for (outcome, reason, n) in counted.decisions() {
            *page.decisions.entry((label.clone(), outcome.as_str(), reason.as_str())).or_default() += n;
        }
        let sums = page.phases.entry(label).or_default();
        for (sum, times) in sums.iter_mut().zip(&counted.phases()) {
            sum.add(times);
        }
    });
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut out = String::new();
    prometheus_client::encoding::text::encode(&mut out, &registry).map_err(RuntimeError::internal)?;
    Ok(out)
}

type Written = Result<(), std::fmt::Error>;

fn counter<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, u64)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    Ok(())
}

fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, V)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn histogram<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, Times)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, times) in samples {
        let mut sample = family.encode_family(&labels)?;
        sample.encode_histogram::<NoLabelSet>(times.seconds, times.count(), &buckets(&times), None)?;
    }
    Ok(())
}

fn one_counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn one_gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: impl EncodeGaugeValue) -> Written {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn buckets(times: &Times) -> Vec<(f64, u64)> {
    BOUNDS.iter().copied().chain([f64::INFINITY]).zip(times.buckets).collect()
}

impl Collector for Snapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Written {
        let to = &mut to;
        let by = self.by;
        let decisions = self.decisions.iter().map(|((environment, decision, reason), n)| {
            ([(by, environment.as_str()), ("decision", *decision), ("reason", *reason)], *n)
        });
        counter(to, "intended_decisions", "Decisions recorded since the start.", decisions)?;
        let phases = self.phases.iter().flat_map(|(environment, phases)| {
            let phases = PHASES.iter().zip(phases);
            phases.map(move |(phase, times)| ([(by, environment.as_str()), ("phase", *phase)], *times))
        });
        histogram(to, "intended_decision_duration_seconds", "How long the phases of a decision took.", phases)?;
        one_counter(to, "intended_tokens_issued", "Tokens issued since the start.", self.tokens_issued)?;
        let verifications = self.verifications.iter().map(|(result, n)| ([("result", *result)], *n));
        counter(to, "intended_token_verifications", "Online token verifications since the start.", verifications)?;
        let help = "How long it took until what was to be recorded was durable.";
        let mut family =
            to.encode_descriptor("intended_audit_append_duration_seconds", help, None, MetricType::Histogram)?;
        let append = &self.append;
        family.encode_histogram::<NoLabelSet>(append.seconds, append.count(), &buckets(append), None)?;
        one_gauge(to, "intended_ledger_size", "Entries in the ledger.", self.ledger_size)?;
        let help = "How long the oldest entry has been waiting for a kept checkpoint; 0 when all have one.";
        one_gauge(to, "intended_checkpoint_age_seconds", help, self.checkpoint_age)?;
        let policies = self.policies.iter().map(|(environment, version)| {
            ([("environment", environment.as_str()), ("version", version.as_str())], 1_u64)
        });
        gauge(to, "intended_policy_info", "The policy version that an environment decides by.", policies)?;
        let halts = HALTS.into_iter().zip(self.halts).map(|(scope, n)| ([("scope", scope)], n));
        gauge(to, "intended_halt_active", "Halts in force.", halts)?;
        let help = "Escalations and deferrals that wait for an answer.";
        one_gauge(to, "intended_escalations_open", help, self.open)?;
        let help = "Commits of decisions that lost a race and were decided again.";
        one_counter(to, "intended_commit_conflicts", help, self.conflicts)?;
        let sink = |name: &String| [("sink", name.clone())];
        let behind = self.sinks.iter().map(|(name, s)| (sink(name), s.0));
        gauge(to, "intended_siem_lag_entries", "Ledger entries that a collector has not acknowledged.", behind)?;
        let seconds = self.sinks.iter().map(|(name, s)| (sink(name), s.1));
        gauge(to, "intended_siem_lag_seconds", "How long the oldest of them has been waiting.", seconds)?;
        let sent = self.sinks.iter().map(|(name, s)| (sink(name), s.2));
        counter(to, "intended_siem_events", "Events that collectors have acknowledged.", sent)?;
        let failed = self.sinks.iter().map(|(name, s)| (sink(name), s.3));
        counter(to, "intended_siem_failures", "Batches that were not taken.", failed)?;
        if let Some([exported, dropped, failed]) = self.traces {
            one_counter(to, "intended_trace_spans_exported", "Spans that the collector has taken.", exported)?;
            let help = "Spans that were not exported: the queue was full, or the collector did not take them.";
            one_counter(to, "intended_trace_spans_dropped", help, dropped)?;
            one_counter(to, "intended_trace_export_failures", "Attempts to hand spans over that failed.", failed)?;
        }
        self.process.encode(to)?;
        one_gauge(to, "process_start_time_seconds", "When it started, since the epoch.", self.started)
    }
}

/// What the system says of this process; absent where it does not say it like Linux.
#[derive(Debug, Default)]
struct Process {
    resident_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    open_files: Option<u64>,
}

/// Clock ticks in a second, in which Linux tells processor time to programs on every architecture.
const TICKS: f64 = 100.0;

impl Process {
    fn read() -> Self {
        let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        let resident_bytes = text("status").and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
        });
        let cpu_seconds = text("stat").and_then(|stat| {
            // After the name, which may hold anything, also brackets.
            let (_, fields) = stat.rsplit_once(')')?;
            let mut fields = fields.split_ascii_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<f64>().ok();
            Some((ticks()? + ticks()?) / TICKS)
        });
        let open_files = std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as u64);
        Self { resident_bytes, cpu_seconds, open_files }
    }

    fn encode(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        if let Some(bytes) = self.resident_bytes {
            one_gauge(to, "process_resident_memory_bytes", "Memory in use.", bytes)?;
        }
        if let Some(seconds) = self.cpu_seconds {
            let mut family =
                to.encode_descriptor("process_cpu_seconds", "Processor time.", None, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        if let Some(files) = self.open_files {
            one_gauge(to, "process_open_fds", "Open files and connections.", files)?;
        }
        Ok(())
    }
}
