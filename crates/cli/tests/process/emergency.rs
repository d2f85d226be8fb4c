//! An emergency at the command line: also when the API does not answer, and when the process dies in
//! the middle of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Server, Site, intended, intents, run};

const HALT: [&str; 3] = ["emergency", "halt", "--scope"];

fn file(site: &Site, name: &str, text: &str) -> String {
    let path = site.dir.with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_halt_of_each_scope_shows_what_would_stop_wants_its_name_and_says_since_when() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    agent.post("intents", &intents::lookup("1")).expect(200);
    for (scope, name, reason) in [
        ("agent=support-agent", "support-agent", "halt.agent"),
        ("connector=orders", "orders", "halt.connector"),
        ("tool=orders.*", "orders.*", "halt.tool"),
        ("category=OIL-*", "OIL-*", "halt.category"),
        ("environment=staging", "staging", "halt.environment"),
    ] {
        let common = [&HALT[..], &[scope, "--reason", "drill"]].concat();
        let place: &[&str] = if scope.starts_with("environment") { &[] } else { &["-e", "staging"] };
        let ran = site.cli(&server, &[&common[..], place].concat()).expect(1);
        assert!(ran.err.contains("would stop: ") && ran.err.contains("decisions a minute"), "{}", ran.err);
        assert!(ran.err.contains(&format!("--confirm {name}")), "{}", ran.err);
        let halted = site.cli(&server, &[&common[..], place, &["--confirm", name, "-o", "json"]].concat()).expect(0);
        assert!(halted.err.contains("in effect: durable after"), "{}", halted.err);
        let staging = intents::within(intents::lookup("1"), "staging");
        assert_eq!(agent.post("intents", &staging).expect(403)["reason"], reason);
        agent.post("intents", &intents::lookup("1")).expect(200);
        let shown = site.cli(&server, &["emergency", "status"]).expect(9);
        for word in ["drill", "owner", "staging", "one person"] {
            assert!(shown.out.contains(word), "{word}: {}", shown.out);
        }
        let halt = halted.json()["halt"].as_str().unwrap().to_owned();
        site.cli(&server, &["emergency", "resume", &halt, "--reason", "over", "--confirm", &halt]).expect(0);
        agent.post("intents", &staging).expect(200);
    }
    for wrong in ["person=ana", "agent=a*", "connector=a.b", "everything"] {
        site.cli(&server, &[&HALT[..], &[wrong, "--reason", "x", "--confirm", "x"]].concat()).expect(1);
    }
}

#[test]
fn tokens_are_revoked_in_bulk_after_they_are_counted() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    let decision = agent.post("intents", &intents::lookup("1")).expect(200);
    agent.post("intents", &intents::lookup("2")).expect(200);
    let revoke = ["emergency", "revoke", "--agent", "support-agent"];
    let counted = site.data(&server, &[&revoke[..], &["--dry-run"]].concat());
    assert_eq!((&counted["tokens"], &counted["dry_run"]), (&json!(2), &json!(true)), "{counted}");
    let refused = site.cli(&server, &[&revoke[..], &["--reason", "leak"]].concat()).expect(1);
    assert!(
        refused.err.contains("2 live tokens") && refused.err.contains("--confirm support-agent"),
        "{}",
        refused.err
    );
    let token = file(&site, "token.jwt", decision["token"].as_str().unwrap());
    let hash = decision["intent_hash"].as_str().unwrap().to_owned();
    let verify = ["token", "verify", &token, "--intent-hash", &hash, "-e", "production", "-o", "json"];
    site.cli(&server, &verify).expect(0);
    site.cli(&server, &[&revoke[..], &["--reason", "leak", "--confirm", "support-agent"]].concat()).expect(0);
    assert_eq!(site.cli(&server, &verify).expect(8).json()["refusal"], "token.revoked");
    let offline = site.cli(&server, &[&verify[..], &["--offline"]].concat()).expect(8).json();
    assert_eq!(offline["refusal"], "token.revoked");
    // One by one.
    let other = agent.post("intents", &intents::lookup("3")).expect(200);
    let token = file(&site, "other.jwt", other["token"].as_str().unwrap());
    let hash = other["intent_hash"].as_str().unwrap();
    let verify = ["token", "verify", &token, "--intent-hash", hash, "-e", "production", "--offline", "-o", "json"];
    let stands = site.cli(&server, &verify).expect(0).json();
    for what in ["revocations", "halts"] {
        assert!(stands[what].as_str().unwrap().starts_with("as of "), "{stands}");
    }
    assert_eq!(stands["single_use"], "not_checked");
    site.cli(&server, &["token", "revoke", &token, "--reason", "lost"]).expect(0);
    assert_eq!(site.cli(&server, &verify).expect(8).json()["refusal"], "token.revoked");
    site.cli(&server, &["emergency", "revoke", "--reason", "x", "--confirm", "acme"]).expect(6);
}

