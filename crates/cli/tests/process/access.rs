//! `access`: people, keys, agents and reviews as somebody at a terminal has them.

use serde_json::{Value, json};

use crate::support::{Ran, Server, Site, TENANT, intended, intents, run};

/// The owner at the command line.
fn access(site: &Site, server: &Server, arguments: &[&str]) -> Ran {
    site.cli(server, &[&["access"], arguments].concat())
}

/// Somebody else, with a key.
fn with(server: &Server, key: &str, arguments: &[&str]) -> Ran {
    let mut command = intended(&[&["access"], arguments].concat());
    run(command.args(["--server", &server.url(), "--tenant", TENANT]).env("INTENDED_API_KEY", key))
}

fn row(rows: &Value, member: &str, name: &str) -> Value {
    rows.as_array().unwrap().iter().find(|r| r[member] == name).unwrap_or_else(|| panic!("{name} in {rows}")).clone()
}

#[test]
fn what_is_not_named_of_a_member_stays_although_the_route_replaces_all() {
    let (site, server) = Site::new();
    let go = |arguments: &[&str]| access(&site, &server, arguments);
    let ann = || site.data(&server, &["access", "members", "show", "ann"]);
    go(&["members", "show", "ann"]).expect(1);
    go(&["members", "set", "ann", "--name", "Ann Lee", "--email", "ann@acme.example", "--add-group", "leads"])
        .expect(0);
    let added = go(&["members", "roles", "ann", "--add", "operator@staging", "--add", "viewer@*"]).expect(0);
    assert!(added.out.contains("operator@staging") && added.out.contains("viewer@*"), "{}", added.out);
    go(&["members", "set", "ann", "--add-group", "owners", "--name", "Ann B. Lee"]).expect(0);
    let known = ann();
    assert_eq!((&known["name"], &known["email"]), (&json!("Ann B. Lee"), &json!("ann@acme.example")));
    assert_eq!(known["groups"], json!(["leads", "owners"]));
    assert_eq!(known["grants"].as_array().unwrap().len(), 2);
    // Given again, a role lasts as long as is said now; one that is not there is not taken.
    go(&["members", "roles", "ann", "--add", "operator@staging", "--until", "30d"]).expect(0);
    assert_eq!(ann()["grants"].as_array().unwrap().len(), 2);
    assert!(ann()["grants"].to_string().contains("expires_at"));
    let refused = go(&["members", "roles", "ann", "--remove", "admin@*"]).expect(1);
    assert!(refused.err.contains("viewer@*"), "what they have is said: {}", refused.err);
    go(&["members", "roles", "ann", "--add", "operator"]).expect(1);
    go(&["members", "roles", "ann", "--remove", "viewer@*"]).expect(0);
    // Owners are not made in passing.
    go(&["members", "roles", "ann", "--add", "owner@*", "--no-input"]).expect(1);
    assert_eq!(ann()["grants"].as_array().unwrap().len(), 1);
    go(&["members", "roles", "ann", "--add", "owner@*", "--confirm", "ann"]).expect(0);
    let table = go(&["members", "list"]).expect(0);
    assert!(table.out.contains("owner@*"), "{}", table.out);
    // Leaving is confirmed, and ends it.
    go(&["members", "remove", "ann", "--no-input"]).expect(1);
    let gone = go(&["members", "remove", "ann", "--confirm", "ann"]).expect(0);
    assert!(gone.err.contains("owner@*"), "what they had is shown before: {}", gone.err);
    assert_eq!((&ann()["active"], &ann()["grants"]), (&json!(false), &json!([])));
    assert_eq!(ann()["name"], json!("Ann B. Lee"));
}

