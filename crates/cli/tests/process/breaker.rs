//! Breakers with the real server: set, opened, seen, tried again, closed, held, released.

use serde_json::json;

use crate::support::{Server, Site, TENANT, intended, intents, run, until};

#[test]
fn a_breaker_opens_is_seen_with_what_and_until_when_and_closes_by_a_reported_probe() {
    let (site, server) = Site::new();
    let cli = |arguments: &[&str]| site.cli(&server, arguments);
    let ran = cli(&["breaker", "list"]).expect(0);
    for part in ["production.agents", "each agent", "closed (defaults)", "error_rate_permille 500"] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(ran.err.contains("6 with default thresholds"), "{}", ran.err);
    let set = [
        "breaker",
        "set",
        "refunds",
        "-e",
        "production",
        "--tool",
        "stripe.*",
        "--velocity",
        "2",
        "--minimum-calls",
        "1",
        "--open-secs",
        "2",
        "--probes",
        "1",
    ];
    let dry = cli(&[&set[..], &["--dry-run"]].concat()).expect(0);
    assert!(!cli(&["breaker", "list"]).expect(0).out.contains("refunds"), "{}", dry.err);
    cli(&set).expect(0);
    cli(&["breaker", "set", "refunds", "-e", "production", "--tool", "stripe.*"]).expect(6);
    cli(&["breaker", "set", "refunds", "-e", "production", "--tool", "stripe.*", "--spend", "amount"]).expect(1);
    cli(&["breaker", "set", "refunds", "--tool", "a", "--agent", "b", "--velocity", "50"]).expect(1);

    let agent = site.agent(&server);
    let submit = || agent.post("intents", &intents::refund(1));
    for _ in 0..2 {
        submit().expect(200);
    }
    let denied = submit().expect(403);
    assert_eq!(denied["reason"], json!("breaker.open"));
    let ran = cli(&["breaker", "list", "-e", "production"]).expect(0);
    let line = ran.out.lines().find(|l| l.trim_start().starts_with("refunds")).unwrap();
    for part in ["production", "tool stripe.*", "open", "tried again at 20"] {
        assert!(line.contains(part) || ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(ran.out.contains("velocity 2/2 of 2"), "{}", ran.out);

    // The server's own housekeeping tries it again; a killed one goes on where it was.
    let state = |server: &Server| site.data(server, &["breaker", "show", "refunds"])["state"].clone();
    until("half-open", || state(&server) == json!("half_open"));
    server.kill();
    let server = site.start().unwrap();
    assert_eq!(state(&server), json!("half_open"));
    let agent = site.agent(&server);
    let probe = agent.post("intents", &intents::refund(1)).expect(200);
    assert_eq!(agent.post("intents", &intents::refund(1)).expect(403)["reason"], json!("breaker.open"));
    let verify = json!({
        "token": probe["token"], "environment": "production", "intent_hash": probe["intent_hash"], "consume": true,
    });
    let point = site.owner(&server);
    point.post("tokens/verify", &verify).expect(200);
    let outcome = format!("intents/{}/outcome", probe["id"].as_str().unwrap());
    let succeeded = json!({"outcome": "succeeded", "duration_ms": 5});
    assert_eq!(agent.post(&outcome, &succeeded).expect(403)["code"], json!("outcome.not_yours"));
    point.post(&outcome, &succeeded).expect(201);
    assert_eq!(state(&server), json!("closed"));
    agent.post("intents", &intents::refund(1)).expect(200);

    let cli = |arguments: &[&str]| site.cli(&server, arguments);
    let held = cli(&[
        "breaker",
        "hold",
        "stripe-down",
        "-e",
        "production",
        "--connector",
        "stripe",
        "--reason",
        "their incident",
    ]);
    assert!(held.expect(0).err.contains("breaker release stripe-down"));
    let ran = cli(&["breaker", "list"]).expect(0);
    assert!(ran.out.contains("their incident") && ran.out.contains("held by "), "{}", ran.out);
    assert_eq!(agent.post("intents", &intents::refund(1)).expect(403)["reason"], json!("breaker.open"));
    let nothing =
        cli(&["breaker", "hold", "x", "-e", "production", "--connector", "strype", "--reason", "r"]).expect(6);
    assert!(nothing.err.contains("there is `") && nothing.err.contains("`stripe`"), "{}", nothing.err);
    let release = ["breaker", "release", "stripe-down", "--reason", "over"];
    assert!(cli(&release).expect(4).err.contains("only a person releases a hold"));
    let ana = site.person(&server, "ana");
    site.cli_as(&server, &ana, &release).expect(0);
    agent.post("intents", &intents::refund(1)).expect(200);
    assert!(server.stop().err.contains("stopped"));
    run(&mut intended(&["verify", site.path(), "--tenant", TENANT])).expect(0);
}
