//! Audit pipeline lag: how long what happened waits to be durable, to be signed for, to be exported.

use super::{Context, Figure, Limit, Verdict, late, micros};
use crate::Runtime;

impl Runtime {
    pub(super) async fn audit_pipeline(&self, context: &Context<'_>) -> Vec<Figure> {
        let lag = Figure::held("audit lag", Limit::AuditLag, context.thresholds, micros(self.metrics().audit_lag()));
        let lag = lag.with("how long the oldest commit that the store was given has been waiting to be durable");
        let mut figures = vec![lag, self.unkept(context).await];
        figures.extend(self.collectors(context).await);
        figures
    }

    async fn unkept(&self, context: &Context<'_>) -> Figure {
        let (name, limit) = ("checkpoint age", Limit::CheckpointAge);
        match context.in_time(self.checkpoint_age(context.tenant)).await {
            None => Figure::without(name, limit, context.thresholds, late()),
            Some(Err(error)) => Figure::without(name, limit, context.thresholds, error.to_string()),
            Some(Ok(millis)) => {
                let held = Figure::held(name, limit, context.thresholds, (millis.max(0) / 1000).unsigned_abs());
                held.with("how long the oldest entry has been waiting for a kept checkpoint")
            }
        }
    }

    /// A collector that does not answer is never worse than a warning until it is so far behind that it
    /// fails by the threshold: nothing that is decided waits for it.
    async fn collectors(&self, context: &Context<'_>) -> Vec<Figure> {
        let limit = Limit::SiemLag;
        let standings = match context.in_time(self.siem(context.tenant)).await {
            None => return vec![Figure::without("siem", limit, context.thresholds, late())],
            Some(Err(error)) => return vec![Figure::without("siem", limit, context.thresholds, error.to_string())],
            Some(Ok(standings)) => standings,
        };
        let one = |standing: crate::siem::Standing| {
            let name = format!("siem {}", standing.sink.spec.name);
            let seconds = (standing.lag_ms.max(0) / 1000).unsigned_abs();
            let held = Figure::held(&name, limit, context.thresholds, seconds);
            let error = standing.progress.last_error.as_deref().filter(|_| standing.progress.failing);
            let behind = format!("{} entries behind", standing.lag_entries);
            let held = held.with(error.map_or(behind.clone(), |e| format!("{behind}; failing: {e}")));
            if standing.progress.failing { held.at_least(Verdict::Warn, limit.hint()) } else { held }
        };
        standings.into_iter().map(one).collect()
    }
}
