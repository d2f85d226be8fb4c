//! `token test` with the real server: every step, and what is said and returned when one does not hold.

use serde_json::{Value, json};

use crate::support::{Server, Site};

const STEPS: [&str; 7] =
    ["decision", "token", "verified here", "useless elsewhere", "used once", "not twice", "in the ledger"];

fn vkey(site: &Site, server: &Server) -> String {
    site.owner(server).get("audit/checkpoint").expect(200)["vkey"].as_str().unwrap().to_owned()
}

fn file(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir.with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_step_of_the_self_test_is_shown_with_its_time_and_nothing_of_it_is_traffic() {
    let (site, server) = Site::new();
    let key = file(&site, "acme.vkey", &vkey(&site, &server));
    let ran = site.cli(&server, &["token", "test", "-e", "production", "--vkey", &key]).expect(0);
    assert!(ran.out.starts_with("production: works  intent "), "{}", ran.out);
    let lines: Vec<&str> = ran.out.lines().skip(1).collect();
    assert_eq!(lines.len(), STEPS.len(), "{}", ran.out);
    for (line, step) in lines.iter().zip(STEPS) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words[0] == "pass" && line.contains(step) && line.contains(" ms "), "{line}");
    }
    assert!(ran.err.is_empty(), "{}", ran.err);
    // Without the key that is known, it says whose word is taken.
    let ran = site.cli(&server, &["token", "test", "-e", "staging"]).expect(0);
    assert!(ran.err.contains("--vkey"), "{}", ran.err);

    // In each environment that the credential may test; as data.
    // Nothing is deployed in one of them, which denies.
    let all = site.cli(&server, &["token", "test", "-o", "json"]).expect(2).json();
    let all = all.as_array().unwrap();
    let places: Vec<&str> = all.iter().map(|t| t["environment"].as_str().unwrap()).collect();
    assert_eq!(places, ["development", "production", "staging"]);
    assert_eq!((&all[0]["exit_code"], &all[0]["reason"]), (&json!(2), &json!("policy.none")));
    for tested in &all[1..] {
        assert_eq!(
            (&tested["passed"], &tested["decision"], &tested["exit_code"]),
            (&json!(true), &json!("allow"), &json!(0))
        );
        let steps: Vec<&str> =
            tested["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
        assert_eq!(steps, STEPS);
        assert!(tested["steps"].as_array().unwrap().iter().all(|s| s["took_ms"].as_f64().unwrap() >= 0.0));
    }

    // It is in the lists, and told apart there.
    let rows = |arguments: &[&str]| site.data(&server, arguments).as_array().unwrap().len();
    assert_eq!(rows(&["intent", "list", "--class", "traffic"]), 0);
    assert_eq!(rows(&["intent", "list", "--class", "synthetic"]), 2 + all.len());
    // With the uses of the four tokens that there were.
    assert_eq!(rows(&["audit", "query", "--class", "synthetic"]), 2 + all.len() + 4);
    let tail = ["audit", "tail", "--class", "synthetic", "--after", "0", "--count", "1", "-o", "jsonl"];
    assert!(site.cli(&server, &tail).expect(0).out.contains("self-test"));
    assert!(site.cli(&server, &["intent", "list"]).expect(0).out.contains("CLASS"));
    assert!(site.cli(&server, &["audit", "query"]).expect(0).out.contains("self-test: allow"));
    let shown = site.cli(&server, &["intent", "show", all[1]["intent"].as_str().unwrap()]).expect(0);
    assert!(shown.out.contains("a self-test: not counted as traffic"), "{}", shown.out);
    site.cli(&server, &["audit", "verify"]).expect(0);

    let before = rows(&["intent", "list", "--class", "synthetic"]);
    let dry = site.cli(&server, &["token", "test", "--dry-run"]).expect(0);
    assert!(dry.out.contains("tokens/test"), "{}", dry.out);
    assert_eq!(rows(&["intent", "list", "--class", "synthetic"]), before);
}