#[test]
fn a_break_glass_file_can_be_checked_by_who_finds_it_and_halts_over_the_api() {
    let (site, server) = Site::new();
    let glass = site.dir.with_file_name("glass.json");
    let glass = glass.to_str().unwrap();
    let prepare = ["emergency", "prepare", "--scope", "environment=staging", "--expires", "90d", "--out", glass];
    let made = site.cli(&server, &prepare).expect(0);
    assert!(!made.out.contains("int_live_"), "the key is in the file alone: {}", made.out);
    site.cli(&server, &prepare).expect(1);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(glass).unwrap().permissions().mode() & 0o777, 0o600);
    let vkey = file(&site, "acme.vkey", &site.vkey);
    let inspect = ["emergency", "inspect", glass, "--vkey", &vkey, "-o", "json"];
    let says = run(&mut intended(&inspect)).expect(0).json();
    assert_eq!((&says["genuine"], &says["halts"]), (&json!(true), &json!("environment=staging")), "{says}");
    let forged = std::fs::read_to_string(glass).unwrap().replace("staging", "production");
    let forged = file(&site, "forged.json", &forged);
    run(&mut intended(&["emergency", "inspect", &forged, "--vkey", &vkey])).expect(8);
    // No key but the one in the file.
    let halt = |confirm: &str| {
        let halt = ["emergency", "halt", "--glass", glass, "--reason", "nobody can sign in", "--confirm", confirm];
        run(intended(&halt).args(["--server", &server.url(), "-o", "json"]))
    };
    halt("production").expect(1);
    assert_eq!(halt("staging").expect(0).json()["scope"], "environment:staging");
    assert!(halt("staging").expect(4).err.contains("credential.spent"));
    let staging = intents::within(intents::lookup("1"), "staging");
    assert_eq!(site.agent(&server).post("intents", &staging).expect(403)["reason"], "halt.environment");
}

