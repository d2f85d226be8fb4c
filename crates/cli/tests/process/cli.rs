//! What scripts rely on: exit codes, streams, formats, and that nothing needs a server that need not.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Http, Ran, Server, Site, demo_pack, intended, intents, run, run_with, until};

const FORMATS: [&str; 4] = ["table", "json", "jsonl", "yaml"];

/// Text for its standard input, and how it ended.
fn submit(site: &Site, server: &Server, intent: &Value, more: &[&str]) -> Ran {
    let arguments = [&["intent", "submit", "-"], more].concat();
    run_with(&mut site.command(server, &arguments), Some(&intent.to_string()))
}

fn written(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir.with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_decision_has_its_exit_code() {
    let (site, server) = Site::new();
    let allowed = submit(&site, &server, &intents::lookup("1"), &[]).expect(0);
    assert!(allowed.out.starts_with("ALLOW  policy.permit") && allowed.out.contains("token (until"), "{}", allowed.out);
    assert!(allowed.err.is_empty(), "{}", allowed.err);
    let denied = submit(&site, &server, &intents::delete(), &["-o", "json"]).expect(2);
    assert_eq!((&denied.json()["decision"], &denied.json()["reason"]), (&"deny".into(), &"policy.forbid".into()));
    assert!(denied.json().get("token").is_none(), "{}", denied.out);
    let waiting = submit(&site, &server, &intents::refund(4_000), &["-o", "json"]).expect(3);
    assert_eq!(waiting.json()["decision"], "escalate");
    // An intent that names no environment is for the one on the command line.
    let mut open = intents::lookup("1");
    open.as_object_mut().unwrap().remove("environment");
    let elsewhere = submit(&site, &server, &open, &["-e", "development", "-o", "json"]).expect(2);
    assert_eq!(
        (&elsewhere.json()["environment"], &elsewhere.json()["reason"]),
        (&"development".into(), &"policy.none".into())
    );
    submit(&site, &server, &"no intent".into(), &[]).expect(6);
    let ran = run_with(&mut site.command(&server, &["intent", "submit", "-"]), Some("{")).expect(6);
    assert!(ran.out.is_empty() && ran.err.contains("json.malformed"), "{ran:?}");
    // Halted: the submission, the status, the list of halts; lifted: as before.
    let halt = ["emergency", "halt", "-e", "production", "--reason", "drill", "--confirm"];
    let wrong = site.cli(&server, &[&halt[..], &["staging"]].concat()).expect(1);
    assert!(wrong.err.contains("--confirm production"), "{}", wrong.err);
    let halted = site.data(&server, &[&halt[..], &["production"]].concat());
    assert_eq!(
        submit(&site, &server, &intents::lookup("1"), &["-o", "json"]).expect(9).json()["reason"],
        "halt.environment"
    );
    submit(&site, &server, &intents::within(intents::lookup("1"), "staging"), &[]).expect(0);
    assert_eq!(site.cli(&server, &["emergency", "status", "-o", "json"]).expect(9).json()[0]["reason"], "drill");
    assert!(site.cli(&server, &["status"]).expect(9).out.contains("HALTED"));
    for format in FORMATS {
        site.cli(&server, &["status", "-o", format]).expect(9);
    }
    let name = halted["halt"].as_str().unwrap();
    // In production two people lift it, and the owner's key is nobody's.
    let ran = site.cli(&server, &["emergency", "resume", name, "--reason", "over", "--confirm", name]).expect(6);
    assert!(ran.err.contains("resume.people"), "{}", ran.err);
    let (ana, ben) = (site.person(&server, "ana"), site.person(&server, "ben"));
    let resume = ["emergency", "resume", name, "--reason", "over", "--confirm", name];
    let waits = site.cli_as(&server, &ana, &resume).expect(3);
    assert!(waits.err.contains("a second person"), "{}", waits.err);
    site.cli_as(&server, &ana, &resume).expect(6);
    site.cli_as(&server, &ben, &resume).expect(0);
    submit(&site, &server, &intents::lookup("1"), &[]).expect(0);
    site.cli(&server, &["emergency", "status"]).expect(0);
}

#[test]
fn every_failure_has_its_exit_code_and_nothing_on_stdout() {
    let (site, server) = Site::new();
    let url = server.url();
    let to = |key: &str, arguments: &[&str]| {
        let mut command = intended(arguments);
        run(command.args(["--server", &url, "--tenant", "acme"]).env("INTENDED_API_KEY", key))
    };
    let silent = |ran: Ran, code: i32, word: &str| {
        let ran = ran.expect(code);
        assert!(ran.out.is_empty() && ran.err.contains(word), "{word}: {ran:?}");
    };
    // 4: no key, no such key, one of too little scope, in the environment and in a file.
    silent(
        run(intended(&["intent", "list", "--tenant", "acme", "--server", &url]).env("X", "")),
        4,
        "credential.missing",
    );
    silent(to("nonsense", &["intent", "list"]), 4, "credential.malformed");
    silent(to(&site.agent, &["audit", "query"]), 4, "credential.scope");
    let keys = written(&site, "agent.key", &format!("{}\n", site.agent));
    silent(
        run(&mut intended(&["audit", "query", "--tenant", "acme", "--server", &url, "--key-file", &keys])),
        4,
        "scope",
    );
    run(&mut intended(&["intent", "list", "--tenant", "acme", "--server", &url, "--key-file", &keys])).expect(0);
    // 1: another tenant is no tenant, an unknown id, a wrong word, no word, a file that is not there.
    let other = ["intent", "list", "--tenant", "other", "--server", &url];
    silent(run(intended(&other).env("INTENDED_API_KEY", &site.owner)), 1, "not_found");
    silent(site.cli(&server, &["intent", "show", "01a20df9-1a40-7450-a950-3dde523e61a9"]), 1, "not_found");
    silent(run(&mut intended(&["intend"])), 1, "Usage");
    silent(run(&mut intended(&[])), 1, "Usage");
    silent(run(&mut intended(&["intent", "submit", "/no/such/file"])), 1, "/no/such/file");
    silent(site.cli(&server, &["policy", "deploy", demo_pack().to_str().unwrap()]), 1, "-e staging");
    silent(run(&mut intended(&["serve", "--data-dir", "/no/such/directory"])), 1, "intended init");
    silent(run(&mut intended(&["init", "--data-dir", site.path(), "--tenant", "acme"])), 1, "intended serve");
    // 6: a pack that is not valid, named to the line.
    let pack = tempfile::tempdir().unwrap();
    std::fs::copy(demo_pack().join("pack.toml"), pack.path().join("pack.toml")).unwrap();
    std::fs::write(
        pack.path().join("a.cedar"),
        "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.nope };",
    )
    .unwrap();
    silent(site.cli(&server, &["policy", "deploy", pack.path().to_str().unwrap(), "-e", "staging"]), 6, "a.cedar");
    // 5: nobody there, and somebody else.
    let gone = server.address;
    server.stop().expect(0);
    let nobody = format!("http://{gone}");
    let ran = run(&mut intended(&["intent", "list", "--server", &nobody]));
    assert!(ran.err.contains(&nobody) && ran.err.contains("intended serve"), "{}", ran.err);
    silent(ran, 5, "cannot be reached");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
            );
        }
    });
    let other = format!("http://{address}");
    silent(run(&mut intended(&["intent", "list", "--server", &other])), 5, "not as this product does");
    silent(run_with(&mut intended(&["intent", "submit", "-", "--server", &other]), Some("{}")), 5, "not as this");
}

