//! `intended readiness`: what it prints, how it ends, and that the history is there after a restart.

use serde_json::{Value, json};

use crate::support::{Server, Site, intended, intents, run};

/// A server whose thresholds no slow machine exceeds, so that what fails is what the test made fail.
fn patient() -> (Site, Server) {
    let site = Site::bare();
    let names = ["store_read", "store_write", "round_trip", "policy_p50", "policy_p99", "signing_p50", "signing_p99"];
    let lines = names.map(|name| format!("{name}_micros = {{ warn = 1000000000, fail = 1000000000 }}\n"));
    append(&site, &format!("\n[readiness]\n{}", lines.concat()));
    site.set_up()
}

fn append(site: &Site, text: &str) {
    let path = site.dir.join("intended.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, before + text).unwrap();
}

fn measured<'v>(of: &'v Value, name: &str) -> &'v Value {
    of["measurements"].as_array().unwrap().iter().find(|m| m["measurement"] == name).unwrap()
}

#[test]
fn a_check_ends_with_0_for_pass_and_warn_6_for_fail_or_a_strict_warning_and_5_without_a_server() {
    let (site, server) = patient();
    let pass = site.cli(&server, &["readiness", "check", "-e", "production", "--strict"]).expect(0);
    assert!(pass.out.contains("ready: all 5 measurements pass (production)"), "{}", pass.out);
    for name in
        ["service connectivity", "key material available", "audit pipeline lag", "policy engine", "token signing"]
    {
        assert!(pass.out.contains(name), "{name}: {}", pass.out);
    }
    assert!(pass.err.contains("kept as run 1"), "{}", pass.err);

    // Nothing is deployed in development: a warning, because production is as it should be.
    let warned = site.cli(&server, &["readiness", "check"]).expect(0);
    assert!(warned.out.contains("warn: policy engine response time, development deployed policy"), "{}", warned.out);
    assert!(warned.out.contains("  do: deploy one: `intended policy deploy"), "{}", warned.out);
    assert!(warned.out.contains("ready, with warnings: 1 of 5 measurements warn"), "{}", warned.out);
    assert!(warned.err.contains("warning: ready, but not everything is as it should be"), "{}", warned.err);
    let strict = site.cli(&server, &["readiness", "check", "--strict"]).expect(6);
    assert!(strict.out.contains("ready, with warnings"), "{}", strict.out);

    let at = "signing_p50_micros=0,0";
    let failed = site.cli(&server, &["readiness", "check", "-e", "production", "--threshold", at]).expect(6);
    assert!(failed.out.contains("not ready: 1 of 5 measurements failed (production)"), "{}", failed.out);
    assert!(failed.out.contains("fail: token signing latency, production p50 "), "{}", failed.out);
    assert!(failed.out.contains(", above 0 µs (signing_p50_micros)\n  do: "), "{}", failed.out);
    let looser = ["readiness", "check", "--threshold", "key_age_days=100,400"];
    let refused = site.cli(&server, &looser).expect(6);
    assert!(refused.err.contains("key_age_days") && refused.err.contains("not looser"), "{}", refused.err);
    let unknown = site.cli(&server, &["readiness", "check", "--threshold", "key_age=1,2"]).expect(6);
    assert!(unknown.err.contains("there is no threshold `key_age`"), "{}", unknown.err);
    site.cli(&server, &["readiness", "check", "--threshold", "key_age_days=1"]).expect(1);
    site.cli(&server, &["readiness", "check", "-e", "nowhere"]).expect(1);

    let dry = site.cli(&server, &["readiness", "check", "--dry-run"]).expect(0);
    assert!(dry.out.contains("POST ") && dry.out.contains("/readiness"), "{}", dry.out);
    let url = server.url();
    server.stop().expect(0);
    let mut gone = intended(&["readiness", "check", "--server", &url, "--tenant", "acme"]);
    run(gone.env("INTENDED_API_KEY", &site.owner)).expect(5);
}

