//! What a server says about itself while it runs: lines in a log ([`log`]), and traces over OTLP
//! ([`trace`], [`export`]).
//!
//! Both are for whoever operates the server. Neither is the audit, which is the ledger: a line may be
//! missing, a span may be dropped, and no decision waits for either.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::io::Write;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

pub mod export;
pub mod log;
mod text;
pub mod trace;

pub use log::Format;
pub use trace::Traces;

/// A log of `format` on `out`, of what `filter` lets through; and the spans of `traces`.
pub fn subscriber<W: Write + Send + 'static>(
    format: Format,
    filter: EnvFilter,
    out: W,
    traces: Option<&Traces>,
) -> impl Subscriber + Send + Sync + use<W> {
    // Spans go to nobody but the exporter: where there is none, not one is made.
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let lines = log::Lines::new(format, out).with_filter(filter.and(events));
    Registry::default().with(lines).with(traces.map(Traces::layer))
}

/// The same for the whole process, on stderr. A panic becomes a line like any other.
pub fn install(format: Format, filter: EnvFilter, traces: Option<&Traces>) {
    let subscriber = subscriber(format, filter, std::io::stderr(), traces);
    // Somebody else listens already: only tests do that.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            tracing::error!(place, what = info.payload_as_str(), "a bug: something panicked");
        }));
    }
}
