//! The shipped alert rules and dashboard, held by Prometheus itself: a real one scrapes a real server,
//! and sees alerts fire and clear while faults come and go.
//!
//! Prometheus and `promtool` are Debian's package `prometheus`; `test.sh` installs it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Http, Owned, PATIENCE, Server, Site, connect, intended, intents, run, run_with};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
fn promtool(arguments: &[&str]) -> Command {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(root().join("deploy/prometheus"));
    command
}
fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

/// The shipped alerts.
fn alerts() -> Vec<Value> {
    let file = yaml(&read("deploy/prometheus/intended.rules.yml"));
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}
fn name(alert: &Value) -> &str {
    alert["alert"].as_str().unwrap()
}

/// Every query of the dashboard, its variables filled in.
fn queries() -> Vec<String> {
    fn walk(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                out.extend(members.get("expr").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|v| walk(v, out));
            }
            Value::Array(items) => items.iter().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(&serde_json::from_str(&read("deploy/grafana/intended.json")).unwrap(), &mut out);
    assert!(out.len() > 40);
    let filled =
        out.iter().map(|q| q.replace("$__rate_interval", "5s").replace("$job", ".*").replace("$instance", ".*"));
    let filled: Vec<_> = filled.collect();
    assert!(filled.iter().all(|q| !q.contains('$')), "{filled:?}");
    filled
}

/// The families that a query is about.
fn families(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|w| w.starts_with("intended_") || w.starts_with("process_"));
    ours.map(|w| ["_bucket", "_sum", "_count"].iter().find_map(|s| w.strip_suffix(s)).unwrap_or(w).to_owned()).collect()
}