#[test]
fn a_key_is_shown_once_on_stdout_and_revoking_is_confirmed() {
    let (site, server) = Site::new();
    let go = |arguments: &[&str]| access(&site, &server, arguments);
    go(&["credentials", "create", "bot", "--scope", "intent:read"]).expect(1);
    let create = [
        "credentials",
        "create",
        "bot",
        "--scope",
        "intent:read",
        "--scope",
        "access:read",
        "--in",
        "staging",
        "--expires",
        "90d",
    ];
    let made = go(&create).expect(0);
    let key = made.out.trim();
    assert!(key.starts_with("int_") && made.out.lines().count() == 1 && !made.err.contains(key), "{made:?}");
    let listed = site.data(&server, &["access", "credentials", "list"]);
    let bot = row(&listed, "credential", "bot");
    assert_eq!(bot["environments"], json!(["staging"]));
    assert!(bot["expires_at"].is_string() && !listed.to_string().contains(key));
    with(&server, key, &["agents", "list"]).expect(0);
    // Into a file, which nobody else reads and which overwrites nothing.
    let path = site.path().to_owned() + "/rotated.key";
    let rotated = go(&["credentials", "rotate", "bot", "--overlap", "1h", "--key-to", &path]).expect(0);
    let second = std::fs::read_to_string(&path).unwrap();
    assert!(!rotated.out.contains(second.trim()) && !rotated.err.contains(second.trim()));
    for key in [key, second.trim()] {
        with(&server, key, &["agents", "list"]).expect(0);
    }
    go(&["credentials", "rotate", "bot", "--key-to", &path]).expect(1);
    // Ending the key that is in use is confirmed.
    go(&["credentials", "rotate", "bot", "--overlap", "0", "--no-input"]).expect(1);
    let third = go(&["credentials", "rotate", "bot", "--overlap", "0", "--confirm", "bot"]).expect(0).out;
    with(&server, second.trim(), &["agents", "list"]).expect(4);
    with(&server, third.trim(), &["agents", "list"]).expect(0);
    go(&["credentials", "revoke", "bot", "--reason", "r", "--no-input"]).expect(1);
    go(&["credentials", "revoke", "nobody", "--reason", "r", "--confirm", "nobody"]).expect(1);
    go(&["credentials", "revoke", "bot", "--reason", "r", "--confirm", "bot"]).expect(0);
    with(&server, third.trim(), &["agents", "list"]).expect(4);
    assert!(!go(&["credentials", "list"]).expect(0).out.contains("bot"));
    assert!(go(&["credentials", "list", "--all"]).expect(0).out.contains("revoked"));
}