/// One value in each format, read by a reader of that format.
fn read(format: &str, text: &str) -> Option<Value> {
    match format {
        "json" => Some(serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))),
        "yaml" => Some(serde_yaml_ng::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))),
        "jsonl" => {
            let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            Some(Value::Array(lines))
        }
        _ => None,
    }
}

#[test]
fn every_format_can_be_read_and_says_the_same() {
    let (site, server) = Site::new();
    let mut odd = intents::lookup("1");
    odd["goal"] = "a: \"b\" # c - 'é' \u{1f600}".into();
    odd["action"]["properties"] = serde_json::json!({"text": "\u{85}\u{9b}31m\n\u{1b}[2J\u{2028}\u{feff}", "no": 1, "a: b": [[], {}, [1, [2.5, null]]], "- x": "", "": {"~": true}});
    let id = submit(&site, &server, &odd, &["-o", "json"]).expect(0).json()["id"].as_str().unwrap().to_owned();
    submit(&site, &server, &intents::delete(), &[]).expect(2);
    let verbs: [(&[&str], bool); 15] = [
        (&["intent", "list"], true),
        (&["intent", "show", &id], false),
        (&["intent", "explain", &id], false),
        (&["intent", "replay", &id], false),
        (&["audit", "query", "--limit", "100"], true),
        (&["audit", "proof", "3"], false),
        (&["audit", "verify"], false),
        (&["policy", "list"], true),
        (&["policy", "review"], true),
        (&["policy", "explain", &id], true),
        (&["policy", "schema"], false),
        (&["emergency", "status"], true),
        (&["health", "check"], false),
        (&["status"], false),
        (&["token", "keys"], false),
    ];
    for (verb, list) in verbs {
        let texts = FORMATS.map(|f| site.cli(&server, &[verb, &["-o", f]].concat()).expect(0).out);
        let values: Vec<Value> = FORMATS.iter().zip(&texts).filter_map(|(f, t)| read(f, t)).collect();
        let [json, jsonl, yaml] = values.try_into().unwrap();
        assert_eq!(json.is_array(), list, "{verb:?}");
        assert!(!texts[0].trim().is_empty() || verb[0] == "emergency", "{verb:?}");
        assert!(texts.iter().all(|t| !t.contains('\u{1b}')), "{verb:?}");
        // What changes from one call to the next is not compared.
        if !["audit", "health", "status"].contains(&verb[0]) {
            assert_eq!(json, yaml, "{verb:?}");
            assert_eq!(if list { json } else { Value::Array(vec![json]) }, jsonl, "{verb:?}");
        }
    }
    // Text from outside cannot act on a terminal.
    let halt = ["emergency", "halt", "--reason", "x\u{1b}[2Jy\u{9b}31m", "--confirm", "acme"];
    site.cli(&server, &halt).expect(0);
    for verb in [&["emergency", "status"][..], &["status"]] {
        let out = site.cli(&server, verb).expect(9).out;
        assert!(out.contains('x') && !out.contains('\u{1b}') && !out.contains('\u{9b}'), "{out:?}");
    }
}

