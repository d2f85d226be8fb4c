//! The ledger streamed by a server that runs, is killed, and comes back; and followed from outside.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Http, Server, Site, intended, intents, run, until};

/// A collector over HTTP: takes batches, and fails as often as it is told to.
struct Collector {
    url: String,
    lines: Arc<Mutex<Vec<Value>>>,
    fail: Arc<AtomicU32>,
}

impl Collector {
    fn start(token: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let (lines, fail) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
        let (kept, failing) = (Arc::clone(&lines), Arc::clone(&fail));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (kept, failing) = (Arc::clone(&kept), Arc::clone(&failing));
                std::thread::spawn(move || serve(BufReader::new(stream), token, &kept, &failing));
            }
        });
        Self { url, lines, fail }
    }
    fn indexes(&self) -> Vec<u64> {
        self.lines.lock().unwrap().iter().map(|e| e["unmapped"]["ledger_index"].as_u64().unwrap()).collect()
    }
}

fn serve(mut stream: BufReader<std::net::TcpStream>, token: &str, kept: &Mutex<Vec<Value>>, failing: &AtomicU32) {
    loop {
        let (mut length, mut authorized, mut any) = (0, false, false);
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => any = true,
            }
            let lower = line.to_ascii_lowercase();
            if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
            authorized |= line.trim_end().eq_ignore_ascii_case(&format!("authorization: Bearer {token}"));
        }
        let mut body = vec![0; length];
        if !any || stream.read_exact(&mut body).is_err() {
            return;
        }
        let status = match failing.load(Ordering::Relaxed) {
            _ if !authorized => "401 Unauthorized",
            0 => {
                let text = String::from_utf8(body).unwrap();
                let batch: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
                kept.lock().unwrap().extend(batch);
                "202 Accepted"
            }
            // No answer at all.
            2 => {
                std::thread::sleep(Duration::from_millis(800));
                return;
            }
            _ => "503 Service Unavailable",
        };
        if write!(stream.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// In the order of its first time, each once: nothing is missing, and only what came again is twice.
fn whole(indexes: &[u64], size: u64) {
    let mut seen = BTreeSet::new();
    for index in indexes {
        if seen.insert(*index) {
            assert_eq!(*index, seen.len() as u64 - 1, "an entry was passed over, or came too early");
        }
    }
    assert_eq!(seen.len() as u64, size);
}

fn file_indexes(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["unmapped"]["ledger_index"].as_u64().unwrap())
        .collect()
}

fn size(owner: &Http) -> u64 {
    owner.get("audit/checkpoint").expect(200)["size"].as_u64().unwrap()
}

fn settled(owner: &Http) {
    until("everything is exported", || {
        let rows = owner.get("siem").expect(200);
        rows.as_array().unwrap().iter().all(|r| r["lag_entries"] == 0 && r["state"] == "ok")
    });
}

