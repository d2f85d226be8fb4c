//! Health, nodes, readiness. What they say is bad is no fault of saying it; where nothing is said of
//! something, that is.

use std::collections::BTreeSet;

use super::{count, listed};
use crate::capabilities::{Ask, Found, Probed};
use crate::health::{CHECKS, Check, Status};
use crate::readiness::Verdict;

/// From then on a run says little about now.
const OLD_MS: i64 = 30 * 86_400_000;

const SEE: &str = "see `intended health check --verbose`";

pub async fn health(ask: &Ask) -> Probed {
    let checks = ask.runtime().health().await;
    let seen: BTreeSet<&str> = checks.iter().map(|c| c.component).collect();
    let missing: Vec<String> =
        CHECKS.iter().map(|(c, _)| *c).filter(|c| !seen.contains(c)).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Ok(Found::unavailable(
            format!("nothing is measured of: {}", listed(&missing)),
            "it is a fault of this release; see `intended health check --verbose`",
        ));
    }
    // Of others' tenants nothing counts here, not even that something is wrong.
    let own = |c: &&Check| {
        c.tenant.as_ref().is_none_or(|t| *t == ask.tenant().id) && c.environment.as_ref().is_none_or(|e| ask.by.sees(e))
    };
    let mine: Vec<_> = checks.iter().filter(own).collect();
    // That something is unhealthy is no fault of measuring it.
    let bad = |status: Status| {
        let names: BTreeSet<&str> = mine.iter().filter(|c| c.status == status).map(|c| c.component).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        (!names.is_empty()).then(|| format!("{}: {}", status.as_str(), listed(&names)))
    };
    let told: Vec<String> = [Status::Unavailable, Status::Degraded].into_iter().filter_map(bad).collect();
    let how = if told.is_empty() { "all healthy".to_owned() } else { told.join("; ") };
    let what =
        format!("{} of {} components answer with {}; {how}", seen.len(), CHECKS.len(), count(mine.len(), "check"));
    Ok(Found::working(what))
}

pub async fn nodes(ask: &Ask) -> Probed {
    let runtime = ask.runtime();
    let checks = runtime.health().await;
    let nodes = runtime.nodes(ask.tenant(), &checks).await?;
    if !nodes.iter().any(|n| n.here) {
        return Ok(Found::unavailable("this node is not among them", "it is a fault of this release"));
    }
    if runtime.has_twin() {
        return Ok(Found::degraded(
            "two processes have this node's name",
            "give each its own `node` in `intended.toml`",
        ));
    }
    let late: Vec<String> =
        nodes.iter().filter(|n| n.late).map(|n| format!("`{}` says nothing since {}", n.node, n.beat_at)).collect();
    if !late.is_empty() {
        return Ok(Found::degraded(format!("{} known; {}", count(nodes.len(), "node"), listed(&late)), SEE));
    }
    Ok(Found::working(match nodes.len() {
        1 => "1 node, this one".to_owned(),
        n => format!("{n} nodes, each heard of"),
    }))
}

pub async fn readiness(ask: &Ask) -> Probed {
    let page = ask.runtime().readiness_history(&ask.by, None, 1).await?;
    let again = "measure it: `intended readiness check`";
    let Some(run) = page.runs.first() else {
        return Ok(Found::not_configured("no check was ever made that is yours to see", again));
    };
    let old = ask.now().millis_since(run.at);
    let what = format!("run {}, {} ago: {}", run.run.unwrap_or_default(), age(old), run.verdict.as_str());
    let what = if run.stricter { format!("{what} by stricter thresholds") } else { what };
    Ok(match run.verdict {
        Verdict::Fail => Found::degraded(what, "see why: `intended readiness check --verbose`"),
        Verdict::Pass | Verdict::Warn if old > OLD_MS => Found::degraded(what, again),
        Verdict::Pass | Verdict::Warn => Found::working(what),
    })
}

/// A length of time, in its largest unit.
pub fn age(millis: i64) -> String {
    match millis.max(0) / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}