/// The data directory of a server that is down, that runs, and that hangs.
#[test]
fn a_halt_is_thrown_without_the_api() {
    let (site, server) = Site::new();
    let glass = site.dir.with_file_name("glass.json");
    let glass = glass.to_str().unwrap().to_owned();
    let prepare = ["emergency", "prepare", "--scope", "agent=support-agent", "--expires", "1d", "--out", &glass];
    site.cli(&server, &prepare).expect(0);
    let staging = intents::within(intents::lookup("1"), "staging");
    let direct = |scope: &str, confirm: &str| {
        let halt = ["emergency", "halt", "--data-dir", site.path(), "--scope", scope, "--reason", "the API hangs"];
        run(intended(&halt).args(["--confirm", confirm, "-o", "json"]).env("INTENDED_API_KEY", &site.owner))
    };
    // It runs: it takes the halt out of the directory, within a second or so.
    let asked = Instant::now();
    let ran = direct("environment=staging", "staging").expect(0);
    assert!(
        ran.err.contains("handed to it") && asked.elapsed() < Duration::from_secs(4),
        "{} {:?}",
        ran.err,
        asked.elapsed()
    );
    assert_eq!(site.agent(&server).post("intents", &staging).expect(403)["reason"], "halt.environment");
    let left = std::fs::read_dir(site.dir.join("emergency")).unwrap().count();
    assert_eq!(left, 0, "no key is left behind");
    // Who may not, may not.
    let halt = ["emergency", "halt", "--data-dir", site.path(), "--reason", "x", "--confirm", "acme"];
    let ran = run(intended(&halt).env("INTENDED_API_KEY", &site.agent)).expect(1);
    assert!(ran.err.contains("credential.scope"), "{}", ran.err);
    // It hangs: it holds the directory, and nobody answers.
    server.signal("STOP");
    let ran = direct("tenant", "acme").expect(5);
    assert!(ran.err.contains("NOT HALTED") && ran.err.contains("kill"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(site.dir.join("emergency")).unwrap().count(), 0, "it is not applied later");
    // Killed: the halt goes into the ledger, with the break-glass file alone.
    server.kill();
    let halt = ["emergency", "halt", "--data-dir", site.path(), "--glass", &glass, "--reason", "still hangs"];
    let ran = run(intended(&halt).args(["--confirm", "support-agent", "-o", "json"])).expect(0);
    assert!(ran.err.contains("no server runs"), "{}", ran.err);
    let again = run(intended(&halt).args(["--confirm", "support-agent"])).expect(1);
    assert!(again.err.contains("credential.spent"), "{}", again.err);
    run(&mut intended(&["verify", site.path()])).expect(0);
    let server = site.start().unwrap();
    assert_eq!(site.agent(&server).post("intents", &intents::lookup("1")).expect(403)["reason"], "halt.agent");
}

#[test]
fn drills_are_held_outside_production_and_recorded() {
    let (site, server) = Site::new();
    let staging = intents::within(intents::lookup("1"), "staging");
    site.agent(&server).post("intents", &staging).expect(200);
    let held = site.cli(&server, &["emergency", "drill", "halt", "-e", "staging"]).expect(0);
    assert!(held.out.contains("the halt takes effect") && held.err.contains("recorded as ledger entry"), "{held:?}");
    site.cli(&server, &["emergency", "drill", "revoke", "-e", "staging"]).expect(0);
    let refused = site.cli(&server, &["emergency", "drill", "halt", "-e", "production"]).expect(6);
    assert!(refused.err.contains("drill.refused"), "{}", refused.err);
    let not_allowed = file(&site, "no.json", &intents::within(intents::delete(), "staging").to_string());
    let failed =
        site.cli(&server, &["emergency", "drill", "halt", "-e", "staging", "--intent", &not_allowed]).expect(7);
    assert!(failed.out.contains("FAIL"), "{}", failed.out);
    let drills = site.cli(&server, &["emergency", "drills", "-o", "json"]).expect(0).json();
    let passed: Vec<_> = drills.as_array().unwrap().iter().map(|d| d["passed"].clone()).collect();
    assert_eq!(passed, [json!(false), json!(true), json!(true)]);
    site.cli(&server, &["emergency", "status"]).expect(0);
}

/// `kill -9` at any moment of a halt: it is thrown, whole, or it is not; and asked for again under the
/// same idempotency key it is thrown once.
#[test]
fn a_kill_at_any_point_of_a_halt_leaves_it_thrown_or_not_at_all() {
    let rounds: u64 = std::env::var("INTENDED_KILLS").ok().map_or(60, |n| n.parse().unwrap());
    let (site, server) = Site::new();
    let mut server: Option<Server> = Some(server);
    let staging = intents::within(intents::lookup("1"), "staging");
    let (mut whole, mut none) = (0, 0);
    for round in 0..rounds {
        let running = server.take().unwrap();
        let (owner, agent) = (site.owner(&running), site.agent(&running));
        let token = agent.post("intents", &staging).expect(200);
        let key = format!("halt-{round}");
        let body = json!({"environment": "staging", "reason": "kill"});
        // From before it is sent to after it is answered: a halt takes some milliseconds.
        let wait = Duration::from_micros(round * 7919 % 12_000);
        let answered = std::thread::scope(|scope| {
            let headers = [("idempotency-key", key.as_str())];
            let (owner, body) = (&owner, &body);
            let asked = scope.spawn(move || owner.send("POST", "emergency/halts", Some(body), &headers).ok());
            std::thread::sleep(wait);
            running.kill();
            asked.join().unwrap().filter(|reply| reply.status == 201)
        });
        let running = site.start().unwrap_or_else(|ran| panic!("round {round}: {ran:?}"));
        let (owner, agent) = (site.owner(&running), site.agent(&running));
        let state = owner.get("emergency").expect(200);
        let halts = state["halts"].as_array().unwrap().clone();
        let thrown = entries(&owner, &halts);
        let use_it = |active: bool| {
            let body = json!({"token": token["token"], "environment": "staging", "intent_hash": token["intent_hash"]});
            let verdict = agent.post("tokens/verify", &body).expect(200);
            assert_eq!(verdict["active"], active, "round {round}: {verdict}");
        };
        match halts.as_slice() {
            [] => {
                assert!(answered.is_none(), "round {round}: an acknowledged halt is gone");
                use_it(true);
                agent.post("intents", &staging).expect(200);
                none += 1;
            }
            [halt] => {
                assert_eq!(thrown, 1);
                assert_eq!(agent.post("intents", &staging).expect(403)["reason"], "halt.environment");
                use_it(false);
                assert!(answered.is_none_or(|reply| reply.body["halt"] == halt["halt"]), "round {round}");
                whole += 1;
            }
            more => panic!("round {round}: {more:?}"),
        }
        // Nobody knows what became of it: asked again it is there once.
        let again =
            owner.send("POST", "emergency/halts", Some(&body), &[("idempotency-key", &key)]).unwrap().expect(201);
        let halts = owner.get("emergency").expect(200)["halts"].as_array().unwrap().len();
        assert_eq!(halts, 1, "round {round}");
        let path = format!("emergency/halts/{}/resume", again["halt"].as_str().unwrap());
        owner.post(&path, &json!({"reason": "over"})).expect(200);
        server = Some(running);
    }
    println!("{rounds} kills: {whole} halts were thrown whole, {none} not at all");
    assert!(rounds < 20 || whole > 0 && none > 0, "{whole} {none}");
    server.unwrap().stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
}

/// How many entries say of these halts that they were thrown.
fn entries(owner: &crate::support::Http, halts: &[Value]) -> usize {
    let page = owner.get("audit?kind=halt.thrown&limit=500").expect(200);
    let named = |entry: &&Value| {
        halts
            .iter()
            .any(|h| h["halt"] == entry["event"]["halt"] || entry.to_string().contains(h["halt"].as_str().unwrap()))
    };
    page["entries"].as_array().unwrap().iter().filter(named).count()
}