/// The families of a page.
fn described(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_its_page_its_severity_and_tests_in_which_it_fires_and_does_not() {
    let book = read("docs/alerts.md");
    let headings: BTreeSet<String> = book
        .lines()
        .filter_map(|l| l.trim_start_matches('#').strip_prefix(' ').filter(|_| l.starts_with('#')))
        .map(|h| h.to_lowercase().replace(' ', "-"))
        .collect();
    let tests = yaml(&read("deploy/prometheus/intended.test.yml"));
    let cases: Vec<&Value> =
        tests["tests"].as_array().unwrap().iter().flat_map(|t| t["alert_rule_test"].as_array().unwrap()).collect();
    let all = alerts();
    assert!(all.len() > 15);
    for alert in &all {
        let name = name(alert);
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let (page, anchor) = url.split_once('#').unwrap();
        assert!(page == "docs/alerts.md" && headings.contains(anchor), "{name}: {url} leads nowhere");
        assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(
            alert["annotations"]["summary"].is_string() && alert["annotations"]["description"].is_string(),
            "{name}"
        );
        let of = |fires: bool| {
            let mine = cases.iter().filter(|c| c["alertname"] == name);
            mine.filter(|c| c["exp_alerts"].as_array().is_some_and(|a| a.is_empty() != fires)).count()
        };
        assert!(of(true) >= 1 && of(false) >= 2, "{name}: it is tested too little");
    }
    // And none is told of that is not shipped.
    for heading in headings.iter().filter(|h| h.starts_with("intended")) {
        assert!(all.iter().any(|a| name(a).to_lowercase() == *heading), "docs/alerts.md: `{heading}` is no alert");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_rules_example_and_their_tests() {
    run(&mut promtool(&["check", "rules", "intended.rules.yml"])).expect(0);
    run(&mut promtool(&["check", "config", "prometheus.yml"])).expect(0);
    run(&mut promtool(&["test", "rules", "intended.test.yml"])).expect(0);
}

/// A Prometheus that scrapes once a second.
struct Prometheus {
    _child: Owned,
    address: SocketAddr,
}

/// The shipped rules with waits and windows that a test has the time for. Nothing else is changed.
fn shortened(rules: &str) -> String {
    let mut out = String::new();
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("for: ") {
            out.push_str(&format!("{}for: 1s\n", " ".repeat(indent)));
        } else {
            let short =
                line.replace("[1h] offset 5m", "[10s] offset 5s").replace("[5m]", "[5s]").replace("[1m]", "[3s]");
            out.push_str(&format!("{short}\n"));
        }
    }
    assert!(!out.contains("m]") && !out.contains("h]"), "a window that is not known here: {out}");
    out
}

impl Prometheus {
    fn start(dir: &Path, target: SocketAddr, key: &str) -> Self {
        std::fs::write(dir.join("rules.yml"), shortened(&read("deploy/prometheus/intended.rules.yml"))).unwrap();
        std::fs::write(dir.join("key"), key).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - {{job_name: intended, static_configs: [{{targets: [\"{target}\"]}}]}}\n\
             - {{job_name: acme, authorization: {{credentials_file: key}}, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        run(promtool(&["check", "config", "prometheus.yml"]).current_dir(dir)).expect(0);
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        let command = command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Owned(command.spawn().unwrap_or_else(|e| panic!("prometheus: {e}; test.sh installs it")));
        let (told, said) = std::sync::mpsc::channel();
        let err = BufReader::new(child.0.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut all = String::new();
            // To its end, so that what is said later never blocks it.
            for line in err.lines().map_while(Result::ok) {
                let address = line.split_once("msg=\"Listening on\" address=").and_then(|(_, a)| a.trim().parse().ok());
                all.push_str(&format!("{line}\n"));
                if let Some(address) = address {
                    let _ = told.send(Ok(address));
                }
            }
            let _ = told.send(Err(all));
        });
        let address = said.recv_timeout(PATIENCE).expect("it does not say where it listens").expect("it has ended");
        let started = Self { _child: child, address };
        started.until("it is ready", PATIENCE, |p| p.get("/-/ready").0 == 200);
        started
    }

    /// Of HTTP 1.0, so that an answer ends with its connection.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn api(&self, path: &str) -> Value {
        let (status, body) = self.get(&format!("/api/v1/{path}"));
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert!(status == 200 && body["status"] == "success", "{path}: {body}");
        body["data"].clone()
    }

    /// What a query gives now. One that it cannot read fails the test.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let data = self.api(&format!("query?query={encoded}"));
        data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}")).clone()
    }

    /// Alerts that fire, of the job that `job` is.
    fn firing(&self, job: &str) -> BTreeSet<String> {
        let data = self.api("alerts");
        let firing = data["alerts"].as_array().unwrap().iter().filter(|a| a["state"] == "firing");
        let mine = firing.filter(|a| a["labels"]["job"] == job);
        mine.map(|a| a["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn until(&self, what: &str, patience: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + patience;
        while !holds(self) {
            if Instant::now() > end {
                let (firing, alerts) = (self.firing("intended"), self.api("alerts"));
                panic!("not in time: {what}; firing: {firing:?}; {alerts}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    #[track_caller]
    fn fires(&self, alert: &str) {
        self.until(&format!("{alert} fires"), 2 * PATIENCE, |p| p.firing("intended").contains(alert));
    }
    #[track_caller]
    fn clears(&self, alert: &str) {
        self.until(&format!("{alert} clears"), 2 * PATIENCE, |p| !p.firing("intended").contains(alert));
    }
}

/// Agents that ask all the time, and do not mind what they are told.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(agent: &Http) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ask = |n: usize| {
            let (agent, stop) = (agent.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = agent.send("POST", "intents", Some(&intents::lookup(&format!("order-{n}"))), &[]);
                    std::thread::sleep(Duration::from_millis(200));
                }
            })
        };
        // Enough that those who wait for a disk are more than one in a hundred.
        let threads = (0..8).map(ask).collect();
        Self { stop, threads }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A server with a collector and with a data file that can become full.
fn server() -> (Site, Server) {
    let site = Site::bare();
    site.configure("max_bytes", Some(3 << 20));
    let path = site.dir.join("intended.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = "\n\n[[siem]]\nname = \"archive\"\nformat = \"ocsf\"\nfile = { path = \"siem.jsonl\" }\n";
    std::fs::write(&path, text + table).unwrap();
    site.set_up()
}

/// Something of everything that is counted.
fn a_bit_of_all(agent: &Http) {
    let allowed = agent.post("intents", &intents::lookup("first")).expect(200);
    agent.post("intents", &intents::refund(4_000)).expect(202);
    agent.post("intents", &intents::within(intents::lookup("denied"), "development")).expect(403);
    let verify = serde_json::json!({
        "token": allowed["token"], "environment": allowed["environment"], "intent_hash": allowed["intent_hash"],
    });
    agent.post("tokens/verify", &verify).expect(200);
}

/// Every query of the dashboard and of the rules is one that Prometheus reads, about families that the
/// page has, and gives something.
fn queries_hold(prometheus: &Prometheus, page: &str) {
    let known = described(page);
    for query in queries() {
        for family in families(&query) {
            assert!(known.contains(&family), "the dashboard asks for `{family}`, which is not on the page");
        }
        // What shows only what is wrong is empty while nothing is: there is what it is about.
        let about = query.strip_suffix(" > 0").unwrap_or(&query);
        prometheus.query(&query);
        prometheus.until(&format!("there is data: {about}"), PATIENCE, |p| !p.query(about).is_empty());
    }
    for alert in alerts() {
        let query = alert["expr"].as_str().unwrap();
        for family in families(query) {
            assert!(known.contains(&family), "{}: `{family}` is not on the page", name(&alert));
        }
        prometheus.query(query);
    }
    let rules = prometheus.api("rules");
    let rules: Vec<_> =
        rules["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), alerts().len());
    assert!(rules.iter().all(|r| r["health"] == "ok"), "{rules:?}");
}

#[test]
fn a_real_prometheus_sees_alerts_fire_and_clear_and_reads_every_query_of_the_dashboard() {
    let dir = tempfile::tempdir().unwrap();
    let (site, server) = server();
    let (owner, agent) = (site.owner(&server), site.agent(&server));
    a_bit_of_all(&agent);
    let (page, own) = (owner_page(&owner, false), owner_page(&owner, true));
    for page in [&page, &own] {
        let ran = run_with(&mut promtool(&["check", "metrics"]), Some(page));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{page}");
    }
    let documented = read("docs/operate.md");
    for family in described(&own).iter().filter(|f| f.starts_with("intended_")) {
        assert!(documented.contains(family.as_str()), "docs/operate.md says nothing of {family}");
    }
    let prometheus = Prometheus::start(dir.path(), server.address, &site.owner);
    let traffic = Traffic::start(&agent);
    queries_hold(&prometheus, &own);

    // The disk stands still: something else holds the file.
    prometheus.clears("IntendedAuditLag");
    prometheus.clears("IntendedDecisionLatencyHigh");
    let other = rusqlite::Connection::open(site.dir.join("ledger.db")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    prometheus.fires("IntendedAuditLag");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    prometheus.fires("IntendedDecisionLatencyHigh");
    prometheus.clears("IntendedAuditLag");
    prometheus.clears("IntendedDecisionLatencyHigh");

    // It is full: nothing can be decided.
    prometheus.clears("IntendedDecisionErrors");
    let mut large = intents::lookup("large");
    large["action"]["properties"]["note"] = "x".repeat(4_000).into();
    for alert in ["IntendedDecisionErrors", "IntendedNotReady"] {
        let mut refused = false;
        prometheus.until(&format!("{alert} fires"), 2 * PATIENCE, |p| {
            for _ in 0..if refused { 5 } else { 200 } {
                refused = agent.post("intents", &large).status == 507;
            }
            p.firing("intended").contains(alert)
        });
    }
    // The process ends, and comes back where there is room.
    let address = server.address.to_string();
    server.kill();
    prometheus.fires("IntendedDown");
    site.configure("max_bytes", None);
    let serve = ["serve", "--data-dir", site.path(), "--listen", address.as_str()];
    let server = Server::spawn(&mut intended(&serve)).unwrap();
    for alert in ["IntendedDown", "IntendedNotReady", "IntendedDecisionErrors"] {
        prometheus.clears(alert);
    }
    // What a person does is seen too, by whom it concerns as by who watches the server.
    let owner = site.owner(&server);
    let halt = serde_json::json!({"reason": "drill", "environment": "staging"});
    let halt = owner.post("emergency/halts", &halt).expect(201);
    prometheus.fires("IntendedHaltActive");
    prometheus.until("the tenant's own says so", PATIENCE, |p| p.firing("acme").contains("IntendedHaltActive"));
    let resume = serde_json::json!({"reason": "over"});
    owner.post(&format!("emergency/halts/{}/resume", halt["halt"].as_str().unwrap()), &resume).expect(200);
    prometheus.clears("IntendedHaltActive");
    drop(traffic);
    server.stop().expect(0);
}

/// The page as a stranger gets it, or the tenant.
fn owner_page(owner: &Http, own: bool) -> String {
    let mut stream = connect(owner.address).unwrap();
    let who = if own { format!("authorization: Bearer {}\r\n", owner.key) } else { String::new() };
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{who}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}