#[test]
fn a_server_that_is_killed_while_it_exports_loses_nothing_and_keeps_the_order() {
    let site = Site::bare();
    let collector = Collector::start("s3cret-token");
    let out = site.dir.join("siem.jsonl");
    std::fs::write(site.dir.join("token"), "s3cret-token\n").unwrap();
    let path = site.dir.join("intended.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let tables = format!(
        "[[siem]]\nname = \"archive\"\nformat = \"ocsf\"\nbatch = 16\nfile = {{ path = \"siem.jsonl\" }}\n\n[[siem]]\nname = \"soc\"\nformat = \"ocsf\"\nbatch = 16\nhttps = {{ url = \"{}\", token_file = \"token\", timeout_millis = 300 }}\n",
        collector.url
    );
    std::fs::write(&path, format!("{config}\n{tables}")).unwrap();
    let (site, mut server) = site.set_up();
    for round in 0..4 {
        collector.fail.store(round % 3, Ordering::Relaxed);
        let agent = site.agent(&server);
        for n in 0..40 {
            let amount = if n % 8 == 0 { 400 } else { 1 + n };
            agent.post("intents", &intents::refund(amount));
        }
        // In the middle of whatever it does.
        server.kill();
        server = site.start().unwrap();
    }
    collector.fail.store(0, Ordering::Relaxed);
    let owner = site.owner(&server);
    settled(&owner);
    let total = size(&owner);
    assert!(total > 160);
    whole(&collector.indexes(), total);
    whole(&file_indexes(&out), total);

    // By hand, and with a collector that refuses the token.
    let tested = site.cli(&server, &["siem", "test", "soc", "-o", "json"]).expect(0).json();
    assert_eq!(tested["sent"], true);
    let text = site.cli(&server, &["siem", "status"]).expect(0).out;
    assert!(text.contains("archive") && text.lines().all(|l| l.chars().count() <= 80), "{text}");
    std::fs::write(site.dir.join("token"), "another\n").unwrap();
    site.agent(&server).post("intents", &intents::refund(1)).expect(200);
    until("the failure is seen", || {
        site.cli(&server, &["siem", "status", "-o", "json"]).json()[1]["state"] == "failing"
    });
    let status = site.cli(&server, &["siem", "status"]).expect(5);
    assert!(status.err.contains("soc is failing: the collector answered 401"), "{}", status.err);
    let health = site.cli(&server, &["health", "check", "--verbose"]).out;
    assert!(health.contains("the collector answered 401"), "{health}");
    std::fs::write(site.dir.join("token"), "s3cret-token\n").unwrap();
    settled(&owner);
    whole(&file_indexes(&out), size(&owner));
    assert!(!server.err().contains("s3cret"), "{}", server.err());
    server.stop().expect(0);
}

