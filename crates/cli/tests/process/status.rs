//! `status`, once and watched: on a terminal, into a file, and while the server goes away.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Site, run, until};

#[test]
fn status_says_what_is_wrong_first_and_ends_as_it_stands() {
    let (site, server) = Site::new();
    // Nothing is deployed in development, and that is said with the command that looks at it.
    let ran = site.cli(&server, &["status"]).expect(0);
    assert!(ran.out.starts_with("acme: 1 thing is wrong"), "{}", ran.out);
    assert!(ran.out.contains("next: ") && ran.out.contains("halts     none"), "{}", ran.out);
    assert!(ran.out.lines().count() <= 24 && ran.out.lines().all(|l| l.chars().count() <= 100), "{}", ran.out);
    let pack = crate::support::demo_pack();
    site.cli(&server, &["policy", "deploy", pack.to_str().unwrap(), "-e", "development"]).expect(0);
    let ran = site.cli(&server, &["status"]).expect(0);
    assert!(ran.out.starts_with("acme: all is well"), "{}", ran.out);
    site.cli(&server, &["emergency", "halt", "-e", "staging", "--reason", "drill", "--confirm", "staging"]).expect(0);
    let ran = site.cli(&server, &["status"]).expect(9);
    assert!(ran.out.starts_with("acme: HALTED"), "{}", ran.out);
    assert!(ran.out.contains("!! HALTED: environment:staging") && ran.out.contains("next: intended emergency status"));
    let whole = site.cli(&server, &["status", "-o", "json"]).expect(9).json();
    assert_eq!(whole["halts"]["in_force"], 1);
    let mut gone = site.command(&server, &["status"]);
    server.stop().expect(0);
    assert!(run(&mut gone).expect(5).err.contains("cannot be reached"));
}

/// A command on a terminal of its own; what it writes there.
struct OnTerminal {
    child: std::process::Child,
    terminal: rustix::fd::OwnedFd,
    said: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: std::process::Command, columns: u16, rows: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let far = || std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let this = Self::resized(&terminal, columns, rows);
        assert!(this);
        command.env("TERM", "xterm-256color").stdin(far()).stdout(far()).stderr(far());
        let child = command.spawn().unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let mut from = std::fs::File::from(terminal.try_clone().unwrap());
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Once nobody has the other end any more, reading fails.
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Self { child, terminal, said }
    }
    fn resized(terminal: &rustix::fd::OwnedFd, columns: u16, rows: u16) -> bool {
        tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).is_ok()
    }
    fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watched_on_a_terminal_it_is_drawn_in_place_through_a_lost_server_and_leaves_the_terminal_clean() {
    let (site, server) = Site::new();
    let command = site.command(&server, &["status", "--watch", "--interval", "1s"]);
    let mut on = OnTerminal::start(command, 90, 40);
    until("it is drawn twice", || on.said().matches("acme: 1 thing is wrong").count() >= 2);
    let said = on.said();
    let first = said.find("\x1b[?1049h").unwrap();
    assert!(said[first..].contains("\x1b[?25l") && said.contains("\x1b[1;31macme"), "{said:?}");
    // Smaller: at once, and cut where the terminal ends.
    assert!(OnTerminal::resized(&on.terminal, 40, 6));
    on.signal("WINCH");
    until("it is drawn smaller", || on.said().contains("more lines"));
    assert!(OnTerminal::resized(&on.terminal, 90, 40));
    server.stop().expect(0);
    until("it says so", || on.said().contains("UNAVAILABLE for "));
    until("and goes on", || on.said().contains("below is how it stood"));
    assert!(on.child.try_wait().unwrap().is_none(), "it is no end of it");
    on.signal("INT");
    until("it ends", || on.child.try_wait().unwrap().is_some());
    assert_eq!(on.child.wait().unwrap().code(), Some(130));
    until("the terminal is given back", || on.said().contains("\x1b[?25h\x1b[?1049l"));
    let said = on.said();
    let after = said.rsplit("\x1b[?1049l").next().unwrap().to_owned();
    until("the last of it stays", || on.said().rsplit("\x1b[?1049l").next().unwrap().contains("acme: "));
    assert!(!after.contains("\x1b[H"), "{after:?}");
}

/// A command that goes on, and what it has written so far.
struct Watching(std::process::Child, Arc<Mutex<String>>);

impl Watching {
    fn start(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let (kept, out) = (Arc::clone(&said), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self(child, said)
    }
    fn said(&self) -> String {
        self.1.lock().unwrap().clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watched_without_a_terminal_it_appends_and_a_server_that_goes_is_said() {
    let (site, server) = Site::new();
    let watch =
        |format| Watching::start(site.command(&server, &["status", "--watch", "--interval", "1s", "-o", format]));
    let (blocks, lines) = (watch("table"), watch("jsonl"));
    until("both have begun", || {
        blocks.said().matches("acme: 1 thing is wrong").count() >= 2 && lines.said().lines().count() >= 2
    });
    server.stop().expect(0);
    until("both say so", || blocks.said().contains("UNAVAILABLE for ") && lines.said().contains("\"unavailable\":"));
    let (blocks, lines) = (blocks.said(), lines.said());
    assert!(blocks.matches("--- 2").count() >= 3 && !blocks.contains('\u{1b}'), "{blocks}");
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(value["at"].is_string(), "{value}");
    }
}
