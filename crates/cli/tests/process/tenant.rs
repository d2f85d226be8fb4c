//! `tenant` and `environment`, and what a real connection says of where a request comes from.

use serde_json::json;

use crate::support::{Http, ISSUER, Ran, Server, Site, intended, run};

#[test]
fn who_operates_the_server_makes_suspends_and_reinstates_a_tenant() {
    let held = tempfile::tempdir().unwrap();
    let [dir, operator, owner] =
        ["data", "operator.key", "globex.key"].map(|n| held.path().join(n).display().to_string());
    run(intended(&["init", "--tenant", "acme", "--data-dir", &dir, "--issuer", ISSUER])
        .args(["--operator-key-file", &operator]))
    .expect(0);
    let server = Server::spawn(&mut intended(&["serve", "--data-dir", &dir, "--listen", "127.0.0.1:0"])).unwrap();
    let url = server.url();
    let with = |key: &str, tenant: &str, arguments: &[&str]| {
        run(intended(&["--server", &url, "--tenant", tenant, "--key-file", key, "-o", "json"]).args(arguments))
    };
    let cli = |arguments: &[&str]| with(&operator, "acme", arguments);
    let globex = |arguments: &[&str]| with(&owner, "globex", arguments);
    let names = |ran: Ran| {
        let rows = ran.expect(0).json();
        rows.as_array().unwrap().iter().map(|r| r["tenant"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let made = cli(&["tenant", "create", "globex", "--owner-key-file", &owner]).expect(0).json();
    assert_eq!((&made["tenant"], made.get("key")), (&json!("globex"), None), "{made}");
    cli(&["tenant", "create", "globex"]).expect(6);
    assert_eq!(names(cli(&["tenant", "list"])), ["acme", "globex"]);
    assert_eq!(names(globex(&["tenant", "list"])), ["globex"]);
    // Its name has to be said.
    cli(&["tenant", "suspend", "globex", "--reason", "unpaid"]).expect(1);
    cli(&["tenant", "suspend", "globex", "--reason", "unpaid", "--confirm", "globex"]).expect(0);
    let refused = globex(&["environment", "list"]);
    assert!(refused.code == 4 && refused.err.contains("suspended"), "{refused:?}");
    cli(&["tenant", "reinstate", "globex", "--reason", "paid"]).expect(0);
    assert_eq!(globex(&["environment", "list"]).expect(0).json().as_array().unwrap().len(), 3);
    globex(&["environment", "suspend", "staging", "--reason", "rebuilt", "--confirm", "staging"]).expect(0);
    let rows = globex(&["environment", "list"]).expect(0).json();
    assert_eq!(rows[2], json!({"environment": "staging", "tier": "staging", "suspended": "rebuilt"}));
    globex(&["environment", "reinstate", "staging", "--reason", "done"]).expect(0);
    // Nobody else's key is the operator's.
    globex(&["tenant", "create", "mine"]).expect(4);
}

/// The address is the connection's: nobody hands one in.
#[test]
fn where_a_request_comes_from_is_the_connections_to_say() {
    let site = Site::bare();
    let server = site.start().unwrap();
    let owner = site.owner(&server);
    for (name, network, status) in [("near", "127.0.0.0/8", 200), ("far", "10.0.0.0/8", 403)] {
        let body = json!({
            "credential": name, "environments": ["production"], "scopes": ["intent:read"], "networks": [network],
        });
        let key = owner.post("credentials", &body).expect(201)["key"].as_str().unwrap().to_owned();
        let caller = Http { key, ..owner.clone() };
        caller.get("intents").expect(status);
        // A header of the caller's own makes no difference.
        for forwarded in ["10.0.0.1", "127.0.0.1"] {
            caller.send("GET", "intents", None, &[("x-forwarded-for", forwarded)]).unwrap().expect(status);
        }
    }
}