#[test]
fn an_agent_is_registered_changed_paused_and_retired_for_good() {
    let (site, server) = Site::new();
    let go = |arguments: &[&str]| access(&site, &server, arguments);
    let shown = |agent: &str| site.data(&server, &["access", "agents", "show", agent]);
    go(&["agents", "show", "helper"]).expect(1);
    let refused = go(&["agents", "set", "helper", "--owner", "ann"]).expect(1);
    assert!(refused.err.contains("--in <environment>"), "{}", refused.err);
    let set = [
        "agents",
        "set",
        "helper",
        "--in",
        "production,staging",
        "--trust",
        "60",
        "--owner",
        "ann",
        "--purpose",
        "answers customers",
    ];
    go(&set).expect(0);
    go(&["agents", "set", "helper", "--tool", "orders.*", "--tool", "stripe.create_refund", "--team", "support"])
        .expect(0);
    let known = shown("helper");
    assert_eq!((&known["owner"], &known["trust"]), (&json!("ann"), &json!(60)));
    assert_eq!(known["tools"], json!(["orders.*", "stripe.create_refund"]));
    assert_eq!(known["environments"], json!(["production", "staging"]));
    let steps = site.path().to_owned() + "/steps.json";
    std::fs::write(&steps, r#"[{"action": "stripe.create_refund", "after": ["orders.*"]}]"#).unwrap();
    go(&["agents", "set", "helper", "--workflow", &steps, "--clear", "teams"]).expect(0);
    let table = go(&["agents", "show", "helper"]).expect(0);
    assert!(table.out.contains("stripe.create_refund, after orders.*"), "{}", table.out);
    assert_eq!(shown("helper")["teams"], json!([]));
    let wrong = go(&["agents", "set", "helper", "--tool", "a*b"]).expect(6);
    assert!(wrong.err.contains("agent.invalid") && wrong.err.contains("/tools/0"), "{}", wrong.err);
    go(&["agents", "pause", "helper"]).expect(0);
    assert_eq!(shown("helper")["state"], json!("paused"));
    go(&["agents", "resume", "helper"]).expect(0);
    go(&["agents", "retire", "helper", "--no-input"]).expect(1);
    go(&["agents", "retire", "helper", "--confirm", "helper"]).expect(0);
    let back = go(&["agents", "resume", "helper"]).expect(6);
    assert!(back.err.contains("agent.retired"), "{}", back.err);
}

#[test]
fn a_review_is_made_shown_exported_compared_and_signed_by_two() {
    let (site, server) = Site::new();
    let go = |arguments: &[&str]| access(&site, &server, arguments);
    let none = go(&["review", "show"]).expect(1);
    assert!(none.err.contains("access review make"), "{}", none.err);
    site.agent(&server).post("intents", &intents::lookup("1")).expect(200);
    let mut keys = Vec::new();
    for name in ["ann", "bob"] {
        go(&["members", "set", name, "--email", &format!("{name}@acme.example")]).expect(0);
        go(&["members", "roles", name, "--add", "auditor@*"]).expect(0);
        let key = format!("{name}-key");
        let made = go(&[
            "credentials",
            "create",
            &key,
            "--member",
            name,
            "--scope",
            "review:sign",
            "--scope",
            "access:read",
            "--whole",
        ]);
        keys.push(made.expect(0).out.trim().to_owned());
    }
    let made = go(&["review", "make"]).expect(0);
    assert!(made.out.contains("findings") && made.err.contains("sign"), "{made:?}");
    let shown = go(&["review", "show"]).expect(0);
    let at = |text: &str| shown.out.find(text).unwrap_or_else(|| panic!("{text}: {}", shown.out));
    assert!(at("HIGH") < at("MEDIUM") && at("MEDIUM") < at("LOW"), "the worst first");
    assert!(shown.out.contains("signed by nobody yet"));
    let report = site.data(&server, &["access", "review", "show"]);
    let review = report["review"].as_str().unwrap().to_owned();
    for (ending, begins) in [("html", "<!doctype html>"), ("csv", "kind,subject"), ("json", "{\"agents\"")] {
        let path = format!("{}/review.{ending}", site.path());
        go(&["review", "show", &review, "--export", &path]).expect(0);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(begins), "{ending}");
    }
    go(&["review", "show", "--export", "review.pdf"]).expect(1);
    let sign =
        |key: &str, more: &[&str]| with(&server, key, &[&["review", "sign", "--reason", "looked"], more].concat());
    sign(&keys[0], &["--no-input"]).expect(1);
    let other = format!("sha256:{}", "0".repeat(64));
    sign(&keys[0], &["--confirm", &review, "--digest", &other]).expect(6);
    let first = sign(&keys[0], &["--confirm", &review]).expect(0);
    assert!(first.out.contains("one more person signs"), "{}", first.out);
    assert!(sign(&keys[0], &["--confirm", &review]).expect(6).err.contains("review.again"));
    assert!(sign(&keys[1], &["--confirm", &review]).expect(0).out.contains("two people have signed"));
    let list = go(&["review", "list"]).expect(0);
    assert!(list.out.contains("ann bob"), "{}", list.out);
    go(&["review", "changes"]).expect(1);
    go(&["members", "set", "cid"]).expect(0);
    go(&["review", "make"]).expect(0);
    let changes = go(&["review", "changes"]).expect(0);
    assert!(changes.out.contains("added") && changes.out.contains("cid"), "{}", changes.out);
    assert_eq!(go(&["roles"]).expect(0).out.lines().next().map(str::trim), Some("ROLE           MAY"));
}
