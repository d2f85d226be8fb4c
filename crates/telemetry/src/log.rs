//! The log: a line for each event, as text for people or as JSON for machines.
//!
//! What is known of the request that an event happens in (its id, trace, tenant, environment, intent)
//! is added when the line is written, so that it costs nothing where no line is.

use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use intended_api::logged;
use intended_model::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::text;

/// What a line is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Where finished lines go. Whoever calls it may be about to decide.
pub trait Sink: Send + Sync + 'static {
    /// Takes a line with its end.
    fn put(&self, line: String);
}

/// Writes each line before it goes on: for commands, which have nothing else to do, and for tests. A
/// server has a [`Queue`](crate::Queue).
#[derive(Debug)]
pub struct Direct<W>(Mutex<W>);

impl<W> Direct<W> {
    pub const fn to(out: W) -> Self {
        Self(Mutex::new(out))
    }
}

impl<W: Write + Send + 'static> Sink for Direct<W> {
    fn put(&self, line: String) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written is no reason not to go on.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

/// Makes a line of each event.
#[derive(Debug)]
pub struct Lines<O> {
    format: Format,
    out: O,
}

impl<O: Sink> Lines<O> {
    pub const fn new(format: Format, out: O) -> Self {
        Self { format, out }
    }
}

impl<S: Subscriber, O: Sink> Layer<S> for Lines<O> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields { format: self.format, message: String::new(), rest: String::new(), named: Vec::new() };
        event.record(&mut fields);
        logged::said(|said| {
            // What the event says itself is about what it says.
            let mut known = |name: &'static str, text: &str| {
                if !fields.named.contains(&name) {
                    fields.text(name, text);
                }
            };
            if let Some(tenant) = said.tenant {
                known("tenant", tenant);
            }
            if let Some(environment) = &said.environment {
                known("environment", environment.as_str());
            }
            if let Some(intent) = said.intent {
                known("intent", &intent.to_string());
            }
            known("request_id", said.request_id);
            if let Some(trace) = &said.trace_id {
                known("trace_id", trace);
            }
        });
        let mut line = head(self.format, *metadata.level(), metadata.target(), &fields.message);
        line.push_str(&fields.rest);
        end(self.format, &mut line);
        self.out.put(line);
    }
}

/// A line for what is said whatever the level: that the server listens, that it has stopped, why it
/// does not start.
#[must_use]
pub fn line(level: Level, message: &str, hint: Option<&str>) -> String {
    let mut line = head(Format::Json, level, "intended", message);
    if let Some(hint) = hint {
        line.push_str(",\"hint\":");
        text::quoted(hint, &mut line);
    }
    line + "}"
}

pub(crate) fn head(format: Format, level: Level, target: &str, message: &str) -> String {
    let mut line = String::with_capacity(256);
    let at = now();
    if format == Format::Json {
        let _ = write!(line, "{{\"timestamp\":\"{at}\",\"level\":\"{level}\",\"target\":");
        text::quoted(target, &mut line);
        line.push_str(",\"message\":");
        text::quoted(message, &mut line);
    } else {
        let _ = write!(line, "{at} {level:>5} {target}: ");
        text::escape(message, false, &mut line);
    }
    line
}

pub(crate) fn end(format: Format, line: &mut String) {
    line.push_str(if format == Format::Json { "}\n" } else { "\n" });
}

#[expect(clippy::disallowed_methods, reason = "says when a line was written; decides nothing")]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

/// Names that the line itself uses.
const OWN: [&str; 4] = ["timestamp", "level", "target", "message"];

struct Fields {
    format: Format,
    message: String,
    rest: String,
    named: Vec<&'static str>,
}

impl Fields {
    fn name(&mut self, name: &str) {
        if self.format == Format::Json {
            self.rest.push(',');
            text::quoted(name, &mut self.rest);
            self.rest.push(':');
        } else {
            self.rest.push(' ');
            self.rest.push_str(name);
            self.rest.push('=');
        }
    }
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if self.format == Format::Json {
            text::quoted(value, &mut self.rest)
        } else {
            text::value(value, &mut self.rest)
        }
    }
    /// What reads the same in both.
    fn literal(&mut self, field: &Field, value: impl std::fmt::Display) {
        if !self.is_taken(field) {
            self.name(field.name());
            let _ = write!(self.rest, "{value}");
        }
    }
    fn is_taken(&mut self, field: &Field) -> bool {
        self.named.push(field.name());
        OWN.contains(&field.name())
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else if !self.is_taken(field) {
            self.text(field.name(), &text);
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if !self.is_taken(field) {
            self.text(field.name(), value);
        }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.literal(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.literal(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.literal(field, value);
    }
}
