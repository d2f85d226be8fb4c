//! Where the log goes and what is in it: by the flags, or by `INTENDED_LOG` (levels, by target).

use intended_telemetry::{Format, Traces};
use tracing_subscriber::EnvFilter;

use crate::config::variable;
use crate::output::note;

/// Levels for the log, in the syntax of `RUST_LOG`.
const LEVELS: &str = "INTENDED_LOG";

/// Begins to log.
pub fn install(quiet: bool, verbose: bool, format: Format, traces: Option<&Traces>) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (_, true) => "info",
        _ => "warn",
    };
    let given = variable(LEVELS).map(EnvFilter::try_new);
    if let Some(Err(error)) = &given {
        note(&format!("warning: {LEVELS}: {error}; the log goes by `{level}`"));
    }
    let filter = given.and_then(Result::ok).unwrap_or_else(|| level.into());
    intended_telemetry::install(format, filter, traces);
}