#[test]
fn the_whole_of_a_check_is_in_its_json_and_every_figure_in_the_verbose_table() {
    let (site, server) = patient();
    site.agent(&server).post("intents", &intents::refund(10)).expect(200);
    let whole = site.cli(&server, &["readiness", "check", "-o", "json"]).expect(0).json();
    assert_eq!((&whole["run"], &whole["whole"], &whole["by"]), (&json!(1), &json!(true), &json!("credential owner")));
    let names: Vec<&str> =
        whole["measurements"].as_array().unwrap().iter().map(|m| m["measurement"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5);
    let figures = |name: &str| measured(&whole, name)["figures"].as_array().unwrap().clone();
    let trip = figures("service connectivity").into_iter().find(|f| f["figure"] == "round trip").unwrap();
    assert!(trip["value"].as_u64().unwrap() > 0, "the command measured the way itself: {trip}");
    assert_eq!(trip["bound"], json!({"warn": 1_000_000_000, "fail": 1_000_000_000}), "as the config file says");
    let p99 = figures("policy engine response time").into_iter().find(|f| f["figure"] == "p99").unwrap();
    assert_eq!((&p99["unit"], &p99["threshold"]), (&json!("micros"), &json!("policy_p99_micros")));
    let verbose = site.cli(&server, &["readiness", "check", "--verbose"]).expect(0).out;
    for shown in ["store read", "store write", "sealed key", "ledger key", "checkpoint age", "p50", "signatures, each"]
    {
        assert!(verbose.contains(shown), "{shown}: {verbose}");
    }
    let short = site.cli(&server, &["readiness", "check"]).expect(0).out;
    assert!(short.lines().count() < verbose.lines().count() / 2, "{short}");
}

#[test]
fn the_history_is_there_after_a_restart_and_the_directory_verifies_with_it() {
    let (site, server) = patient();
    assert!(site.cli(&server, &["readiness", "history"]).expect(0).err.contains("no check was made yet"));
    site.cli(&server, &["readiness", "check", "-e", "production"]).expect(0);
    site.cli(&server, &["readiness", "check", "-e", "production", "--threshold", "signing_p99_micros=0,0"]).expect(6);
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
    let server = site.start().unwrap();
    let table = site.cli(&server, &["readiness", "history"]).expect(0).out;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].contains("fail") && rows[0].contains("token signing latency: fail"), "{table}");
    assert!(rows[1].contains("pass") && rows[1].contains("production") && rows[1].contains("owner"), "{table}");
    let first = site.cli(&server, &["readiness", "history", "--limit", "1", "-o", "json"]).expect(0);
    assert_eq!(first.json()[0]["run"], 2);
    let cursor = first.err.split("--cursor ").nth(1).unwrap().trim().to_owned();
    let rest = site.cli(&server, &["readiness", "history", "--cursor", &cursor, "-o", "json"]).expect(0).json();
    assert_eq!((rest.as_array().unwrap().len(), &rest[0]["run"]), (1, &json!(1)));
}

#[test]
fn a_threshold_with_a_typing_error_in_the_config_file_keeps_the_server_from_starting() {
    for (text, said) in [
        ("polcy_p99_micros = { warn = 1, fail = 2 }", "there is no threshold `polcy_p99_micros`"),
        ("policy_p99_micros = { warn = 3, fail = 2 }", "`warn` is above `fail`"),
        ("policy_p99_micros = { warn = 1, fail = 2, max = 3 }", "unknown field `max`"),
        ("policy_p99_micros = { warn = 1 }", "missing field `fail`"),
        ("policy_p99_micros = { warn = -1, fail = 2 }", "policy_p99_micros"),
    ] {
        let site = Site::bare();
        append(&site, &format!("\n[readiness]\n{text}\n"));
        let refused = site.start().err().unwrap().expect(1);
        assert!(refused.err.contains(said) && refused.err.contains("intended.toml"), "{text}: {}", refused.err);
    }
}

#[test]
fn who_does_not_see_the_status_is_refused() {
    let (site, server) = patient();
    for command in ["check", "history"] {
        let refused = site.cli_as(&server, &site.agent, &["readiness", command]).expect(4);
        assert!(refused.err.contains("status:read"), "{}", refused.err);
    }
}
