//! The page, family by family.

use intended_runtime::metrics::PHASES;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::breakers::STATES;
use super::encode::{Written, counter, gauge, histogram, one_counter, one_gauge, one_histogram};
use super::{HALTS, Snapshot};
use crate::answers::CLASSES;

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
        let synthetic = self.synthetic.iter().map(|(decision, n)| ([("decision", *decision)], *n));
        let help = "Self-tests decided since the start, which are counted here alone.";
        counter(to, "intended_synthetic", help, synthetic)?;
        let verifications = self.verifications.iter().map(|(result, n)| ([("result", *result)], *n));
        counter(to, "intended_token_verifications", "Online token verifications since the start.", verifications)?;
        let errors = self.decision_errors.iter().map(|(code, n)| ([("code", *code)], *n));
        let help = "Intents that were not decided for a reason of the server's own.";
        counter(to, "intended_decision_errors", help, errors)?;
        let answers = CLASSES.iter().zip(self.answers).map(|(class, n)| ([("class", *class)], n));
        counter(to, "intended_http_requests", "Requests that were answered, without those of probes.", answers)?;
        let help = "How long it took until what was to be recorded was durable.";
        one_histogram(to, "intended_audit_append_duration_seconds", help, &self.append)?;
        let help = "How long the oldest entry that was handed to the store has been waiting to be durable.";
        one_gauge(to, "intended_audit_lag_seconds", help, self.audit_lag)?;
        one_gauge(to, "intended_ready", "Whether requests are taken: 1 or 0.", u64::from(self.ready))?;
        let health = self.health.iter().map(|(component, level)| ([("component", *component)], *level));
        let help = "How each component is: 0 healthy, 1 degraded, 2 unavailable.";
        gauge(to, "intended_health", help, health)?;
        let help = "Tenants whose figures are missing here because the store did not give them.";
        one_gauge(to, "intended_unread_tenants", help, self.unread)?;
        let help = "How long ago memory was last seen to be what the ledger says.";
        one_gauge(to, "intended_state_staleness_seconds", help, self.staleness)?;
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
        let help = "How long the oldest escalation or deferral has been waiting for an answer.";
        one_gauge(to, "intended_escalation_age_seconds", help, self.escalation_age)?;
        let breakers = STATES.into_iter().zip(self.breakers.by_state).map(|(state, n)| ([("state", state)], n));
        gauge(to, "intended_breakers", "Breakers by what they are.", breakers)?;
        let named = self.breakers.named.iter().map(|(name, state)| ([("breaker", name.as_str())], *state));
        let help = "What a breaker is: 0 closed, 1 half-open, 2 open, 3 held.";
        gauge(to, "intended_breaker_state", help, named)?;
        let expiry = self.key_expiry.iter().map(|(environment, left)| ([(by, environment.as_str())], *left));
        let help = "How long until policy has the active signing key rotated; below 0 when it is overdue.";
        gauge(to, "intended_signing_key_expiry_seconds", help, expiry)?;
        let help = "Commits of decisions that lost a race and were decided again.";
        one_counter(to, "intended_commit_conflicts", help, self.conflicts)?;
        let sink = |name: &String| [("sink", name.clone())];
        let behind = self.sinks.iter().map(|(name, s)| (sink(name), s.lag_entries));
        gauge(to, "intended_siem_lag_entries", "Ledger entries that a collector has not acknowledged.", behind)?;
        let seconds = self.sinks.iter().map(|(name, s)| (sink(name), s.lag));
        gauge(
            to,
            "intended_siem_lag_seconds",
            "How long the oldest entry that a collector has not acknowledged has been waiting.",
            seconds,
        )?;
        let sent = self.sinks.iter().map(|(name, s)| (sink(name), s.exported));
        counter(to, "intended_siem_events", "Events that collectors have acknowledged.", sent)?;
        let failed = self.sinks.iter().map(|(name, s)| (sink(name), s.failures));
        counter(to, "intended_siem_failures", "Batches that were not taken.", failed)?;
        if let Some([exported, dropped, failed]) = self.traces {
            one_counter(to, "intended_trace_spans_exported", "Spans that the collector has taken.", exported)?;
            let help = "Spans that were not exported: the queue was full, or the collector did not take them.";
            one_counter(to, "intended_trace_spans_dropped", help, dropped)?;
            one_counter(to, "intended_trace_export_failures", "Attempts to hand spans over that failed.", failed)?;
        }
        let help = "Lines that are not in the log: it was not read in time, or could not be written.";
        one_counter(to, "intended_log_lines_dropped", help, self.lines_dropped)?;
        self.process.encode(to)?;
        one_gauge(to, "process_start_time_seconds", "When it started, since the epoch.", self.started)
    }
}
