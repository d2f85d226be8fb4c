//! `approval`: what a person sees and says at the command line.

use serde_json::{Value, json};

use crate::support::{Ran, Server, Site, TENANT, intended, intents, run};

/// A lead with a key of their own.
fn lead(site: &Site, server: &Server) -> String {
    let owner = site.owner(server);
    let grants = json!([{"role": "approver", "whole": true}]);
    owner.put("members/lea", &json!({"groups": ["support-leads"], "grants": grants, "active": true})).expect(200);
    let scopes = ["approval:read", "approval:decide", "intent:read"];
    let body = json!({"credential": "lea-key", "member": "lea", "scopes": scopes, "whole": true});
    owner.post("credentials", &body).expect(201)["key"].as_str().unwrap().to_owned()
}

#[track_caller]
fn approval(server: &Server, key: &str, arguments: &[&str]) -> Ran {
    let mut command = intended(&[&["approval"], arguments].concat());
    run(command.args(["--server", &server.url(), "--tenant", TENANT]).env("INTENDED_API_KEY", key))
}

fn refund(memo: &str) -> Value {
    let mut intent = intents::refund(400);
    intent["action"]["properties"]["memo"] = memo.into();
    intent["goal"] = "calm the customer".into();
    intent
}

fn ask(site: &Site, server: &Server, memo: &str) -> String {
    let reply = site.agent(server).post("intents", &refund(memo)).expect(202);
    reply["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_request_is_read_approved_and_denied_at_the_command_line() {
    let (site, server) = Site::new();
    let key = lead(&site, &server);
    let nothing = approval(&server, &key, &["list"]).expect(0);
    assert!(nothing.out.is_empty() && nothing.err.contains("nothing waits"), "{}", nothing.err);
    assert_eq!(approval(&server, &key, &["list", "-o", "json"]).expect(0).json(), json!([]));
    let memo = format!("p\u{430}y\u{1b}[2J\u{202e}\n{}", "x".repeat(3_000));
    let id = ask(&site, &server, &memo);
    let listed = approval(&server, &key, &["list", "--mine"]).expect(0).out;
    assert!(
        listed.contains(&id) && listed.contains("you may approve") && listed.contains("1 of support-leads"),
        "{listed}"
    );

    let shown = approval(&server, &key, &["show", &id]).expect(3).out;
    eprintln!("{shown}");
    for part in [
        "WAITS  1 of support-leads (nobody yet)",
        "stripe.create_refund on charge/",
        "support-agent",
        "risk       ",
        "denied by itself in 59 min",
        "\\u001b[2J\\u{202e}\\n",
        "\"calm the customer\" (in the agent's words)",
        "BYTES MORE ARE NOT SHOWN: --full shows all",
        "\u{430} U+0430",
        "who can    lea",
        "may approve it; you have approved 0 of 60 this hour",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "nothing acts on the terminal");
    let full = approval(&server, &key, &["show", &id, "--full"]).expect(3).out;
    let letters = |text: &str| text.chars().filter(|c| *c == 'x').count();
    assert!(letters(&full) >= 3_000 && letters(&shown) < 2_100 && !full.contains("NOT SHOWN"));

    // Nobody can be asked here, and nobody has said yes.
    let unsaid = approval(&server, &key, &["approve", &id, "--reason", "ok"]).expect(1);
    assert!(unsaid.err.contains("WAITS") && unsaid.err.contains("--yes"), "{}", unsaid.err);
    // What was read is another than what is there.
    let stale = approval(&server, &key, &["approve", &id, "--reason", "ok", "--etag", "\"0\""]).expect(6);
    assert!(stale.err.contains("has changed"), "{}", stale.err);
    approval(&server, &key, &["ask", &id, "which ticket?"]).expect(0);
    let said = approval(&server, &key, &["approve", &id, "--reason", "spoke to them", "--yes"]).expect(0);
    assert!(said.out.contains("ALLOWED"), "{}", said.out);
    let shown = approval(&server, &key, &["show", &id]).expect(0).out;
    assert!(shown.contains("approved   by lea: spoke to them") && shown.contains("which ticket?"), "{shown}");

    let other = ask(&site, &server, "m");
    let said = approval(&server, &key, &["deny", &other, "--reason", "not this one", "--yes"]).expect(0);
    assert!(said.out.contains("DENIED by lea: not this one"), "{}", said.out);
    let shown = approval(&server, &key, &["show", &other]).expect(2).out;
    assert!(shown.contains("before     ") && shown.contains("allowed (lea)"), "{shown}");
    // Who asks does not approve, nor does a key that is nobody's.
    let third = ask(&site, &server, "m");
    site.cli(&server, &["approval", "approve", &third, "--reason", "mine", "--yes"]).expect(4);
}