#[test]
fn what_stops_the_self_test_is_said_with_what_to_do_and_by_the_exit_code() {
    let (site, server) = Site::new();
    let owner = site.owner(&server);
    let test = |place: &str, code: i32| site.cli(&server, &["token", "test", "-e", place]).expect(code);
    // Held: denied.
    let hold = json!({"environment": "production", "on": {"scope": "tenant"}, "reason": "maintenance"});
    owner.post("breakers/quiet/hold", &hold).expect(201);
    let ran = test("production", 2);
    for part in ["production: denied", "FAIL", "breaker.open", "gate breaker", "maintenance"] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(ran.err.contains("intended breaker list"), "{}", ran.err);
    let ana = site.person(&server, "ana");
    site.cli_as(&server, &ana, &["breaker", "release", "quiet", "--reason", "over"]).expect(0);
    test("production", 0);
    // Halted, there and not elsewhere; of all environments, the worst.
    owner.post("emergency/halts", &json!({"environment": "production", "reason": "stop"})).expect(201);
    let ran = test("production", 9);
    assert!(ran.out.contains("production: halted") && ran.out.contains("halt.environment"), "{}", ran.out);
    assert!(ran.err.contains("intended emergency status"), "{}", ran.err);
    test("staging", 0);
    let ran = site.cli(&server, &["token", "test", "-o", "json"]).expect(9);
    let all: Value = ran.json();
    let of = |place: &str| all.as_array().unwrap().iter().find(|t| t["environment"] == place).unwrap().clone();
    assert_eq!((&of("production")["exit_code"], &of("staging")["exit_code"]), (&json!(9), &json!(0)));

    // A proof under another key than the ledger's does not hold.
    let other = "intended/acme+0355ba74+Adp+sNpOzHNtSjXIjsMbuugg1PVexL4gyCN/X6ZAu3Fe";
    let other = file(&site, "other.vkey", other);
    let ran = site.cli(&server, &["token", "test", "-e", "staging", "--vkey", &other]).expect(8);
    assert!(ran.out.contains("staging: FAILS"), "{}", ran.out);
    let last = ran.out.lines().last().unwrap();
    assert!(last.trim_start().starts_with("FAIL") && last.contains("in the ledger"), "{}", ran.out);
    assert_eq!(ran.out.matches("FAIL ").count(), 1, "{}", ran.out);

    // Nobody there, nobody that may, nowhere that is.
    for arguments in [&["token", "test"][..], &["token", "test", "-e", "staging"]] {
        let ran = site.cli_as(&server, &site.agent, arguments).expect(4);
        assert!(ran.err.contains("token:test") || ran.err.contains("credential.environment"), "{}", ran.err);
    }
    server.kill();
}

#[test]
fn a_credential_that_may_test_and_nothing_else_is_enough() {
    let (site, server) = Site::new();
    let owner = site.owner(&server);
    let body = json!({"credential": "prober", "environments": ["production"], "scopes": ["token:test"]});
    let key = owner.post("credentials", &body).expect(201)["key"].as_str().unwrap().to_owned();
    let known = file(&site, "acme.vkey", &vkey(&site, &server));
    let as_prober = |arguments: &[&str], code: i32| site.cli_as(&server, &key, arguments).expect(code);
    let ran = as_prober(&["token", "test"], 1);
    assert!(ran.err.contains("--vkey"), "{}", ran.err);
    let ran = as_prober(&["token", "test", "--vkey", &known], 0);
    assert!(ran.out.starts_with("production: works"), "{}", ran.out);
    // It is used for that, and has nothing else that could be.
    as_prober(&["token", "test", "-e", "staging", "--vkey", &known], 4);
    let lookup = file(&site, "lookup.json", &crate::support::intents::lookup("1").to_string());
    as_prober(&["intent", "submit", &lookup], 4);
    as_prober(&["token", "test", &lookup], 4);
    as_prober(&["audit", "query"], 4);
}
