//! `status --watch`: drawn again in place on a terminal, else a block after the other.

use std::io::Write as _;
use std::time::Duration;

use intended_model::ExitCode;

use super::super::Outcome;
use super::{Seen, screen};
use crate::args::Format;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{one, say, width};
use crate::when;

/// Blocks, each with its time, until something ends it.
pub async fn appending(client: &Client, format: Format, every: Duration) -> Outcome {
    let mut seen = Seen::default();
    loop {
        seen.look(client).await?;
        if format == Format::Table {
            say(&format!("--- {}", when::now()));
            say(&screen::text(&seen.lines(width())));
        } else {
            one(format, &seen.data());
        }
        tokio::time::sleep(every).await;
    }
}

/// The terminal while it is watched: a screen of its own, which goes when this does, however that is.
struct Taken;

impl Taken {
    fn take() -> std::io::Result<Self> {
        let mut out = std::io::stdout().lock();
        write!(out, "\x1b[?1049h\x1b[?25l\x1b[2J")?;
        out.flush()?;
        Ok(Self)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\x1b[?25h\x1b[?1049l").and_then(|()| out.flush());
    }
}

/// One frame: each line where it was, what was there before gone, nothing beyond the edges.
fn frame(lines: &[screen::Line], columns: usize, height: usize, every: Duration) -> String {
    let (columns, height) = (columns.max(1), height.max(2));
    let mut out = String::from("\x1b[H");
    let body = height - 1;
    let cut = lines.len() > body;
    let shown = if cut { body - 1 } else { lines.len() };
    for line in lines.iter().take(shown) {
        let text: String = line.text.chars().take(columns).collect();
        out.push_str(&crate::output::loud(&text, line.loud));
        out.push_str("\x1b[K\r\n");
    }
    if cut {
        let more = format!("… {} more lines: a higher terminal, or `intended status`", lines.len() - shown);
        out.extend(more.chars().take(columns));
        out.push_str("\x1b[K\r\n");
    }
    out.push_str("\x1b[J");
    // At the bottom, without a line end that would scroll.
    let foot = format!("every {} s, Ctrl-C ends it", every.as_secs());
    out.push_str(&format!("\x1b[{height};1H{}\x1b[K", foot.chars().take(columns).collect::<String>()));
    out
}

fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    // A terminal that does not say how large it is says 0.
    let known = |n: u16, otherwise: usize| if n == 0 { otherwise } else { usize::from(n) };
    size.map_or((80, 24), |s| (known(s.ws_col, 80), known(s.ws_row, 24)))
}

/// Redrawn until Ctrl-C; then the last of it stays on the screen that was there before.
pub async fn in_place(client: &Client, every: Duration) -> Outcome {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| CliError::Failed(format!("the terminal cannot be taken: {e}"), ExitCode::Usage);
    // Before the terminal is taken: whatever ends it gives it back.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let mut seen = Seen::default();
    let taken = Taken::take().map_err(failed)?;
    let ended = 'watch: loop {
        let looked = tokio::select! {
            looked = seen.look(client) => looked,
            _ = interrupt.recv() => break Ok(ExitCode::Interrupted),
            _ = terminate.recv() => break Ok(seen.exit()),
            _ = hangup.recv() => break Ok(seen.exit()),
        };
        if let Err(error) = looked {
            break Err(error);
        }
        let next = tokio::time::sleep(every);
        let mut next = std::pin::pin!(next);
        loop {
            let (columns, height) = size();
            let text = frame(&seen.lines(columns), columns, height, every);
            let mut out = std::io::stdout().lock();
            if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                break 'watch Err(failed(error));
            }
            drop(out);
            tokio::select! {
                () = &mut next => break,
                _ = resized.recv() => {}
                _ = interrupt.recv() => break 'watch Ok(ExitCode::Interrupted),
                _ = terminate.recv() => break 'watch Ok(seen.exit()),
                _ = hangup.recv() => break 'watch Ok(seen.exit()),
            }
        }
    };
    drop(taken);
    if seen.last.is_some() || seen.lost.is_some() {
        say(&screen::text(&seen.lines(width())));
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_stays_within_the_terminal_whatever_there_is_to_say() {
        let lines: Vec<screen::Line> =
            (0..50).map(|n| screen::Line { loud: n == 0, text: format!("{n} {}", "x".repeat(200)) }).collect();
        for (columns, height) in [(80, 24), (20, 5), (1, 2), (0, 0)] {
            let text = frame(&lines, columns, height, Duration::from_secs(2));
            assert!(text.matches("\r\n").count() < height.max(2), "{columns} {height}");
            let plain = text.replace("\x1b[1;31m", "").replace("\x1b[0m", "").replace("\x1b[K", "");
            let longest = plain
                .split("\r\n")
                .map(|l| l.trim_start_matches("\x1b[H").chars().count())
                .take(height.max(2) - 2)
                .max();
            assert!(longest.unwrap_or(0) <= columns.max(1), "{columns} {height}: {plain:?}");
        }
        let text = frame(&lines, 80, 24, Duration::from_secs(2));
        assert!(text.contains("… 28 more lines"), "{text:?}");
        let few = frame(lines.get(..3).unwrap(), 80, 24, Duration::from_secs(2));
        assert!(
            !few.contains("more lines") && few.contains("\x1b[J") && few.contains("\x1b[24;1Hevery 2 s"),
            "{few:?}"
        );
    }
}
