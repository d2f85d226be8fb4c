//! A disk that is full, a data file that is damaged or gone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Http, Ran, Server, Site, intended, intents, run, until};

/// Submits until the store is full; what was allowed until then, and the refusal.
fn fill(agent: &Http) -> (Vec<Value>, Value) {
    let mut allowed = Vec::new();
    for n in 0..100_000 {
        let mut intent = intents::lookup(&n.to_string());
        // Room goes faster with large arguments.
        intent["action"]["properties"]["note"] = "x".repeat(4_000).into();
        let reply = agent.post("intents", &intent);
        if reply.status != 200 {
            return (allowed, reply.expect(507));
        }
        allowed.push(reply.body);
    }
    panic!("it never gets full");
}

/// Nothing is allowed while it is full, everything that was decided can be read, and it is said.
fn full(site: &Site, server: &Server, allowed: &[Value], refused: &Value) {
    assert_eq!((refused["code"].as_str(), refused["retryable"].as_bool()), (Some("store.full"), Some(true)));
    assert!(refused.get("token").is_none() && refused.get("decision").is_none(), "{refused}");
    let owner = site.owner(server);
    assert_eq!(owner.get("/readyz").status, 503);
    let checkpoint = owner.get("audit/checkpoint").expect(200);
    let mut large = intents::lookup("more");
    large["action"]["properties"]["note"] = "y".repeat(30_000).into();
    let file = site.dir.with_extension("intent");
    std::fs::write(&file, large.to_string()).unwrap();
    let ran = site.cli(server, &["intent", "submit", file.to_str().unwrap()]).expect(5);
    assert!(ran.out.is_empty() && ran.err.contains("store.full") && ran.err.contains("hint:"), "{ran:?}");
    // Neither is a token used up that could not be recorded, nor anything written for a refusal.
    assert_eq!(owner.get("audit/checkpoint").expect(200)["size"], checkpoint["size"]);
    let health = site.cli(server, &["health", "check", "-o", "json"]).expect(5);
    assert_eq!(health.json()["status"], "unavailable");
    let told = site.cli(server, &["health", "check"]).expect(5).out;
    assert!(told.contains("store: writable, UNAVAILABLE") && told.contains("do: Make room"), "{told}");
    let ready = owner.get("/readyz?verbose");
    let said = ready.body.as_str().unwrap();
    assert!(ready.status == 503 && said.contains("[-]store failed: writable") && said.ends_with("not ready"), "{said}");
    for decision in [allowed.first().unwrap(), allowed.last().unwrap()] {
        let receipt = owner.get(&format!("intents/{}/receipt", decision["id"].as_str().unwrap())).expect(200);
        assert_eq!(receipt["entry"], decision["receipt"]["entry"]);
    }
}

/// It is as if nothing had been.
fn recovered(site: &Site, server: Server, allowed: &[Value]) {
    let decision = site.agent(&server).post("intents", &intents::lookup("again")).expect(200);
    assert_eq!(decision["decision"], "allow");
    assert_eq!(site.owner(&server).get("/readyz").status, 200);
    server.stop().expect(0);
    let report = run(&mut intended(&["verify", site.path(), "-o", "json"])).expect(0).json();
    assert_eq!(report["decisions"], allowed.len() + 1);
}

#[test]
fn at_its_largest_size_nothing_is_allowed_until_there_is_room() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let size = std::fs::metadata(site.dir.join("ledger.db")).unwrap().len();
    site.configure("max_bytes", Some(size + 300_000));
    let server = site.start().unwrap();
    let (allowed, refused) = fill(&site.agent(&server));
    full(&site, &server, &allowed, &refused);
    server.stop().expect(0);
    site.configure("max_bytes", None);
    recovered(&site, site.start().unwrap(), &allowed);
}

/// A small file system, if this user may mount one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(megabytes: u32) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let ran = run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "intended-test"]).arg(at.path()));
        (ran.code == 0).then(|| Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_recovers_by_itself_without_a_restart() {
    let Some(mounted) = Mounted::new(12) else {
        eprintln!("skipped: this user may not mount a file system");
        return;
    };
    let (site, server) = Site::bare_in(mounted.0.path().join("data")).set_up();
    let filler = mounted.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let agent = site.agent(&server);
    let mut allowed = vec![agent.post("intents", &intents::lookup("first")).expect(200)];
    while file.write_all(&[0; 4096]).is_ok() {}
    let (more, refused) = fill(&agent);
    allowed.extend(more);
    // What is written for the test must lie elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    full(&site.view(elsewhere.path().join("data")), &server, &allowed, &refused);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    // Nobody sends anything while it is not ready: it must notice by itself.
    until("it is ready again", || agent.get("/readyz").status == 200);
    recovered(&site, server, &allowed);
    drop(site);
}

/// A site with enough in it to be damaged, stopped; the ledger's file and its bytes.
fn written(decisions: usize) -> (Site, PathBuf, Vec<u8>) {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    for n in 0..decisions {
        agent.post("intents", &intents::lookup(&format!("order-{n}"))).expect(200);
    }
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
    let path = site.dir.join("ledger.db");
    let bytes = std::fs::read(&path).unwrap();
    (site, path, bytes)
}

#[track_caller]
fn refuses(site: &Site, path: &Path, what: &str) -> Ran {
    let Err(ran) = site.start() else { panic!("{what}: it is served") };
    let ran = ran.expect(1);
    assert!(ran.err.contains(path.to_str().unwrap()), "{what}: the file is not named: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{what}: {}", ran.err);
    ran
}

#[track_caller]
fn does_not_verify(site: &Site, what: &str) {
    let ran = run(&mut intended(&["verify", site.path()]));
    assert_eq!(ran.code, 8, "{what}: {ran:?}");
    assert!(!ran.err.contains("panicked") && !ran.out.contains("holds"), "{what}: {ran:?}");
}

/// Where a text stands in the file.
fn find(bytes: &[u8], text: &str) -> usize {
    let text = text.as_bytes();
    bytes.windows(text.len()).position(|w| w == text).unwrap_or_else(|| panic!("not in the file"))
}

#[test]
fn a_file_that_was_cut_is_named_and_not_served() {
    let (site, path, whole) = written(40);
    for length in [0, 1, 100, 4096, 8192, whole.len() / 2, whole.len() - 8192] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let what = format!("{length} of {} bytes", whole.len());
        refuses(&site, &path, &what);
        does_not_verify(&site, &what);
        let now = std::fs::metadata(&path).unwrap().len();
        assert_eq!(now, length as u64, "{what}: the evidence was written to");
    }
    std::fs::remove_file(&path).unwrap();
    refuses(&site, &path, "no file");
    does_not_verify(&site, "no file");
    assert!(!path.exists(), "a new and empty ledger in the place of the lost one");
    // With the file back, all is well.
    std::fs::write(&path, &whole).unwrap();
    site.start().unwrap().stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
}