#[test]
fn what_is_wrong_in_a_table_is_said_before_anything_is_served() {
    let site = Site::bare();
    let path = site.dir.join("intended.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let good = "name = \"soc\"\nformat = \"cef\"\n";
    for (table, said) in [
        (good.to_owned(), "exactly one of"),
        (format!("{good}file = {{ path = \"a\" }}\nhttps = {{ url = \"https://x\" }}\n"), "exactly one of"),
        (format!("{good}https = {{ url = \"http://collector.example/\" }}\n"), "https://"),
        (format!("{good}https = {{ url = \"https://u:p@collector.example/\" }}\n"), "token_file"),
        (format!("{good}https = {{ url = \"https://collector.example/\", token_file = \"none\" }}\n"), "none"),
        (format!("{good}file = {{ path = \"no/such/directory/x\" }}\n"), "directory"),
        (format!("{good}syslog = {{ address = \"collector\" }}\n"), "host:port"),
        (format!("{good}syslog = {{ address = \"c:1\", tls = {{ ca_file = \"none.pem\" }} }}\n"), "none.pem"),
        (format!("{good}filter = {{ kinds = [\"halts\"] }}\nfile = {{ path = \"a\" }}\n"), "no kind of entry"),
        (format!("{good}file = {{ path = \"a\" }}\n[[siem]]\n{good}file = {{ path = \"b\" }}\n"), "two of this name"),
        (format!("{good}fil = {{ path = \"a\" }}\n"), "fil"),
    ] {
        std::fs::write(&path, format!("{config}\n[[siem]]\n{table}")).unwrap();
        let refused = site.start().map(drop).unwrap_err().expect(1);
        assert!(refused.err.contains(said), "{table}: {}", refused.err);
    }
}

fn serve_at(site: &Site, address: &str) -> Server {
    Server::spawn(&mut intended(&["serve", "--data-dir", site.path(), "--listen", address]))
        .unwrap_or_else(|r| panic!("{}", r.err))
}

#[test]
fn a_ledger_is_followed_through_a_server_that_is_killed_and_comes_back() {
    let (site, server) = Site::new();
    let address = server.address.to_string();
    let first = size(&site.owner(&server)) - 1;
    let command = {
        let mut command =
            site.command(&server, &["audit", "tail", "--kind", "decision", "--count", "6", "-o", "jsonl"]);
        command.args(["--after", &first.to_string()]);
        command
    };
    let followed = std::thread::spawn(move || {
        let mut command = command;
        run(&mut command)
    });
    for n in 1..4 {
        site.agent(&server).post("intents", &intents::refund(n)).expect(200);
    }
    std::thread::sleep(Duration::from_millis(700));
    server.kill();
    let server = serve_at(&site, &address);
    // Of another kind, and so passed over.
    let halt =
        site.owner(&server).post("emergency/halts", &json!({"reason": "x", "environment": "staging"})).expect(201);
    assert!(halt["halt"].is_string());
    for n in 4..7 {
        site.agent(&server).post("intents", &intents::refund(n)).expect(200);
    }
    let ran = followed.join().unwrap().expect(0);
    let amounts: Vec<u64> = ran
        .out
        .lines()
        .map(|l| {
            serde_json::from_str::<Value>(l).unwrap()["body"]["input"]["intent"]["action"]["properties"]["amount"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(amounts, [1, 2, 3, 4, 5, 6], "{}", ran.err);
    assert!(ran.err.contains("go on with --after "), "{}", ran.err);
    let denied = site.cli(&server, &["audit", "tail", "--kind", "nothing", "--count", "1"]).expect(6);
    assert!(denied.err.contains("unknown entry kind"), "{}", denied.err);
}

#[test]
fn an_incident_is_worked_on_from_the_command_line() {
    let (site, server) = Site::new();
    let opened = site.data(&server, &["incident", "open", "-e", "production", "--title", "refunds \u{1b}[31mloop"]);
    let incident = opened["incident"].as_str().unwrap();
    site.cli(&server, &["incident", "note", incident, "the gateway retries"]).expect(0);
    site.cli(&server, &["emergency", "halt", "-e", "production", "--reason", "loop", "--confirm", "production"])
        .expect(0);
    let denied = site.agent(&server).post("intents", &intents::refund(1)).expect(403);
    let id = denied["id"].as_str().unwrap();
    let why = site.cli(&server, &["intent", "explain", id]).expect(0).out;
    assert!(why.contains("what stands in the way") && why.contains("because: loop"), "{why}");
    assert!(why.contains("what would have been allowed instead") && why.contains("lifted"), "{why}");
    let replay = site.cli(&server, &["intent", "replay", id, "--at", "12"]).expect(0).out;
    assert!(replay.contains("on the state before entry 12"), "{replay}");
    let packs = crate::support::demo_pack();
    let other = site.cli(&server, &["intent", "replay", id, "--policy", packs.to_str().unwrap()]).expect(0).out;
    assert!(other.contains("the same on the state before entry"), "{other}");
    let line = site.cli(&server, &["incident", "timeline", incident]).expect(0).out;
    assert!(line.contains("the gateway retries") && line.contains("halt `halt-"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line:?}");
    let out = site.dir.join("incident.jsonl");
    let refused = site.cli(&server, &["incident", "close", incident, "--no-input"]).expect(1);
    assert!(refused.err.contains("--summary"), "{}", refused.err);
    site.cli(&server, &["incident", "close", incident, "--summary", "rolled back"]).expect(0);
    let shown = site.data(&server, &["incident", "show", incident]);
    assert_eq!((&shown["state"], &shown["summary"]), (&json!("closed"), &json!("rolled back")));
    site.cli(&server, &["incident", "export", incident, out.to_str().unwrap()]).expect(0);
    server.stop().expect(0);
    // No server, and the key that was written down.
    let key = site.dir.join("acme.vkey");
    std::fs::write(&key, &site.vkey).unwrap();
    let verify = |path: &Path| {
        run(&mut intended(&["incident", "verify", path.to_str().unwrap(), "--vkey", key.to_str().unwrap()]))
    };
    let held = verify(&out).expect(0).out;
    assert!(
        held.contains("the evidence holds") && held.contains("the trusted one") && held.contains("rolled back"),
        "{held}"
    );
    assert!(!held.contains('\u{1b}'), "{held:?}");
    let text = std::fs::read_to_string(&out).unwrap();
    std::fs::write(&out, text.replace("the gateway retries", "all is well")).unwrap();
    assert!(verify(&out).expect(8).err.contains("does not hold"));
    std::fs::write(&key, site.vkey.replace("acme", "acmf")).unwrap();
    std::fs::write(&out, text).unwrap();
    assert!(verify(&out).expect(8).err.contains("another key"));
}
