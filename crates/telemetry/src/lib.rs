//! What a server says about itself while it runs: lines in a log ([`log`]), and traces over OTLP
//! ([`trace`], [`export`]).
//!
//! Both are for whoever operates the server. Neither is the audit, which is the ledger: a line may be
//! missing, a span may be dropped, and no decision waits for either.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::io::Write;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

pub mod export;
pub mod log;
mod queue;
mod text;
pub mod trace;

pub use log::{Format, Sink};
pub use queue::{Queue, Room};
pub use trace::{Share, Traces};

/// A log of `format` on `out`, of what `filter` lets through; and the spans of `traces`. Whoever says
/// something waits until it is written.
pub fn subscriber<W: Write + Send + 'static>(
    format: Format,
    filter: EnvFilter,
    out: W,
    traces: Option<&Traces>,
) -> impl Subscriber + Send + Sync + use<W> {
    subscriber_to(format, filter, log::Direct::to(out), traces)
}

/// The same with its lines to `sink`.
pub fn subscriber_to<O: Sink>(
    format: Format,
    filter: EnvFilter,
    sink: O,
    traces: Option<&Traces>,
) -> impl Subscriber + Send + Sync + use<O> {
    // Spans go to nobody but the exporter: where there is none, not one is made.
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let lines = log::Lines::new(format, sink).with_filter(filter.and(events));
    Registry::default().with(lines).with(traces.map(Traces::layer))
}

/// The log of a command, on stderr, for the whole process. A panic becomes a line like any other.
pub fn install(format: Format, filter: EnvFilter) {
    globally(subscriber(format, filter, std::io::stderr(), None));
}

/// The log of a server: as [`install`], but what it says waits in a queue, so that a reader who stands
/// still stops nothing but the log.
pub fn install_queued(format: Format, filter: EnvFilter, traces: Option<&Traces>) -> std::io::Result<()> {
    let queue = Queue::start(format, std::io::stderr(), Room::default())?;
    globally(subscriber_to(format, filter, QUEUED.get_or_init(|| queue).clone(), traces));
    Ok(())
}

/// The queue of the process, where it has one. Whatever else writes to stderr then goes through it: it
/// would wait for the same reader.
#[must_use]
pub fn queued() -> Option<&'static Queue> {
    QUEUED.get()
}

static QUEUED: OnceLock<Queue> = OnceLock::new();

fn globally(subscriber: impl Subscriber + Send + Sync) {
    // Somebody else listens already: only tests do that.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            tracing::error!(place, what = info.payload_as_str(), "a bug: something panicked");
        }));
    }
}