#[test]
fn flipped_bytes_are_named_and_not_served() {
    let (site, path, whole) = written(40);
    let pages = |from: usize, to: usize| {
        let mut bytes = whole.clone();
        bytes[from..to].iter_mut().for_each(|b| *b ^= 0x55);
        bytes
    };
    let middle = whole.len() / 2 / 8192 * 8192;
    let text = find(&whole, "\"order-7\"");
    for (what, bytes) in [
        ("the header", pages(0, 16)),
        ("the pages in the middle", pages(middle, middle + 3 * 8192)),
        ("the first half", pages(100, whole.len() / 2)),
        ("one letter of one decision", pages(text + 1, text + 2)),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        refuses(&site, &path, what);
        does_not_verify(&site, what);
        assert!(std::fs::read(&path).unwrap() == bytes, "{what}: the evidence was written to");
    }
}

/// Far back in a long ledger a changed decision is not read when it is opened. It must not be handed
/// out as if it were whole.
#[test]
fn a_changed_entry_far_back_is_not_proved_and_not_exported_as_whole() {
    let (site, path, mut bytes) = written(600);
    let at = find(&bytes, "\"order-7\"");
    bytes[at + 7] = b'8';
    std::fs::write(&path, &bytes).unwrap();
    does_not_verify(&site, "a changed decision");
    let Ok(server) = site.start() else { return };
    assert!(site.cli(&server, &["audit", "verify"]).code == 8, "the server's own export");
    let rows = site.owner(&server).get("audit?limit=500&kind=decision&until=99999999999999");
    let changed = rows.body["entries"].as_array().into_iter().flatten().find(|e| {
        e["entry"]["body"]["input"]["intent"]["resource"]["id"] == "order-7"
            && e["entry"]["body"]["input"]["intent"]["action"]["properties"]["order"] != "order-7"
    });
    if let Some(index) = changed.and_then(|e| e["index"].as_u64()) {
        site.cli(&server, &["audit", "proof", &index.to_string()]).expect(8);
    }
}

/// State is folded from control entries. One that was changed must not become what is decided by.
#[test]
fn a_changed_control_entry_is_not_decided_by() {
    let (site, path, mut bytes) = written(600);
    // Old copies of a page may stand in the file besides: change all of them.
    let text = b"\"trust\":70";
    let at: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    at.iter().for_each(|at| bytes[at + 9] = b'9');
    std::fs::write(&path, &bytes).unwrap();
    does_not_verify(&site, "a changed agent");
    refuses(&site, &path, "a changed agent");
}

/// I7: what the working facts say follows from the ledger, and what the ledger says is in them.
#[test]
fn facts_that_the_ledger_does_not_say_are_found() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    let decided = agent.post("intents", &intents::lookup("order-1")).expect(200);
    let mut in_session = intents::refund(40);
    in_session["session"] = "s1".into();
    agent.post("intents", &in_session).expect(200);
    agent.post("intents", &intents::refund(4_000)).expect(202);
    let consume = serde_json::json!({
        "token": decided["token"], "environment": decided["environment"],
        "intent_hash": decided["intent_hash"], "consume": true,
    });
    assert_eq!(agent.post("tokens/verify", &consume).expect(200)["active"], true);
    server.stop().expect(0);
    let path = site.dir.join("ledger.db");
    let ran = run(&mut intended(&["verify", site.path()])).expect(0);
    assert!(ran.out.contains("I7"), "{}", ran.out);
    let whole = std::fs::read(&path).unwrap();
    for (what, change) in [
        ("a consumed token usable again", "DELETE FROM facts WHERE key LIKE 'j/%'"),
        ("an escalation forgotten", "DELETE FROM facts WHERE key LIKE 'o/%'"),
        ("a session forgotten", "DELETE FROM facts WHERE key LIKE 's/%'"),
        (
            "a session changed",
            "UPDATE facts SET value = CAST(replace(CAST(value AS TEXT), '\"intents\":1', '\"intents\":0') AS BLOB) WHERE key LIKE 's/%'",
        ),
        ("a token revoked by nobody", "INSERT INTO facts (tenant, key, value, version) VALUES (1, 'r/x', x'31', 1)"),
    ] {
        std::fs::write(&path, &whole).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(connection.execute(change, []).unwrap(), 1, "{what}");
        connection.close().unwrap();
        let ran = run(&mut intended(&["verify", site.path()]));
        assert!(ran.code == 8 && (ran.out.contains("I7") || ran.err.contains("I7")), "{what}: {ran:?}");
    }
}
