//! Where the log goes and what is in it: by the flags, or by `INTENDED_LOG` (levels, by target).

use std::time::Duration;

use intended_model::ExitCode;
use intended_telemetry::{Format, Sink as _, Traces};
use tracing_subscriber::EnvFilter;

use crate::config::variable;
use crate::error::CliError;
use crate::output::note;

/// Levels for the log, in the syntax of `RUST_LOG`.
const LEVELS: &str = "INTENDED_LOG";

/// How long the last lines may take when the process ends, or a message that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Begins to log, as a command does.
pub fn install(quiet: bool, verbose: bool) {
    intended_telemetry::install(Format::Text, filter(quiet, verbose));
}

/// Begins to log, as a server does: nobody waits until it is read.
pub fn install_queued(quiet: bool, verbose: bool, format: Format, traces: Option<&Traces>) -> Result<(), CliError> {
    intended_telemetry::install_queued(format, filter(quiet, verbose), traces)
        .map_err(|e| CliError::Failed(format!("the log does not start: {e}"), ExitCode::Usage))
}

fn filter(quiet: bool, verbose: bool) -> EnvFilter {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (_, true) => "info",
        _ => "warn",
    };
    let given = variable(LEVELS).map(EnvFilter::try_new);
    if let Some(Err(error)) = &given {
        note(&format!("warning: {LEVELS}: {error}; the log goes by `{level}`"));
    }
    given.and_then(Result::ok).unwrap_or_else(|| level.into())
}

/// A line to stderr: after all that was logged, and in a server not later than it is patient, whoever
/// reads it.
pub fn stderr(line: &str) {
    match intended_telemetry::queued() {
        Some(queue) => {
            queue.put(format!("{line}\n"));
            queue.drain(PATIENCE);
        }
        None => eprintln!("{line}"),
    }
}

/// However the process ends, by a panic too, what it said last is written if it is read.
pub struct Drained;

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(queue) = intended_telemetry::queued() {
            queue.drain(PATIENCE);
        }
    }
}
