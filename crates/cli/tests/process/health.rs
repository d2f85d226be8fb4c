//! What is broken under a running server, seen as whoever is called sees it.

use serde_json::{Value, json};

use crate::support::{Server, Site, intended, intents, run, until};

fn database(site: &Site) -> rusqlite::Connection {
    rusqlite::Connection::open(site.dir.join("ledger.db")).unwrap()
}

/// The checks of one name, as the server says them.
fn checks(site: &Site, server: &Server, component: &str, name: &str) -> Vec<Value> {
    let health = site.owner(server).get("/healthz").body;
    let of = |v: &Value, n: &str, what: &str| v[n].as_str() == Some(what);
    let component = health["components"].as_array().unwrap().iter().find(|c| of(c, "component", component)).cloned();
    component.unwrap()["checks"].as_array().unwrap().iter().filter(|c| of(c, "check", name)).cloned().collect()
}

/// Waits until one of them is so, and answers with it.
#[track_caller]
fn becomes(site: &Site, server: &Server, component: &str, name: &str, status: &str) -> Value {
    let mut found = Value::Null;
    until(&format!("{component}: {name} is {status}"), || {
        let all = checks(site, server, component, name);
        // Healthy is what all of them are.
        let fits = |c: &&Value| (c["status"] == status) != (status == "healthy");
        match all.iter().find(fits) {
            Some(one) if status != "healthy" => found = one.clone(),
            None if status == "healthy" => found = all[0].clone(),
            _ => return false,
        }
        true
    });
    found
}

#[test]
fn health_check_says_each_check_with_what_to_do_beneath_and_which_loops_go_on() {
    let (site, server) = Site::new();
    becomes(&site, &server, "enforcement runtime", "housekeeping", "healthy");
    let loops = checks(&site, &server, "enforcement runtime", "housekeeping");
    assert_eq!(loops[0]["detail"], "emergency requests, housekeeping, webhooks");
    let connections = checks(&site, &server, "gateway", "connections");
    assert_eq!(connections[0]["detail"], "1 of 4096 in use");

    // Nothing is deployed in development: that is degraded, which is no failure of the command.
    let ran = site.cli(&server, &["health", "check"]).expect(0);
    assert!(ran.out.contains("policy engine: policy version, DEGRADED"), "{}", ran.out);
    assert!(ran.out.contains("  acme/development: nothing deployed"), "{}", ran.out);
    assert!(ran.out.contains("  do: Deploy a version") && ran.out.contains("  see: docs/health.md#policy-version"));
    let all = site.cli(&server, &["health", "check", "--verbose"]).expect(0).out;
    for check in
        ["workers", "evaluation", "signature", "sealed keys", "entries", "writable", "latency", "clock", "state"]
    {
        assert!(all.lines().any(|l| l.contains(check)), "{check}: {all}");
    }
    assert!(!all.contains("LAST SEEN"), "there is one node: {all}");
    let stranger = run(intended(&["health", "check", "--server", &server.url()]).env_remove("INTENDED_API_KEY"));
    assert!(stranger.code == 0 && !stranger.out.contains("acme"), "{stranger:?}");
    let nodes = site.owner(&server).get("nodes").expect(200);
    assert_eq!((nodes.as_array().unwrap().len(), &nodes[0]["here"]), (1, &json!(true)));
    server.stop().expect(0);
    let left: i64 =
        database(&site).query_row("SELECT count(*) FROM facts WHERE key LIKE 'h/n/%'", [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0, "it said that it goes");
    run(&mut intended(&["verify", site.path()])).expect(0);
}

#[test]
fn a_data_file_that_somebody_else_holds_locked_is_not_ready_until_it_is_let_go() {
    let (site, server) = Site::new();
    let other = database(&site);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let found = becomes(&site, &server, "store", "writable", "unavailable");
    assert!(found["do"].as_str().unwrap().contains("locked"), "{found}");
    until("it is not ready", || site.owner(&server).get("/readyz").status == 503);
    let told = site.cli(&server, &["health", "check"]).expect(5).out;
    assert!(told.contains("store: writable, UNAVAILABLE"), "{told}");
    other.execute_batch("ROLLBACK").unwrap();
    becomes(&site, &server, "store", "writable", "healthy");
    until("it is ready", || site.owner(&server).get("/readyz").status == 200);
}

#[test]
fn a_letter_that_changes_in_the_file_of_a_running_server_is_found() {
    let (site, server) = Site::new();
    for n in 0..40 {
        site.agent(&server).post("intents", &intents::lookup(&format!("order-{n}"))).expect(200);
    }
    // What is in the log is folded into the file.
    server.stop().expect(0);
    let server = site.start().unwrap();
    becomes(&site, &server, "audit ledger", "entries", "healthy");
    let path = site.dir.join("ledger.db");
    let bytes = std::fs::read(&path).unwrap();
    let text = b"\"order-7\"";
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    let change = |byte: u8| {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[byte], at as u64 + 7).unwrap();
    };
    change(b'8');
    let found = becomes(&site, &server, "audit ledger", "entries", "unavailable");
    assert!(found["detail"].as_str().unwrap().starts_with("acme: entries 0 to "), "{found}");
    assert!(found["do"].as_str().unwrap().contains("it is evidence"), "{found}");
    assert_eq!(found["see"], "docs/health.md#entries");
    let told = site.cli(&server, &["health", "check"]).expect(5).out;
    assert!(told.contains("audit ledger: entries, UNAVAILABLE"), "{told}");
    // Nobody has to ask: the log has it, with what to do.
    let line = || {
        let log = server.err();
        log.lines()
            .find(|l| l.contains("ERROR") && l.contains("audit ledger") && l.contains("entries"))
            .map(str::to_owned)
    };
    until("the log says so", || line().is_some());
    assert!(line().unwrap().contains("acme") && line().unwrap().contains("it is evidence"), "{:?}", line());
    change(b'7');
    becomes(&site, &server, "audit ledger", "entries", "healthy");
}

