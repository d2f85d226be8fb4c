//! `audit tail`: the ledger as it grows. A connection that breaks is made again, and what came
//! meanwhile comes then: the server goes on after the last index that was seen.

use std::time::Duration;

use intended_model::about::about;
use intended_model::{Event, ExitCode, Kind};
use serde_json::Value;

use super::{Outcome, encode};
use crate::args::Format;
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{fit, note, one, say};
use crate::when;

/// Between attempts, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Longest event: an entry is at most a policy pack.
const MAX_EVENT: usize = 8 << 20;

/// What is shown of an entry: index, time, kind, and what it says.
pub fn cells(entry: &Value) -> [String; 4] {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let at = entry.get("at").and_then(Value::as_i64).map(intended_model::Timestamp::from_millis);
    // Of a kind that this release does not know, that is all there is to say.
    let what = Kind::parse(&text("kind")).and_then(|kind| {
        let body = entry.get("body")?.to_string();
        let body = intended_model::json::parse_recorded(body.as_bytes()).ok()?;
        Some(about(&Event::parse(kind, &body).ok()?).summary)
    });
    [
        entry.get("index").map(Value::to_string).unwrap_or_default(),
        at.map(|t| t.to_string().chars().take(19).collect()).unwrap_or_default(),
        text("kind"),
        what.unwrap_or_default(),
    ]
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: Option<u64>,
    data: Option<String>,
}

/// Takes whole events out of what has come so far.
fn take(buffer: &mut Vec<u8>) -> Option<Message> {
    let end = buffer.windows(2).position(|w| w == b"\n\n")?;
    let text = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
    buffer.drain(..end + 2);
    let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    Some(Message { id: line("id: ").and_then(|id| id.parse().ok()), data: line("data: ").map(str::to_owned) })
}

fn show(global: &Global, data: &str) {
    if global.output == Format::Jsonl {
        return say(data);
    }
    let entry: Value = serde_json::from_str(data).unwrap_or_default();
    if global.output != Format::Table {
        return one(global.output, &entry);
    }
    let [index, at, kind, what] = cells(&entry);
    // What a decision or a halt says names what it is.
    let what = if what.is_empty() { kind } else { what };
    say(&fit(&format!("{index:>7}  {at}  {what}")));
}

pub async fn run(
    global: &Global,
    client: &Client,
    filters: &[(&str, Option<String>)],
    after: Option<u64>,
    count: Option<u64>,
) -> Outcome {
    let mut path = "events".to_owned();
    let named = filters.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
    let all = named.chain(after.map(|index| ("after", index.to_string())));
    for (n, (name, value)) in all.enumerate() {
        path.push_str(&format!("{}{name}={}", if n == 0 { "?" } else { "&" }, encode(&value)));
    }
    let (mut last, mut left, mut wait, mut told) = (None, count, FIRST_WAIT, false);
    loop {
        match follow(global, client, &path, &mut last, &mut left, &mut wait).await {
            Ok(()) if left == Some(0) => {
                if let Some(last) = last {
                    note(&format!("go on with --after {last}"));
                }
                return Ok(ExitCode::Ok);
            }
            // The server stops, or the connection went: it comes back, or somebody ends this.
            Ok(()) => {}
            Err(CliError::Unreachable { why, .. }) if last.is_some() => {
                if !told {
                    note(&format!("the connection broke ({why}); it is tried again"));
                }
            }
            Err(error) => return Err(error),
        }
        told = true;
        if let Some(last) = last.filter(|_| wait == FIRST_WAIT) {
            note(&format!("going on after {last}"));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// Shows what comes until the stream ends.
async fn follow(
    global: &Global,
    client: &Client,
    path: &str,
    last: &mut Option<u64>,
    left: &mut Option<u64>,
    wait: &mut Duration,
) -> Result<(), CliError> {
    let mut response = client.events(path, *last).await?;
    let started = when::started();
    let mut buffer = Vec::new();
    // A chunk that does not come any more is a connection that broke.
    while let Ok(Some(chunk)) = response.chunk().await {
        buffer.extend_from_slice(&chunk);
        if buffer.len() > MAX_EVENT {
            return Err(CliError::Failed("the server sends no events".to_owned(), ExitCode::Unavailable));
        }
        while let Some(message) = take(&mut buffer) {
            if let Some(data) = &message.data {
                show(global, data);
                if let Some(left) = left {
                    *left = left.saturating_sub(1);
                }
            }
            *last = message.id.or(*last);
            if *left == Some(0) {
                return Ok(());
            }
        }
        if started.elapsed() > LAST_WAIT {
            *wait = FIRST_WAIT;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_whatever_the_pieces_are() {
        let stream =
            b": alive\nid: 4\n\nid: 5\nevent: halt.thrown\ndata: {\"a\":1}\n\nid: 6\nevent: x\ndata: {}\n\nid: 7";
        for size in 1..stream.len() {
            let (mut buffer, mut got) = (Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                buffer.extend_from_slice(piece);
                while let Some(message) = take(&mut buffer) {
                    got.push((message.id, message.data));
                }
            }
            let data = |t: &str| Some(t.to_owned());
            assert_eq!(got, [(Some(4), None), (Some(5), data("{\"a\":1}")), (Some(6), data("{}"))], "{size}");
        }
    }
}
