//! `status`: how everything stands, on one screen, once or as it changes.

use std::io::IsTerminal as _;
use std::time::Duration;

use intended_model::{ExitCode, Timestamp};
use serde_json::{Value, json};

use super::Outcome;
use crate::args::{Format, Status};
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{one, say, width};
use crate::when;

mod screen;
mod watch;

pub async fn run(global: &Global, args: &Status) -> Outcome {
    let client = Client::new(global)?;
    if !args.watch {
        let status = client.get("status").await?;
        show(global.output, &status);
        return Ok(exit(&status));
    }
    let every = Duration::from_secs(u64::try_from(when::seconds("--interval", &args.interval)?).unwrap_or(u64::MAX));
    if global.output == Format::Table && std::io::stdout().is_terminal() && !client.says_only() {
        watch::in_place(&client, every).await
    } else {
        watch::appending(&client, global.output, every).await
    }
}

fn show(format: Format, status: &Value) {
    if format == Format::Table {
        say(&screen::text(&screen::lines(status, width(), None)));
    } else {
        one(format, status);
    }
}

/// 9 while something is halted, 5 while the server says that it cannot decide.
fn exit(status: &Value) -> ExitCode {
    let halted = status.pointer("/halts/in_force").and_then(Value::as_u64).is_some_and(|n| n > 0);
    let health = status.pointer("/health/status").and_then(Value::as_str);
    match (halted, health) {
        (true, _) => ExitCode::Halted,
        (false, Some("unavailable")) => ExitCode::Unavailable,
        _ => ExitCode::Ok,
    }
}

/// What is known while it is watched: the last answer, and since when there is none.
#[derive(Debug, Default)]
struct Seen {
    last: Option<(Value, Timestamp)>,
    lost: Option<(String, Timestamp)>,
}

impl Seen {
    /// Asks once more. What a server that is not there has to do with is said on the screen; what
    /// asking again does not mend, such as a key that is no more, ends it.
    async fn look(&mut self, client: &Client) -> Result<(), CliError> {
        let now = when::now();
        match client.get("status").await {
            Ok(status) => {
                self.last = Some((status, now));
                self.lost = None;
            }
            Err(error) if error.exit() == ExitCode::Unavailable => {
                let since = self.lost.take().map_or(now, |(_, since)| since);
                self.lost = Some((error.to_string(), since));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn lines(&self, width: usize) -> Vec<screen::Line> {
        let now = when::now();
        let lost = self.lost.as_ref().map(|(why, since)| screen::Lost {
            why,
            for_ms: now.millis_since(*since),
            seen_ms: self.last.as_ref().map(|(_, at)| now.millis_since(*at)),
        });
        let nothing = json!({});
        screen::lines(self.last.as_ref().map_or(&nothing, |(status, _)| status), width, lost.as_ref())
    }

    fn data(&self) -> Value {
        match (&self.lost, &self.last) {
            (Some((why, since)), _) => json!({
                "at": when::now().to_string(), "unavailable": why, "unavailable_since": since.to_string(),
            }),
            (None, Some((status, _))) => status.clone(),
            (None, None) => Value::Null,
        }
    }

    fn exit(&self) -> ExitCode {
        match (&self.lost, &self.last) {
            (None, Some((status, _))) => exit(status),
            _ => ExitCode::Unavailable,
        }
    }
}