#[test]
fn a_clock_that_was_set_back_while_it_was_down_and_a_key_that_does_not_unseal_are_degraded() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let changed = database(&site).execute("UPDATE tenants SET last_at = last_at + 3600000", []).unwrap();
    assert_eq!(changed, 1);
    let server = site.start().unwrap();
    let found = becomes(&site, &server, "enforcement runtime", "clock", "degraded");
    assert!(found["detail"].as_str().unwrap().contains("which was set back"), "{found}");
    let found = becomes(&site, &server, "audit ledger", "time", "degraded");
    assert!(found["do"].as_str().unwrap().starts_with("Compare the clocks"), "{found}");

    let key = "UPDATE facts SET value = x'00' WHERE key LIKE 'k/production/%'";
    assert_eq!(database(&site).execute(key, []).unwrap(), 1);
    let found = becomes(&site, &server, "token service", "sealed keys", "degraded");
    assert!(found["detail"].as_str().unwrap().starts_with("acme/production: "), "{found}");
    let told = site.cli(&server, &["health", "check"]).expect(0).out;
    assert!(told.contains("token service: sealed keys, DEGRADED") && told.contains("rotate it"), "{told}");
    assert_eq!(site.owner(&server).get("/readyz").status, 200, "it signs from memory");
}

#[test]
fn a_root_key_that_is_gone_from_its_place_is_told_while_the_server_still_signs() {
    let (site, server) = Site::new();
    until("it was read", || !checks(&site, &server, "token service", "root key").is_empty());
    becomes(&site, &server, "token service", "root key", "healthy");
    server.stop().expect(0);
    // By a program that gives it once: at the start.
    let (key, once) = (site.dir.join("root.key"), site.dir.join("once"));
    let script = format!("mv {} {} && cat {}", key.display(), once.display(), once.display());
    let config = site.dir.join("intended.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let rest = text.lines().filter(|l| !l.starts_with("root_key")).collect::<Vec<_>>().join("\n");
    std::fs::write(&config, format!("root_key_command = [\"sh\", \"-c\", {script:?}]\n{rest}\n")).unwrap();
    let server = site.start().unwrap();
    let found = becomes(&site, &server, "token service", "root key", "degraded");
    assert!(found["do"].as_str().unwrap().starts_with("Do not restart"), "{found}");
    let said = found.to_string();
    assert!(!said.contains("once") && !said.contains("ended with"), "where it is is for the log: {said}");
    until("the log says why", || server.err().contains("the root key cannot be read"));
    assert_eq!(site.owner(&server).get("/readyz").status, 200, "it signs from memory");
}

#[test]
fn a_node_is_called_as_it_is_configured_and_one_that_was_killed_before_is_forgotten() {
    let (site, server) = Site::new();
    let node = |server: &Server| site.owner(server).get("nodes").expect(200)[0]["node"].as_str().unwrap().to_owned();
    let host = node(&server);
    until("it has said that it is there", || {
        let count = "SELECT count(*) FROM facts WHERE key LIKE 'h/n/%'";
        database(&site).query_row(count, [], |r| r.get::<_, i64>(0)).unwrap() == 1
    });
    server.kill();
    let path = site.dir.join("intended.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("node = \"blue-1\"\n{text}")).unwrap();
    let server = site.start().unwrap();
    assert!(host != "blue-1" && node(&server) == "blue-1", "{host}");
    let names = || {
        let query = "SELECT group_concat(key) FROM facts WHERE key LIKE 'h/n/%'";
        database(&site).query_row(query, [], |r| r.get::<_, Option<String>>(0)).unwrap()
    };
    until("the one before is forgotten", || names().as_deref() == Some("h/n/blue-1"));
}