#[test]
fn an_empty_list_is_a_list() {
    let site = Site::bare();
    let server = site.start().unwrap();
    for verb in [
        &["intent", "list"][..],
        &["emergency", "status"],
        &["audit", "query", "--kind", "decision"],
        &["policy", "list"],
        &["policy", "review"],
        &["incident", "list"],
    ] {
        let of = |format: &str| site.cli(&server, &[verb, &["-o", format]].concat()).expect(0).out;
        assert_eq!((of("json").trim(), of("yaml").trim(), of("jsonl").trim()), ("[]", "[]", ""), "{verb:?}");
        assert_eq!(of("table").lines().count(), 1, "the header, and no more: {verb:?}");
    }
}

#[test]
fn every_help_begins_with_examples() {
    // Walked from what each help lists, so that no verb is forgotten.
    let mut waiting = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(verb) = waiting.pop() {
        let words: Vec<&str> = verb.iter().map(String::as_str).chain(["--help"]).collect();
        let ran = run(&mut intended(&words)).expect(0);
        assert!(ran.err.is_empty() && ran.out.starts_with("Examples:\n  intended "), "{verb:?}: {}", ran.out);
        assert!(
            verb.is_empty() || ran.out.contains(&format!("  intended {}", verb.join(" "))),
            "{verb:?}: {}",
            ran.out
        );
        seen += 1;
        let commands = ran.out.split("\nCommands:\n").nth(1).unwrap_or_default();
        for line in commands.lines().take_while(|l| !l.is_empty()) {
            let name = line.trim().split(' ').next().unwrap();
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                assert!(line.trim().contains("  "), "without a word about it: {line}");
                waiting.push(verb.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
    }
    assert!(seen > 30, "{seen}");
    assert!(run(&mut intended(&["--version"])).expect(0).out.starts_with("intended "));
}

#[test]
fn no_color_is_honoured() {
    let wrong = |variables: &[(&str, &str)]| run(intended(&["--wrong"]).envs(variables.iter().copied())).expect(1).err;
    assert!(wrong(&[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "colour can be had");
    assert!(!wrong(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!wrong(&[]).contains('\u{1b}'), "not into a pipe");
}

#[test]
fn a_reader_that_leaves_and_a_disk_that_is_full() {
    let (site, server) = Site::new();
    // Nobody reads: that is the reader's affair, and the decision's exit code stays.
    let mut command = site.command(&server, &["audit", "query", "--limit", "500", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    // Output that is lost is not success.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    if let Ok(full) = full {
        let ended = site.command(&server, &["audit", "query"]).stdout(full).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(err.contains("stdout") && !err.contains("panicked"), "{err}");
    }
}

#[test]
fn a_token_is_inspected_and_verified_without_a_server() {
    let (site, server) = Site::new();
    let token = site.dir.with_file_name("token.jwt");
    let token = token.to_str().unwrap();
    let decision = submit(&site, &server, &intents::lookup("1"), &["-o", "json", "--token-file", token]).expect(0);
    let decision = decision.json();
    assert!(decision.get("token").is_none(), "it is in the file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(token).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let hash = decision["intent_hash"].as_str().unwrap();
    let keys = written(&site, "keys.json", &site.cli(&server, &["token", "keys"]).expect(0).out);
    let online = ["token", "verify", token, "--intent-hash", hash, "-e", "production"];
    assert_eq!(site.data(&server, &online)["single_use"], "available");
    let asking = [&online[..], &["--offline"]].concat();
    assert_eq!(site.data(&server, &asking)["single_use"], "not_checked");
    assert_eq!(site.data(&server, &[&online[..], &["--consume"]].concat())["single_use"], "consumed");
    let again = site.cli(&server, &[&online[..], &["--consume", "-o", "json"]].concat()).expect(8).json();
    assert_eq!((&again["active"], &again["refusal"]), (&false.into(), &"token.consumed".into()));
    server.stop().expect(0);

    // From here on there is no server.
    let claims = run(&mut intended(&["token", "inspect", token, "-o", "json"])).expect(0);
    assert!(claims.err.contains("not verified"), "{}", claims.err);
    let claims = claims.json();
    assert_eq!((&claims["intent_hash"], &claims["txn"]), (&decision["intent_hash"], &decision["id"]));
    assert_eq!(claims["ledger"]["index"], decision["receipt"]["index"]);
    let verify = |token: &str, hash: &str, more: &[&str]| {
        let arguments = ["token", "verify", token, "--intent-hash", hash, "--jwks", &keys, "-o", "json"];
        let tenant = if more.contains(&"--tenant") { &[][..] } else { &["--tenant", "acme"] };
        run(intended(&arguments).args(tenant).args(more))
    };
    let held = verify(token, hash, &[]).expect(0).json();
    assert_eq!((&held["active"], &held["single_use"]), (&true.into(), &"not_checked".into()));
    let other = format!("sha256:{}", "0".repeat(64));
    let text = std::fs::read_to_string(token).unwrap();
    let mut parts: Vec<&str> = text.trim().split('.').collect();
    let signature = parts[2].chars().rev().collect::<String>();
    parts[2] = &signature;
    let forged = written(&site, "forged.jwt", &parts.join("."));
    for (token, hash, more) in [
        (token, other.as_str(), &[][..]),
        (token, hash, &["--audience", "someone-else"]),
        (token, hash, &["--tenant", "other"]),
        (forged.as_str(), hash, &[]),
    ] {
        let refused = verify(token, hash, more).expect(8).json();
        assert!(refused["active"] == false && refused["refusal"].is_string(), "{refused}");
    }
    verify(token, "sha256:short", &[]).expect(1);
    run_with(&mut intended(&["token", "inspect", "-"]), Some("not.a.token")).expect(6);
    verify(token, hash, &["--consume"]).expect(1);
}

#[test]
fn an_export_is_verified_alone() {
    let (site, server) = Site::new();
    let read = written(&site, "read.json", &intents::lookup("1").to_string());
    let ran = site.cli(&server, &["token", "test", &read]).expect(0);
    for part in ["offline", "consume", "replay", "inclusion"] {
        assert!(ran.out.lines().any(|l| l.contains("pass") && l.contains(part)), "{part}: {}", ran.out);
    }
    let delete = written(&site, "delete.json", &intents::delete().to_string());
    site.cli(&server, &["token", "test", &delete]).expect(2);
    let export = written(&site, "ledger.jsonl", "");
    let ran = site.cli(&server, &["audit", "export", &export]).expect(0);
    assert!(ran.out.is_empty() && ran.err.contains("intended verify"), "{ran:?}");
    assert!(site.cli(&server, &["audit", "verify"]).expect(0).out.contains("the ledger holds"));
    server.stop().expect(0);

    let vkey = written(&site, "acme.vkey", &site.vkey);
    let verify = |path: &str, more: &[&str]| run(intended(&["verify", path]).args(more));
    let ran = verify(&export, &["--vkey", &vkey]).expect(0);
    assert!(ran.out.contains("the ledger holds") && ran.out.contains("2 decisions") && ran.err.is_empty(), "{ran:?}");
    let json = verify(&export, &["-o", "json"]).expect(0).json();
    assert_eq!((&json["holds"], &json["consumptions"], &json["key_trusted"]), (&true.into(), &1.into(), &false.into()));
    // Another key, another word, an entry gone, the end gone, no export at all.
    let stranger = written(&site, "other.vkey", &Site::bare().vkey);
    let text = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let changed = text.replacen("\"permit\"", "\"forbid\"", 1).replacen("orders.get_order", "orders.set_order", 1);
    assert_ne!(changed, text);
    let mut gone = lines.clone();
    gone.remove(lines.len() - 3);
    for (what, text, key) in [
        ("another key", text.clone(), &stranger),
        ("a changed entry", changed, &vkey),
        ("a missing entry", gone.join("\n"), &vkey),
        ("cut within an entry", text[..text.len() - 700].to_owned(), &vkey),
        ("cut after an entry", lines[..lines.len() - 4].join("\n"), &vkey),
        ("no trailer", lines[..lines.len() - 1].join("\n"), &vkey),
        ("something after it", format!("{text}{}\n", lines[3]), &vkey),
        ("empty", String::new(), &vkey),
        ("something else", "hello\n".repeat(100), &vkey),
    ] {
        let path = written(&site, "changed.jsonl", &text);
        let report = verify(&path, &["--vkey", key, "-o", "json"]).expect(8).json();
        assert!(report["holds"] == false && !report["what"].as_str().unwrap().is_empty(), "{what}: {report}");
        let ran = verify(&path, &["--vkey", key]);
        assert_eq!(ran.code, 8, "{what}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.contains("panicked"), "{what}: {ran:?}");
    }
    assert_eq!(verify("/no/such/export", &[]).code, 1);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(verify(empty.path().to_str().unwrap(), &[]).code, 8);
}

#[test]
fn a_data_directory_is_verified_while_it_is_served() {
    let (site, server) = Site::new();
    let before = std::fs::read_dir(&site.dir).unwrap().count();
    submit(&site, &server, &intents::lookup("1"), &[]).expect(0);
    let ran = run(&mut intended(&["verify", site.path()])).expect(0);
    assert!(ran.out.contains("the ledger holds"), "{ran:?}");
    assert_eq!(std::fs::read_dir(&site.dir).unwrap().count(), before);
    submit(&site, &server, &intents::lookup("2"), &[]).expect(0);
}

#[test]
fn a_request_can_be_printed_instead_of_sent() {
    let mut command = intended(&[
        "intent",
        "submit",
        "-",
        "--print-curl",
        "--idempotency-key",
        "k1",
        "--server",
        "http://127.0.0.1:1",
    ]);
    let ran = run_with(command.env("INTENDED_API_KEY", "int_live_secret"), Some(r#"{"goal":"it's"}"#)).expect(0);
    assert!(ran.out.starts_with("curl -X POST") && ran.out.contains("idempotency-key: k1"), "{}", ran.out);
    assert!(ran.err.is_empty() && !ran.out.contains("int_live_secret"), "{ran:?}");
}

/// The parts that `dev` promises.
fn promised(out: &str) {
    for row in [
        "read a repository                 production   allow     policy.permit",
        "dispatch a release to staging     staging      allow     policy.permit",
        "dispatch a release to production  production   escalate  policy.escalate",
        "refund 40                         production   allow     policy.permit",
        "refund 4,000                      production   escalate  policy.escalate",
        "delete a customer                 production   deny      policy.forbid",
    ] {
        assert!(out.contains(row), "{row}\n{out}");
    }
    for line in [
        "pass  offline    signature, times and binding hold",
        "pass  consume    ledger entry",
        "pass  replay     refused with token.consumed",
        "pass  inclusion  entry",
        "the ledger holds",
        "every one the same; ",
        "I1 I2 I3 I4 I5 I6 hold",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains("FAIL"), "{out}");
}

#[test]
fn dev_once_shows_each_of_its_parts() {
    let ran = run(&mut intended(&["dev", "--once", "--listen", "127.0.0.1:0"])).expect(0);
    promised(&ran.out);
    assert!(ran.out.contains("8 decisions, every one the same; 5 allowed"), "{}", ran.out);
    assert!(ran.err.is_empty(), "{}", ran.err);
    for format in ["json", "yaml", "jsonl"] {
        let ran = run(&mut intended(&["dev", "--once", "--listen", "127.0.0.1:0", "-o", format])).expect(0);
        let value = read(format, &ran.out).unwrap();
        let value = if format == "jsonl" { value[0].clone() } else { value };
        assert_eq!(value["decisions"].as_array().unwrap().len(), 8, "{format}");
        assert!(value["token"].as_array().unwrap().iter().all(|c| c["held"] == true), "{value}");
        assert_eq!(value["ledger"]["holds"], true);
    }
}

#[test]
fn dev_stays_up_keeps_its_data_and_prints_a_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let data = data.to_str().unwrap();
    let dev = || Server::spawn(&mut intended(&["dev", "--listen", "127.0.0.1:0", "--data-dir", data])).unwrap();
    let server = dev();
    until("the hint is whole", || server.out().contains("Ctrl-C stops it."));
    let out = server.out();
    promised(&out);
    let key = out.split("Bearer ").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let body = out.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let http = Http { address: server.address, key, tenant: "demo".to_owned() };
    let answer = http.post("intents", &serde_json::from_str(body).unwrap()).expect(200);
    assert_eq!(answer["decision"], "allow");
    let line = out.lines().find(|l| l.ends_with(" status")).unwrap();
    // As it stands: it names the server, which is not at the default port.
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    assert!(run(&mut intended(&words)).expect(0).out.contains("halts     none"));
    let stopped = server.stop().expect(0);
    assert!(stopped.err.contains("stopping"), "{}", stopped.err);
    // Again on the same data: what was decided is there, and the demonstration holds again.
    let server = dev();
    until("the hint is whole", || server.out().contains("Ctrl-C stops it."));
    promised(&server.out());
    let http = Http { address: server.address, ..http };
    http.get(&format!("intents/{}", answer["id"].as_str().unwrap())).expect(200);
    server.signal("INT");
    server.ended().expect(0);
    run(&mut intended(&["verify", data])).expect(0);
}

#[test]
fn dev_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("demo");
        let ran = run(&mut intended(&["dev", "--once", "--listen", address, "--data-dir", data.to_str().unwrap()]));
        let ran = ran.expect(1);
        assert!(ran.out.is_empty() && ran.err.contains("loopback"), "{address}: {ran:?}");
        assert!(!data.exists(), "a refused start leaves nothing behind");
    }
    run(&mut intended(&["dev", "--once", "--listen", "nowhere"])).expect(1);
}

#[test]
fn a_set_up_that_did_not_finish_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.key"), "half").unwrap();
    let ran = run(&mut intended(&["init", "--data-dir", dir.path().to_str().unwrap()])).expect(1);
    assert!(ran.err.contains("root.key") && ran.err.contains("hint:"), "{}", ran.err);
    let site = Site::bare();
    let mode = |name: &str| {
        let meta = std::fs::metadata(site.dir.join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
    };
    assert_eq!(mode("root.key"), 0o600);
    // With another root key nothing can be signed, and nothing is served.
    std::fs::write(site.dir.join("root.key"), "07".repeat(32)).unwrap();
    let ran = site.start().err().unwrap().expect(1);
    assert!(ran.err.contains("key.sealed"), "{}", ran.err);
}
