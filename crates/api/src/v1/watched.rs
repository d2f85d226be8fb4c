//! What the server is watched by, as far as this crate can try it: its metrics page, the figures that
//! alerts go by, the log, traces.

use std::collections::BTreeSet;

use intended_runtime::capabilities::{Found, Probed};
use intended_runtime::{Principal, RuntimeError};
use tracing::Level;

use super::capabilities::FAULT;
use crate::{App, logged, metrics};

/// A page that nobody has read for so long is no page that alerts are made from.
const UNREAD_MS: i64 = 10 * 60_000;
/// Of so many spans one may be lost.
const LOST_OF: u64 = 100;

/// Every family that is documented, whether or not there is anything to count yet.
pub const FAMILIES: &[&str] = &[
    "intended_audit_append_duration_seconds",
    "intended_audit_lag_seconds",
    "intended_breaker_state",
    "intended_breakers",
    "intended_checkpoint_age_seconds",
    "intended_commit_conflicts",
    "intended_decision_duration_seconds",
    "intended_decision_errors",
    "intended_decisions",
    "intended_escalation_age_seconds",
    "intended_escalations_open",
    "intended_halt_active",
    "intended_health",
    "intended_http_requests",
    "intended_ledger_size",
    "intended_log_lines_dropped",
    "intended_policy_info",
    "intended_ready",
    "intended_siem_events",
    "intended_siem_failures",
    "intended_siem_lag_entries",
    "intended_siem_lag_seconds",
    "intended_signing_key_expiry_seconds",
    "intended_state_staleness_seconds",
    "intended_synthetic",
    "intended_token_verifications",
    "intended_tokens_issued",
    "intended_unread_tenants",
];

/// Those of them that the shipped alert rules go by.
pub const ALERTED: &[&str] = &[
    "intended_audit_append_duration_seconds",
    "intended_audit_lag_seconds",
    "intended_breakers",
    "intended_checkpoint_age_seconds",
    "intended_commit_conflicts",
    "intended_decision_duration_seconds",
    "intended_decision_errors",
    "intended_decisions",
    "intended_escalation_age_seconds",
    "intended_halt_active",
    "intended_health",
    "intended_http_requests",
    "intended_ready",
    "intended_siem_lag_seconds",
    "intended_signing_key_expiry_seconds",
    "intended_state_staleness_seconds",
    "intended_unread_tenants",
];

/// The families on a page that are not on another list of them.
fn missing(page: &str, wanted: &[&str]) -> Vec<String> {
    let on: BTreeSet<&str> = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    wanted.iter().filter(|family| !on.contains(*family)).map(|family| (*family).to_owned()).collect()
}

/// The page as the caller would get it.
pub async fn metrics(app: &App, by: &Principal) -> Probed {
    let page = metrics::page(app, Some(by)).await?;
    let size = app.runtime.store().head(&by.tenant.id).await.map_err(RuntimeError::from)?.size;
    // Something can be recorded between the two.
    let shown = page.lines().find_map(|l| l.strip_prefix("intended_ledger_size ")?.parse::<u64>().ok());
    if shown.is_none_or(|shown| shown > size) {
        return Ok(Found::unavailable("the ledger's size is not on the page", FAULT));
    }
    if !page.ends_with("# EOF\n") {
        return Ok(Found::unavailable("the page does not end as OpenMetrics does", FAULT));
    }
    let missing = missing(&page, FAMILIES);
    if !missing.is_empty() {
        return Ok(Found::unavailable(format!("not on the page: {}", missing.join(", ")), FAULT));
    }
    let families = page.lines().filter(|l| l.starts_with("# TYPE ")).count();
    Ok(Found::working(format!("{families} families on the page, each that is documented among them")))
}

/// What the shipped rules go by, and whether anybody reads it.
pub async fn alerts(app: &App, by: &Principal) -> Probed {
    let page = metrics::page(app, Some(by)).await?;
    let missing = missing(&page, ALERTED);
    if !missing.is_empty() {
        return Ok(Found::unavailable(format!("rules go by what is not on the page: {}", missing.join(", ")), FAULT));
    }
    let there = format!("all {} figures of the shipped rules are on the page", ALERTED.len());
    let read = app.scraped.last(&by.tenant.id).map(|at| app.runtime.now().millis_since(at));
    match read.filter(|ago| *ago < UNREAD_MS) {
        Some(ago) => Ok(Found::working(format!("{there}, last read {} s ago", ago.max(0) / 1000))),
        None => Ok(Found::not_configured(
            format!("{there}, but nobody has read it in {} minutes: no alert can fire", UNREAD_MS / 60_000),
            "have a Prometheus read `/metrics`, with the rules of deploy/prometheus: docs/alerts.md",
        )),
    }
}

/// What the log takes.
pub fn logs() -> Found {
    if !tracing::event_enabled!(Level::ERROR) {
        return Found::not_configured("this process writes no log", "serve with the `intended` binary");
    }
    if !tracing::event_enabled!(Level::WARN) {
        return Found::degraded(
            "only errors are written",
            "set INTENDED_LOG to `warn`: what fails and is tried again is then said too",
        );
    }
    let requests = if tracing::event_enabled!(target: logged::ACCESS, Level::INFO) { "a" } else { "no" };
    Found::working(format!("warnings are written, and {requests} line for each request"))
}

/// What became of the spans.
pub fn traces(app: &App) -> Found {
    let Some(counts) = &app.traces else {
        return Found::not_configured(
            "spans go nowhere, and cost nothing",
            "add an [otlp] table to the server's config file: docs/logs-and-traces.md#traces",
        );
    };
    let [exported, dropped, failed] = counts.read();
    let what = format!("{exported} spans exported, {dropped} dropped, {failed} failed attempts");
    let mend = "see that the collector answers, and the server's log: docs/logs-and-traces.md#traces";
    match (exported, dropped, failed) {
        (0, _, 1..) | (0, 1.., _) => Found::unavailable(what, mend),
        _ if dropped > exported / LOST_OF => Found::degraded(what, mend),
        _ => Found::working(what),
    }
}
