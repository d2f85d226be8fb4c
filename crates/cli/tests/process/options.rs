//! What the options promise: paging, profiles, dry runs, confirmation, scopes, keys, files that are whole or not there.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ISSUER, Ran, Server, Site, TENANT, demo_pack, intended, intents, run, run_with};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A server that gives one answer after the other, each in parts with pauses, and closes.
fn answers(answers: Vec<Vec<(&'static str, u64)>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap();
            asked.push(String::from_utf8_lossy(&head[..n]).lines().next().unwrap_or_default().to_owned());
            for (part, pause) in answer {
                // The other side may have given up.
                let _ = stream.write_all(part.as_bytes());
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
        asked
    });
    (url, asked)
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";

#[test]
fn a_list_goes_on_over_empty_pages_with_whatever_the_cursor_is() {
    let (url, asked) = answers(vec![
        vec![(JSON, 0), (r#"{"entries": [], "cursor": "a/b="}"#, 0)],
        vec![(JSON, 0), (r#"{"entries": [{"index": 7}], "cursor": 7}"#, 0)],
        vec![(JSON, 0), (r#"{"entries": [{"index": 3}]}"#, 0)],
    ]);
    let ran = run(&mut intended(&["audit", "query", "--server", &url, "-o", "json"])).expect(0);
    assert_eq!(ran.json(), json!([{"index": 7}, {"index": 3}]));
    assert!(ran.err.is_empty(), "the ledger's begin was reached: {}", ran.err);
    let asked = asked.join().unwrap();
    assert!(asked[1].contains("limit=20&cursor=a%2Fb%3D") && asked[2].contains("limit=19&cursor=7"), "{asked:?}");
    // One that does not move would be followed for ever.
    let page = r#"{"entries": [], "cursor": "x"}"#;
    let (url, _) = answers(vec![vec![(JSON, 0), (page, 0)], vec![(JSON, 0), (page, 0)]]);
    let ran = run(&mut intended(&["audit", "query", "--server", &url])).expect(5);
    assert!(ran.err.contains("same cursor"), "{}", ran.err);
}

#[test]
fn a_ledger_longer_than_a_page_is_listed_whole() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    let count = 520;
    std::thread::scope(|scope| {
        for part in 0..4 {
            let agent = &agent;
            scope.spawn(move || {
                for n in 0..count / 4 {
                    agent.post("intents", &intents::lookup(&format!("{part}-{n}"))).expect(200);
                }
            });
        }
    });
    agent.post("intents", &intents::delete()).expect(403);
    let size = site.owner(&server).get("audit/checkpoint").expect(200)["size"].as_u64().unwrap();
    let ran = site.cli(&server, &["audit", "query", "--limit", "5000", "-o", "json"]).expect(0);
    let indexes: Vec<u64> = ran.json().as_array().unwrap().iter().map(|e| e["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, (0..size).rev().collect::<Vec<_>>());
    assert!(ran.err.is_empty(), "{}", ran.err);
    // Cut off it says so, and goes on where it stopped.
    let ran = site.cli(&server, &["intent", "list", "--limit", "510", "-o", "json"]).expect(0);
    let cursor = ran.err.split("--cursor ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let rest = site.cli(&server, &["intent", "list", "--limit", "510", "--cursor", &cursor, "-o", "json"]).expect(0);
    assert!(rest.err.is_empty(), "{}", rest.err);
    let (first, rest) = (ran.json(), rest.json());
    let ids: BTreeSet<&str> =
        [&first, &rest].iter().flat_map(|l| l.as_array().unwrap()).map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!((first.as_array().unwrap().len(), ids.len()), (510, count + 1));
    let quiet = site.cli(&server, &["intent", "list", "--limit", "1", "--quiet"]).expect(0);
    assert!(quiet.err.is_empty(), "{}", quiet.err);
    // Filters, and times as people write them.
    let rows = |more: &[&str]| {
        let list = site.data(&server, &[&["audit", "query", "--limit", "5000"], more].concat());
        list.as_array().unwrap().len()
    };
    assert_eq!(rows(&["--action", "crm.delete_customer"]), 1);
    assert_eq!(rows(&["--kind", "decision", "--since", "1h"]), count + 1);
    assert_eq!(rows(&["--since", "2999-01-01"]), 0);
    assert_eq!(rows(&["--until", "2020-01-01T00:00:00Z"]), 0);
    site.cli(&server, &["audit", "query", "--since", "yesterday"]).expect(1);
}

#[test]
fn an_export_takes_its_time_and_what_was_there_stays_until_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    let export = |url: &str, more: &[&str]| {
        run(intended(&["audit", "export", path.to_str().unwrap(), "--server", url, "--timeout", "1"]).args(more))
    };
    let left = || std::fs::read_dir(dir.path()).unwrap().count();
    // Longer than --timeout in all, but never silent for so long.
    let line = ("{\"slow\":true}\n", 400);
    let (url, _) = answers(vec![vec![(STREAM, 400), line, line, line, line, ("{\"end\":true,\"size\":4}\n", 0)]]);
    export(&url, &[]).expect(0);
    let whole = std::fs::read_to_string(&path).unwrap();
    assert!(whole.ends_with("{\"end\":true,\"size\":4}\n") && whole.lines().count() == 5, "{whole}");
    assert_eq!(mode(&path), 0o600);
    // Broken off, silent, refused: the one before is still there, and nothing else is.
    let (url, _) = answers(vec![vec![(STREAM, 0), ("{\"half\":true}\n", 0)]]);
    assert!(export(&url, &[]).expect(5).err.contains("broke off"));
    let (url, _) = answers(vec![vec![(STREAM, 0), ("{\"half\":true}\n", 4_000)]]);
    assert!(export(&url, &[]).expect(5).err.contains("broke off"));
    export("http://127.0.0.1:1", &[]).expect(5);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    export("http://127.0.0.1:1", &["--dry-run"]).expect(0);
    assert_eq!((std::fs::read_to_string(&path).unwrap(), left()), (whole, 1));
    std::fs::remove_file(&path).unwrap();
    assert!(export("http://127.0.0.1:1", &["--print-curl"]).expect(0).out.starts_with("curl"));
    assert_eq!(left(), 0, "a printed request makes no file");
}

#[test]
fn a_flag_stands_before_a_variable_before_a_profile_before_a_default() {
    let site = Site::bare();
    let server = site.start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("intended");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("owner.key"), &site.owner).unwrap();
    let url = server.url();
    let text = format!(
        "[profiles.acme]\nserver = {url:?}\ntenant = \"acme\"\nkey_file = \"owner.key\"\n[profiles.other]\ntenant = \"other\"\nenvironment = \"staging\"\n"
    );
    std::fs::write(config.join("config.toml"), text).unwrap();
    let ran = |arguments: &[&str], variables: &[(&str, &str)]| {
        run(intended(arguments).env("XDG_CONFIG_HOME", home.path()).envs(variables.iter().copied()))
    };
    ran(&["policy", "list", "--profile", "acme"], &[]).expect(0);
    ran(&["policy", "list"], &[("INTENDED_PROFILE", "acme")]).expect(0);
    // A variable before the profile, a flag before both: who is asked shows in the printed request.
    let curl = |arguments: &[&str], variables: &[(&str, &str)]| {
        ran(&[&["intent", "list", "--print-curl"], arguments].concat(), variables).expect(0).out
    };
    assert!(curl(&[], &[]).contains("http://127.0.0.1:7070/v1/tenants/demo/"));
    let other = curl(&["--profile", "other"], &[]);
    assert!(other.contains(":7070/v1/tenants/other/") && other.contains("environment=staging"), "{other}");
    let other = curl(&["--profile", "other"], &[("INTENDED_TENANT", "var"), ("INTENDED_ENVIRONMENT", "e1")]);
    assert!(other.contains("/tenants/var/") && other.contains("environment=e1"), "{other}");
    let set = [("INTENDED_TENANT", "var"), ("INTENDED_ENVIRONMENT", "e1")];
    let other = curl(&["--profile", "other", "--tenant", "flag", "-e", "e2"], &set);
    assert!(other.contains("/tenants/flag/") && other.contains("environment=e2"), "{other}");
    // A key in a variable stands before a profile's file.
    let ran_with = ran(&["policy", "list", "--profile", "acme"], &[("INTENDED_API_KEY", "nonsense")]).expect(4);
    assert!(ran_with.err.contains("credential.malformed"), "{}", ran_with.err);
    let unknown = ran(&["policy", "list", "--profile", "nope"], &[]).expect(1);
    assert!(unknown.err.contains("nope") && unknown.err.contains("acme, other"), "{}", unknown.err);
    // A key is never an argument; what runs a server does not read what stands in somebody's home.
    ran(&["policy", "list", "--api-key", &site.owner], &[]).expect(1);
    std::fs::write(config.join("config.toml"), "[profile.acme]\n").unwrap();
    assert!(ran(&["policy", "list"], &[]).expect(1).err.contains("config.toml"));
    ran(&["completions", "bash"], &[]).expect(0);
}

#[test]
fn a_dry_run_says_what_would_be_sent_and_changes_nothing() {
    let (site, server) = Site::new();
    let read = site.dir.with_file_name("read.json");
    std::fs::write(&read, intents::lookup("1").to_string()).unwrap();
    let (read, pack) = (read.to_str().unwrap(), demo_pack());
    let size = || site.owner(&server).get("audit/checkpoint").expect(200)["size"].clone();
    let before = size();
    for (arguments, path) in [
        (&["intent", "submit", read][..], "/intents"),
        (&["token", "test", read], "/intents"),
        (&["policy", "deploy", pack.to_str().unwrap(), "-e", "staging"], "/deployments"),
        (&["emergency", "halt", "--reason", "drill"], "/emergency/halts"),
        (&["emergency", "resume", "halt-1", "--reason", "drill"], "/emergency/halts/halt-1/resume"),
    ] {
        let said = site.cli(&server, &[arguments, &["--dry-run", "-o", "json"]].concat()).expect(0).json();
        assert_eq!((&said["dry_run"], &said["method"]), (&true.into(), &"POST".into()), "{said}");
        assert!(said["url"].as_str().unwrap().ends_with(path), "{said}");
    }
    assert_eq!(size(), before);
    let fresh = site.dir.with_file_name("fresh");
    run(&mut intended(&["init", "--data-dir", fresh.to_str().unwrap(), "--dry-run"])).expect(0);
    assert!(!fresh.exists());
}

#[test]
fn what_cannot_be_asked_is_refused_after_showing_what_would_stop() {
    let (site, server) = Site::new();
    for more in [&[][..], &["--no-input"], &["--yes"]] {
        let halt = [&["emergency", "halt", "-e", "production", "--reason", "drill"], more].concat();
        let ran = site.cli(&server, &halt).expect(1);
        assert!(ran.out.is_empty() && ran.err.contains("--confirm production"), "{ran:?}");
        assert!(ran.err.contains("2 active agents: release-agent, support-agent"), "{}", ran.err);
        assert!(ran.err.contains("environment production") && !ran.err.contains("environment staging"), "{}", ran.err);
    }
    site.cli(&server, &["emergency", "status"]).expect(0);
    let halted =
        site.data(&server, &["emergency", "halt", "-e", "staging", "--reason", "drill", "--confirm", "staging"]);
    let name = halted["halt"].as_str().unwrap();
    let ran = site.cli(&server, &["emergency", "resume", name, "--reason", "over"]).expect(1);
    assert!(ran.err.contains("because: drill") && ran.err.contains("environment staging"), "{}", ran.err);
    site.cli(&server, &["emergency", "status"]).expect(9);
    site.cli(&server, &["emergency", "resume", name, "--reason", "over", "--confirm", name]).expect(0);
    // A token is not written over what is there unless that is said, and before it is sent.
    let token = site.dir.with_file_name("token.jwt");
    std::fs::write(&token, "mine").unwrap();
    let submit = |more: &[&str]| {
        let arguments = [&["intent", "submit", "-", "--token-file", token.to_str().unwrap()], more].concat();
        run_with(&mut site.command(&server, &arguments), Some(&intents::lookup("1").to_string()))
    };
    let ran = submit(&[]).expect(1);
    assert!(ran.err.contains("token.jwt") && ran.err.contains("--yes"), "{}", ran.err);
    assert_eq!(
        (site.data(&server, &["intent", "list"]), std::fs::read_to_string(&token).unwrap()),
        (json!([]), "mine".into())
    );
    submit(&["--yes"]).expect(0);
    assert!(std::fs::read_to_string(&token).unwrap().split('.').count() == 3 && mode(&token) == 0o600);
}

#[test]
fn a_credential_with_the_scopes_that_a_command_names_can_run_it() {
    let (site, server) = Site::new();
    let owner = site.owner(&server);
    let id = site.agent(&server).post("intents", &intents::lookup("1")).expect(200)["id"].as_str().unwrap().to_owned();
    let pack = demo_pack();
    let digest = owner.get("deployments").expect(200)[1]["digest"].as_str().unwrap().to_owned();
    let opened = owner.post("incidents", &json!({"title": "drill"})).expect(201);
    let incident = opened["incident"].as_str().unwrap();
    let file = site.dir.join("incident.jsonl");
    let commands: [&[&str]; 29] = [
        &["status"],
        &["intent", "list"],
        &["intent", "show", &id],
        &["intent", "explain", &id],
        &["intent", "replay", &id],
        &["token", "keys"],
        &["token", "revocations", "-e", "production"],
        &["audit", "query"],
        &["audit", "proof", "1"],
        &["audit", "verify"],
        &["health", "check"],
        &["emergency", "status"],
        &["policy", "list"],
        &["policy", "show", &digest],
        &["policy", "explain", &id],
        &["policy", "review"],
        &["policy", "simulate", &digest, "-e", "staging"],
        &["policy", "drift", pack.to_str().unwrap(), "-e", "staging"],
        &["incident", "list"],
        &["incident", "show", incident],
        &["incident", "note", incident, "text"],
        &["incident", "timeline", incident],
        &["incident", "export", incident, file.to_str().unwrap()],
        &["audit", "tail", "--after", "0", "--count", "1"],
        &["siem", "status"],
        &["audit", "checkpoint"],
        &["keys", "list"],
        &["intent", "replay", &id, "--at", "12"],
        &["policy", "deploy", pack.to_str().unwrap(), "-e", "staging"],
    ];
    for (n, command) in commands.into_iter().enumerate() {
        // Also without the rest of the command.
        let words: Vec<&str> = command.iter().copied().take_while(|w| !w.starts_with('-')).take(2).collect();
        let need = run(intended(&words).args(["--required-scope", "-o", "json"])).expect(0).json();
        let scopes: Vec<&str> = need["scopes"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        let key = |name: &str, scopes: &[&str]| {
            let body = json!({"credential": format!("{name}-{n}"), "scopes": scopes, "whole": true});
            owner.post("credentials", &body).expect(201)["key"].as_str().unwrap().to_owned()
        };
        let ran = |key: &str| {
            let mut command = intended(command);
            run(command.args(["--server", &server.url(), "--tenant", TENANT]).env("INTENDED_API_KEY", key))
        };
        // The right ones suffice, and each of them is needed.
        let wider = if scopes.is_empty() { vec!["intent:read"] } else { scopes.clone() };
        ran(&key("right", &wider)).expect(0);
        for (m, scope) in scopes.iter().enumerate() {
            let mut fewer: Vec<&str> = scopes.iter().copied().filter(|s| s != scope).collect();
            fewer.push("key:write");
            ran(&key(&format!("fewer-{m}"), &fewer)).expect(4);
        }
    }
    assert!(run(&mut intended(&["audit", "--required-scope"])).expect(0).out.lines().count() == 6);
}

#[test]
fn an_intent_reaches_the_server_as_it_was_written() {
    let (site, server) = Site::new();
    let submit = |text: &str, more: &[&str], variable: &str| {
        let mut command = site.command(&server, &[&["intent", "submit", "-", "-o", "json"], more].concat());
        run_with(command.env("INTENDED_ENVIRONMENT", variable), Some(text))
    };
    let open = r#"{"subject": {"type": "agent", "id": "support-agent"}, "action": {"name": "stripe.create_refund", "properties": {"charge": "ch_1", "amount": 4000, "amount": 40}}, "resource": {"type": "charge", "id": "ch_1"}}"#;
    for (more, variable) in [(&["-e", "production"][..], ""), (&[], "production")] {
        let ran = submit(open, more, variable).expect(6);
        assert!(ran.err.contains("json.duplicate_key") && ran.err.contains("amount"), "{}", ran.err);
        let inexact = open.replace("\"amount\": 4000, \"amount\": 40", "\"amount\": 9007199254740993");
        let ran = submit(&inexact, more, variable).expect(6);
        assert!(ran.err.contains("json.number_range"), "{}", ran.err);
        let good = open.replace("\"amount\": 4000, ", "");
        assert_eq!(submit(&good, more, variable).expect(0).json()["environment"], "production");
    }
    // The file's own environment stands before a variable; a flag that says another is an error.
    let own = intents::within(intents::lookup("1"), "staging").to_string();
    assert_eq!(submit(&own, &[], "production").expect(0).json()["environment"], "staging");
    submit(&own, &["-e", "staging"], "production").expect(0);
    let ran = submit(&own, &["-e", "production"], "").expect(1);
    assert!(ran.err.contains("staging") && ran.err.contains("production"), "{}", ran.err);
    // `token test` goes by the same.
    let path = site.dir.with_file_name("open.json");
    std::fs::write(&path, open.replace("\"amount\": 4000, ", "")).unwrap();
    let path = path.to_str().unwrap();
    site.cli(&server, &["token", "test", path, "-e", "production"]).expect(0);
    site.cli(&server, &["token", "test", path]).expect(6);
}

#[test]
fn offline_verification_checks_what_it_is_told_and_names_what_it_did_not() {
    let (site, server) = Site::new();
    let file = |name: &str, text: &str| {
        let path = site.dir.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let decision = site.agent(&server).post("intents", &intents::lookup("1")).expect(200);
    let token = file("token.jwt", decision["token"].as_str().unwrap());
    let keys = file("keys.json", &site.cli(&server, &["token", "keys"]).expect(0).out);
    let list = || site.cli(&server, &["token", "revocations", "-e", "production"]).expect(0).out;
    let before = file("before.jwt", &list());
    let verify = |more: &[&str]| {
        let hash = decision["intent_hash"].as_str().unwrap();
        let fixed = ["token", "verify", &token, "--intent-hash", hash, "-o", "json"];
        run(intended(&fixed)
            .args(more)
            .args(["--tenant", TENANT, "--server", &server.url()])
            .env("INTENDED_API_KEY", &site.owner))
    };
    let has = |verdict: &Value, list: &str, what: &str| verdict[list].as_array().unwrap().iter().any(|w| w == what);
    let bare = verify(&["--jwks", &keys]).expect(0).json();
    for what in ["environment", "issuer", "revocations", "single_use", "halts"] {
        assert!(has(&bare, "not_checked", what), "{what}: {bare}");
    }
    let full = ["--jwks", &keys, "--revocations", &before, "-e", "production", "--issuer", ISSUER];
    let full = verify(&full).expect(0).json();
    for what in ["environment", "issuer", "revocations"] {
        assert!(has(&full, "checked", what) && !has(&full, "not_checked", what), "{what}: {full}");
    }
    let refused = |more: &[&str]| verify(more).expect(8).json()["refusal"].as_str().unwrap().to_owned();
    assert_eq!(refused(&["--jwks", &keys, "-e", "staging"]), "token.environment");
    assert_eq!(refused(&["--jwks", &keys, "--issuer", "https://other"]), "token.issuer");
    assert_eq!(refused(&["-e", "production", "--issuer", "https://other", "--consume"]), "token.issuer");
    assert_eq!(refused(&["--jwks", &keys, "--revocations", &token]), "token.type");
    // Revoked: known from the list, fetched or in a file; without one it is said that nobody looked.
    assert!(has(&verify(&["--offline"]).expect(0).json(), "checked", "revocations"));
    let payload = decision["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    let jti = serde_json::from_slice::<Value>(&bytes).unwrap()["jti"].as_str().unwrap().to_owned();
    let body = json!({"intent": decision["id"], "reason": "leaked"});
    site.owner(&server).post(&format!("tokens/{jti}/revoke"), &body).expect(200);
    assert_eq!(refused(&["--offline"]), "token.revoked");
    let after = file("after.jwt", &list());
    assert_eq!(refused(&["--jwks", &keys, "--revocations", &after]), "token.revoked");
    verify(&["--jwks", &keys]).expect(0);
    verify(&["--revocations", &after]).expect(1);
}

#[test]
fn the_root_key_comes_from_a_file_a_variable_or_a_command() {
    let site = Site::bare();
    let config = site.dir.join("intended.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let key = std::fs::read_to_string(site.dir.join("root.key")).unwrap().trim().to_owned();
    std::fs::rename(site.dir.join("root.key"), site.dir.with_file_name("kept.key")).unwrap();
    let place = |lines: &str| {
        let rest = text.lines().filter(|l| !l.starts_with("root_key")).collect::<Vec<_>>().join("\n");
        std::fs::write(&config, format!("{lines}\n{rest}\n")).unwrap();
    };
    let serve = |variable: &str| {
        let mut command = intended(&["serve", "--data-dir", site.path(), "--listen", "127.0.0.1:0"]);
        Server::spawn(command.env("ACME_ROOT", variable))
    };
    let starts = |variable: &str| serve(variable).unwrap_or_else(|ran| panic!("{ran:?}")).stop().expect(0);
    let refused = |variable: &str, word: &str| -> Ran {
        let ran = serve(variable).err().unwrap().expect(1);
        assert!(ran.err.contains(word) && !ran.err.contains(&key), "{word}: {}", ran.err);
        ran
    };
    place("root_key_file = \"../kept.key\"");
    starts("");
    place("root_key_env = \"ACME_ROOT\"");
    starts(&key);
    refused("", "ACME_ROOT is not set");
    refused(&key[1..], "64 hex digits");
    place("root_key_command = [\"cat\", \"/no/such/key\"]");
    refused("", "ended with");
    place("root_key_command = [\"/no/such/program\"]");
    refused("", "/no/such/program");
    place("root_key_command = []");
    refused("", "no program");
    place("root_key_command = [\"echo\", \"nothing\"]");
    refused("", "64 hex digits");
    let kept = site.dir.with_file_name("kept.key");
    place(&format!("root_key_command = [\"cat\", {:?}]", kept.to_str().unwrap()));
    starts("");
    place("");
    refused("", "exactly one");
    place("root_key_env = \"ACME_ROOT\"\nroot_key_file = \"../kept.key\"");
    refused(&key, "exactly one");
}

#[test]
fn a_set_up_is_private_and_names_an_issuer_that_can_be_reached() {
    let held = tempfile::tempdir().unwrap();
    let init = |name: &str, more: &[&str]| {
        let dir = held.path().join(name);
        run(intended(&["init", "--tenant", TENANT, "--data-dir", dir.to_str().unwrap()]).args(more))
    };
    for more in [
        &["--listen", "nowhere"][..],
        &["--listen", "0.0.0.0:7070"],
        &["--listen", "[::]:7070"],
        &["--listen", "127.0.0.1:0"],
        &["--listen", "0.0.0.0:7070", "--issuer", "acme"],
    ] {
        let ran = init("refused", more).expect(1);
        assert!(ran.err.contains("hint:") && !held.path().join("refused").exists(), "{more:?}: {ran:?}");
    }
    let open = ["--listen", "0.0.0.0:0", "--issuer", "https://acme.example/", "-o", "json"];
    let ran = init("open", &open).expect(0);
    let report = ran.json();
    assert_eq!((&report["tenant"], &report["issuer"]), (&TENANT.into(), &"https://acme.example".into()));
    assert!(report["operator_key"].as_str().unwrap().starts_with("int_ops_"), "{report}");
    assert!(report["key"].as_str().unwrap().starts_with("int_live_") && report["credential"].is_string(), "{report}");
    assert_eq!(mode(&held.path().join("open")), 0o700);
    let key = held.path().join("owner.key");
    let operator = held.path().join("operator.key");
    let files = ["--owner-key-file", key.to_str().unwrap(), "--operator-key-file", operator.to_str().unwrap()];
    let ran = init("kept", &[&files[..], &["--quiet"]].concat()).expect(0);
    assert!(ran.out.is_empty() && ran.err.is_empty(), "{ran:?}");
    let secret = std::fs::read_to_string(&operator).unwrap();
    assert!(secret.starts_with("int_ops_") && mode(&operator) == 0o600);
    // Of the operator's only what tells it from others is kept.
    let config = std::fs::read_to_string(held.path().join("kept/intended.toml")).unwrap();
    assert!(config.contains("operator_key_sha256 = \"sha256:") && !config.contains(secret.trim()), "{config}");
    assert!(std::fs::read_to_string(&key).unwrap().starts_with("int_live_") && mode(&key) == 0o600);
    init("again", &["--owner-key-file", key.to_str().unwrap()]).expect(1);
    // Others may reach it: said, unless something in front ends TLS.
    let warned = |name: &str| {
        let dir = held.path().join(name);
        let server =
            Server::spawn(&mut intended(&["serve", "--data-dir", dir.to_str().unwrap(), "--listen", "0.0.0.0:0"]));
        server.unwrap().stop().expect(0).err.contains("TLS")
    };
    assert!(warned("kept") && !warned("open"));
    // A demo tenant does not belong in it.
    let dir = held.path().join("kept");
    let ran = run(&mut intended(&["dev", "--once", "--listen", "127.0.0.1:0", "--data-dir", dir.to_str().unwrap()]));
    assert!(ran.expect(1).err.contains("intended serve"));
    let report = run(&mut intended(&["verify", dir.to_str().unwrap(), "-o", "jsonl"])).expect(0);
    assert_eq!(report.out.lines().count(), 1, "one tenant: {}", report.out);
}

#[test]
fn a_proof_is_held_against_the_key_that_the_user_knows() {
    let site = Site::bare();
    let server = site.start().unwrap();
    let file = |name: &str, text: &str| {
        let path = site.dir.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (own, other) = (file("own.vkey", &site.vkey), file("other.vkey", &Site::bare().vkey));
    for command in [&["audit", "proof", "1"][..], &["audit", "verify"]] {
        assert!(site.cli(&server, command).expect(0).err.contains("the server's own word"));
        assert!(!site.cli(&server, &[command, &["--vkey", &own]].concat()).expect(0).err.contains("own word"));
        site.cli(&server, &[command, &["--vkey", &other]].concat()).expect(8);
    }
}

#[test]
fn man_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut intended(&["man", dir.path().to_str().unwrap()])).expect(0);
    let page = std::fs::read_to_string(dir.path().join("intended-emergency-halt.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("confirm"), "{page}");
    assert!(dir.path().join("intended.1").exists());
}
