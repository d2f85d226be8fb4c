//! Logs and traces of a server that runs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{Server, Site, intended, intents, until};

/// What came in: path and body.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes whatever is posted: head and body of each request.
struct Receiver {
    url: String,
    got: Got,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got: Got = Arc::default();
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), kept) = (stream, Arc::clone(&kept)) else { return };
                std::thread::spawn(move || serve(BufReader::new(stream), &kept));
            }
        });
        Self { url, got }
    }
    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        let requests = got.iter().filter(|(head, _)| head.starts_with("POST /v1/traces "));
        let requests = requests.map(|(_, body)| ExportTraceServiceRequest::decode(&**body).unwrap());
        requests.flat_map(|r| r.resource_spans).flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
    }
}

fn serve(mut stream: BufReader<std::net::TcpStream>, kept: &Mutex<Vec<(String, Vec<u8>)>>) {
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        kept.lock().unwrap().push((head, body));
        if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn append(site: &Site, text: &str) {
    let path = site.dir.join("intended.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    // Tables come last.
    let at = config.find("\n[").map_or(config.len(), |at| at + 1);
    let (values, tables) = config.split_at(at);
    let (first, rest) = text.split_once("\n[").map_or((text, String::new()), |(a, b)| (a, format!("\n[{b}")));
    std::fs::write(path, format!("{values}{first}\n{tables}{rest}\n")).unwrap();
}

fn start(site: &Site, format: &str, levels: &str) -> Server {
    let mut command =
        intended(&["serve", "--data-dir", site.path(), "--listen", "127.0.0.1:0", "--log-format", format]);
    Server::spawn(command.env("INTENDED_LOG", levels)).unwrap()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_spans_of_a_decision_reach_a_collector_with_the_trace_of_who_asked() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let collector = Receiver::start();
    std::fs::write(site.dir.join("otlp-headers"), "authorization: Bearer planted-collector-key\n").unwrap();
    append(&site, &format!("\n[otlp]\nendpoint = \"{}\"\nheaders_file = \"otlp-headers\"\n", collector.url));
    let server = start(&site, "json", "info");
    let headers = [("traceparent", PARENT), ("x-request-id", "asked-1")];
    let answer = site.agent(&server).send("POST", "intents", Some(&intents::refund(40)), &headers).unwrap().expect(200);
    let trace = |s: &Span| s.trace_id.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let ours = || collector.spans().into_iter().filter(|s| trace(s) == PARENT[3..35]).collect::<Vec<_>>();
    until("the spans are exported", || ours().len() >= 5);
    let mut names: Vec<String> = ours().into_iter().map(|s| s.name).collect();
    names.sort();
    assert_eq!(names, ["POST /v1/tenants/{tenant}/intents", "commit", "decide", "evaluate", "sign"]);
    {
        let got = collector.got.lock().unwrap();
        let head = got[0].0.to_ascii_lowercase();
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        assert!(head.contains("authorization: bearer planted-collector-key"), "{head}");
    }
    // The log names the same trace, and every line of it is JSON: also that it listens, and stops.
    let ended = server.stop().expect(0);
    let lines: Vec<Value> =
        ended.err.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    let line = lines.iter().find(|l| l["request_id"] == "asked-1").unwrap_or_else(|| panic!("{}", ended.err));
    assert_eq!((&line["trace_id"], &line["intent"]), (&json!(PARENT[3..35]), &answer["id"]));
    assert!(lines.first().unwrap()["message"].as_str().unwrap().contains("http://"), "{}", ended.err);
    assert_eq!(lines.last().unwrap()["message"], "stopped");
    assert!(!ended.err.contains("planted"), "{}", ended.err);
}

#[test]
fn a_server_whose_collector_is_not_there_decides_and_says_so_once() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    // Somebody had this port, and has it no more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    append(&site, &format!("log_format = \"json\"\n[otlp]\nendpoint = \"http://{gone}\"\n"));
    let server = site.start().unwrap();
    for _ in 0..5 {
        site.agent(&server).post("intents", &intents::refund(40)).expect(200);
    }
    until("it is said", || server.err().contains("traces are not taken"));
    let page = site.cli(&server, &["health", "check"]);
    page.expect(0);
    let ended = server.stop().expect(0);
    let said = ended.err.lines().filter(|l| l.contains("traces are not taken")).count();
    assert_eq!(said, 1, "{}", ended.err);
    assert!(ended.err.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()), "by the config file: {}", ended.err);
}

#[test]
fn a_server_whose_log_nobody_reads_decides_halts_and_stops() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let server = start(&site, "json", "info");
    let (owner, agent) = (site.owner(&server), site.agent(&server));
    server.read_no_more();
    // A pipe holds 64 KiB, and the reader has some more in its hands.
    let id = "r".repeat(100);
    for _ in 0..1_000 {
        let reply = owner.send("GET", "/v1/nothing/of/the/kind", None, &[("x-request-id", id.as_str())]).unwrap();
        assert_eq!(reply.status, 404);
    }
    agent.post("intents", &intents::refund(40)).expect(200);
    owner.post("emergency/halts", &json!({"reason": "nobody reads the log"})).expect(201);
    assert_eq!(agent.post("intents", &intents::refund(41)).expect(403)["reason"], "halt.tenant");
    server.stop().expect(0);
}

#[test]
fn what_is_wrong_about_log_and_traces_in_the_config_is_said_and_nothing_starts() {
    for (text, says) in [
        ("\n[otlp]\nendpoint = \"http://collector.example:4318\"\n", "`endpoint` begins with https://"),
        ("\n[otlp]\nendpoint = \"https://c.example\"\nsample_ratio = 2.0\n", "`sample_ratio`"),
        ("\n[otlp]\nendpoint = \"https://c.example\"\nheaders_file = \"none\"\n", "none"),
        ("\n[otlp]\nendpoint = \"https://c.example\"\nsecret = 1\n", "secret"),
        ("log_format = \"xml\"\n", "log_format"),
    ] {
        let site = Site::bare();
        append(&site, text);
        let refused = site.start().err().unwrap_or_else(|| panic!("it starts: {text}")).expect(1);
        assert!(refused.err.contains(says), "{text}: {}", refused.err);
        let args = ["serve", "--data-dir", site.path(), "--dry-run", "--log-format", "json"];
        let refused = crate::support::run(&mut intended(&args)).expect(1);
        let line: Value = serde_json::from_str(refused.err.trim()).unwrap_or_else(|e| panic!("{e}: {}", refused.err));
        assert_eq!(line["level"], "ERROR");
    }
}

/// What only a whole server has: files and variables with secrets, and libraries that log for themselves.
#[test]
fn a_server_says_no_secret_of_its_own_at_the_finest_level() {
    let (site, server) = Site::new();
    let path = site.dir.join("intended.toml");
    server.stop().expect(0);
    let there = Receiver::start();
    let root = std::fs::read_to_string(site.dir.join("root.key")).unwrap().trim().to_owned();
    for (name, text) in [("otlp-headers", "x-key: PLANTED-otlp\n"), ("siem-token", "PLANTED-siem\n")] {
        std::fs::write(site.dir.join(name), text).unwrap();
    }
    append(
        &site,
        &format!(
            "webhook_networks = [\"127.0.0.1/32\"]\nidentity_provider_networks = [\"127.0.0.1/32\"]\n\
             [otlp]\nendpoint = \"{0}\"\nheaders_file = \"otlp-headers\"\n\
             [[siem]]\nname = \"s\"\nformat = \"ocsf\"\nhttps = {{ url = \"{0}/siem\", token_file = \"siem-token\" }}\n",
            there.url
        ),
    );
    assert!(std::fs::read_to_string(path).unwrap().contains("[otlp]"));
    for format in ["text", "json"] {
        let server = start(&site, format, "trace");
        let owner = site.owner(&server);
        let mut secrets = vec![root.clone(), site.owner.clone(), site.agent.clone(), "PLANTED".to_owned()];
        let url = format!("{}/hook/{format}", there.url);
        let hook = json!({"url": url, "events": ["approval.requested"]});
        let hook = owner.put(&format!("webhooks/{format}"), &hook).expect(200);
        secrets.push(hook["secret"].as_str().unwrap().to_owned());
        site.agent(&server).post("intents", &intents::refund(400)).expect(202);
        until("the webhook is sent", || {
            there.got.lock().unwrap().iter().any(|(head, _)| head.starts_with(&format!("POST /hook/{format} ")))
        });
        let provider = json!({"issuer": there.url, "client_id": "c", "client_secret": "PLANTED-oidc"});
        owner.put("identity-providers/corp", &provider).expect(200);
        assert!(owner.post("identity-providers/corp/begin", &json!({})).status >= 400, "it is no provider");
        let mut wrong = owner.clone();
        wrong.key = "int_live_PLANTED".to_owned();
        assert_eq!(wrong.get("intents?key=PLANTED").status, 401);
        let allowed = site.agent(&server).post("intents", &intents::refund(41)).expect(200);
        secrets.push(allowed["token"].as_str().unwrap().to_owned());
        until("the ledger is streamed", || {
            there.got.lock().unwrap().iter().any(|(head, _)| head.starts_with("POST /siem "))
        });
        until("spans are exported", || !there.spans().is_empty());
        let ended = server.stop().expect(0);
        let log = ended.err + &ended.out;
        assert!(log.contains("intended::access") && log.lines().count() > 20, "{log}");
        let spans = there
            .got
            .lock()
            .unwrap()
            .iter()
            .filter(|(head, _)| head.starts_with("POST /v1/traces "))
            .fold(String::new(), |all, (_, body)| all + &String::from_utf8_lossy(body));
        for secret in secrets {
            for (place, text) in [("the log", &log), ("the spans", &spans)] {
                let line = text.lines().find(|l| l.contains(&secret));
                assert!(line.is_none(), "{secret} is in {place} ({format}): {line:?}");
            }
        }
    }
}
