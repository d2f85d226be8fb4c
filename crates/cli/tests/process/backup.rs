//! Backups: taken under load, restored, found to be old, damaged, half written. And a data directory that
//! was put back without a word.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Http, Ran, Server, Site, intended, intents, run, until};

/// A place beside the data directory.
fn beside(site: &Site, name: &str) -> PathBuf {
    site.dir.with_file_name(name)
}
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(site: &Site, out: &Path, more: &[&str]) -> Ran {
    let common = ["backup", "--data-dir", site.path(), "--out", text(out), "-o", "json"];
    run(&mut intended(&[&common[..], more].concat()))
}

/// With the root key from where it was, which is not in the backup.
fn restore(site: &Site, backup: &Path, to: &Path, more: &[&str]) -> Ran {
    let key = site.dir.join("root.key");
    let common = ["restore", text(backup), "--data-dir", text(to), "--reason", "disk died", "-o", "json"];
    let key = ["--root-key-file", text(&key)];
    run(&mut intended(&[&common[..], &key, more].concat()))
}

/// Nothing that was being made is left beside the data.
#[track_caller]
fn nothing_left(site: &Site) {
    let left = std::fs::read_dir(site.dir.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = left.filter(|n| n.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn lookups(agent: &Http, from: u64, n: u64) {
    for order in from..from + n {
        agent.post("intents", &intents::lookup(&order.to_string())).expect(200);
    }
}

fn consume(agent: &Http, decided: &Value) -> Value {
    let body = json!({
        "token": decided["token"], "environment": "production", "intent_hash": decided["intent_hash"], "consume": true,
    });
    agent.post("tokens/verify", &body).expect(200)
}

/// Two people lift the only halt.
fn resume(site: &Site, server: &Server) {
    let status = site.cli(server, &["emergency", "status", "-o", "json"]).expect(9).json();
    let halt = status[0]["halt"].as_str().unwrap().to_owned();
    assert!(halt.starts_with("restored-"), "{status}");
    let lift = ["emergency", "resume", &halt, "--reason", "looked at it", "--confirm", &halt];
    let (ana, ben) = (site.person(server, "ana"), site.person(server, "ben"));
    site.cli_as(server, &ana, &lift).expect(3);
    site.cli_as(server, &ben, &lift).expect(0);
}

#[test]
fn a_backup_under_load_is_whole_and_decisions_go_on_after_it_is_restored() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    let before = agent.post("intents", &intents::lookup("1")).expect(200);
    let (out, kept) = (beside(&site, "monday.backup"), beside(&site, "acme.checkpoint"));
    let (stop, decided) = (AtomicBool::new(false), AtomicU64::new(0));
    let ran = std::thread::scope(|scope| {
        for client in 0..3_u64 {
            let (agent, stop, decided) = (&agent, &stop, &decided);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    // Each one is answered, and as ever.
                    lookups(agent, client * 1_000_000 + n, 1);
                    decided.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        until("there is load", || decided.load(Ordering::Acquire) > 20);
        let ran = backup(&site, &out, &["--checkpoint-out", text(&kept)]);
        let then = decided.load(Ordering::Acquire);
        until("decisions go on", || decided.load(Ordering::Acquire) > then);
        stop.store(true, Ordering::Release);
        ran
    });
    let said = ran.expect(0);
    let report = said.json();
    let copied = report["tenants"][0]["entries"].as_u64().unwrap();
    assert!(copied > 20 && report["root_key"] == false, "{report}");
    assert_eq!(report["bytes"], std::fs::metadata(&out).unwrap().len());
    assert!(said.err.contains("whole and checked") && said.err.contains("apart from the backup"), "{}", said.err);
    for file in [&out, &kept] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    nothing_left(&site);
    // What it was taken of is not disturbed by it.
    assert_eq!(site.owner(&server).get("/readyz").status, 200);
    let after = agent.post("intents", &intents::lookup("2")).expect(200);
    assert_eq!(consume(&agent, &before)["active"], true);
    server.stop().expect(0);
    run(&mut intended(&["verify", site.path()])).expect(0);
    // Anybody can open it, and the key is not there.
    let open = beside(&site, "opened");
    std::fs::create_dir(&open).unwrap();
    shell(&open, &format!("tar xf {} && sha256sum -c SHA256SUMS && ls checkpoints/acme && ! ls root.key", text(&out)));
    let key = std::fs::read_to_string(site.dir.join("root.key")).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    assert!(!bytes.windows(64).any(|w| w == key.trim().as_bytes()));

    let new = beside(&site, "new");
    let ran = restore(&site, &out, &new, &["--checkpoint", text(&kept)]).expect(0);
    assert!(
        ran.err.contains("HALTED") && ran.err.contains("server that it came from")
            || ran.err.contains("server it came from"),
        "{}",
        ran.err
    );
    assert_eq!(ran.json()["tenants"][0]["entries"], copied);
    nothing_left(&site);
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
    let report = run(&mut intended(&["verify", text(&new), "--checkpoint", text(&kept), "-o", "json"])).expect(0);
    assert_eq!(report.json()["restored"], json!([{"entry": copied, "lost": 0}]));
    let view = site.view(new);
    let server = view.start().unwrap();
    let agent = view.agent(&server);
    assert_eq!(agent.post("intents", &intents::lookup("3")).expect(403)["reason"], "halt.tenant");
    resume(&view, &server);
    // What was used after the backup is not used again, nor is what was granted after it.
    assert_eq!(consume(&agent, &before)["refusal"], "token.halted");
    assert_eq!(consume(&agent, &after)["refusal"], "token.not_granted");
    let decided = agent.post("intents", &intents::lookup("4")).expect(200);
    assert_eq!(consume(&agent, &decided)["active"], true);
    let entries = view.owner(&server).get("audit?kind=ledger.restored").expect(200);
    let body = &entries["entries"][0]["entry"]["body"];
    assert_eq!((&body["reason"], &body["copied"]["size"]), (&json!("disk died"), &json!(copied)), "{entries}");
    server.stop().expect(0);
    let ran = run(&mut intended(&["verify", view.path()])).expect(0);
    assert!(ran.out.contains("restored") && ran.out.contains("entry"), "{}", ran.out);
}

#[test]
fn a_backup_that_is_older_than_a_kept_checkpoint_is_restored_only_by_who_says_how_much_is_lost() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    lookups(&agent, 0, 3);
    let (out, kept) = (beside(&site, "old.backup"), beside(&site, "kept"));
    std::fs::create_dir(&kept).unwrap();
    backup(&site, &out, &[]).expect(0);
    lookups(&agent, 10, 4);
    let kept_file = kept.join("acme.checkpoint");
    site.cli(&server, &["audit", "checkpoint", "--out", text(&kept_file)]).expect(0);
    server.stop().expect(0);
    let new = beside(&site, "new");
    let ran = restore(&site, &out, &new, &["--checkpoint", text(&kept)]).expect(8);
    for says in ["ledger.taken_back", "older than the newest checkpoint", "4 are lost", "--accept-loss 4"] {
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    }
    let ran = restore(&site, &out, &new, &["--checkpoint", text(&kept), "--accept-loss", "3"]).expect(8);
    assert!(ran.err.contains("--accept-loss says 3"), "{}", ran.err);
    let ran = restore(&site, &out, &new, &["--accept-loss", "4"]).expect(1);
    assert!(ran.err.contains("no kept checkpoint says"), "{}", ran.err);
    assert!(!new.exists());
    nothing_left(&site);
    let said = restore(&site, &out, &new, &["--checkpoint", text(&kept), "--accept-loss", "4"]).expect(0);
    assert_eq!(said.json()["tenants"][0]["lost"], 4);
    // The ledger says it, so a start is not refused for what is known; the loss is still found.
    let view = site.view(new);
    let held = ["serve", "--data-dir", view.path(), "--listen", "127.0.0.1:0", "--checkpoint", text(&kept)];
    let server = Server::spawn(&mut intended(&held)).unwrap();
    assert!(server.err().contains("lost when the ledger was restored"), "{}", server.err());
    // Of what is lost one signs for more than there is now: it is not written over.
    let over = ["audit", "checkpoint", "--out", text(&kept_file)];
    let ran = view.cli(&server, &over).expect(1);
    assert!(ran.err.contains("signs for more"), "{}", ran.err);
    resume(&view, &server);
    lookups(&view.agent(&server), 20, 12);
    let lost = beside(&site, "lost.checkpoint");
    std::fs::copy(&kept_file, &lost).unwrap();
    view.cli(&server, &over).expect(0);
    server.stop().expect(0);
    run(&mut intended(&["verify", view.path(), "--checkpoint", text(&kept_file)])).expect(0);
    let ran = run(&mut intended(&["verify", view.path(), "--checkpoint", text(&lost)])).expect(8);
    assert!(ran.err.contains("restored from a copy of its first"), "{}", ran.err);
}

/// No `restore`, no word: the files of last week in the place of today's.
#[test]
fn a_data_directory_that_was_put_back_is_not_served_where_a_checkpoint_is_kept_elsewhere() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let elsewhere = beside(&site, "elsewhere");
    let config = site.dir.join("intended.toml");
    let with = std::fs::read_to_string(&config).unwrap() + &format!("checkpoint_dir = \"{}\"\n", text(&elsewhere));
    std::fs::write(&config, with).unwrap();
    let old = beside(&site, "last-week");
    shell(site.dir.parent().unwrap(), &format!("cp -r {} {}", site.path(), text(&old)));
    let ran = site.start().err().expect("there is nowhere to keep them");
    assert!(ran.code == 1 && ran.err.contains("checkpoint_dir"), "{ran:?}");
    std::fs::create_dir(&elsewhere).unwrap();
    let server = first_start(&site).unwrap();
    let kept = elsewhere.join("acme.checkpoint");
    let backup_file = beside(&site, "early.backup");
    backup(&site, &backup_file, &[]).expect(0);
    until("one is kept at once", || kept.exists());
    let first = std::fs::read_to_string(&kept).unwrap();
    lookups(&site.agent(&server), 0, 5);
    server.stop().expect(0);
    assert_ne!(std::fs::read_to_string(&kept).unwrap(), first, "the last one too");
    let view = site.view(old);
    let ran = view.start().err().expect("it is older than what is kept");
    assert_eq!(ran.code, 8, "{ran:?}");
    for says in ["ledger.taken_back", "5 are missing", "intended restore", "acme.checkpoint"] {
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    }
    // Nor by one that is named, of a config that keeps none.
    let config = view.dir.join("intended.toml");
    let without = std::fs::read_to_string(&config).unwrap().replace("checkpoint_dir", "#");
    std::fs::write(&config, without).unwrap();
    let serve = ["serve", "--data-dir", view.path(), "--listen", "127.0.0.1:0"];
    let held = [&serve[..], &["--checkpoint", text(&kept)]].concat();
    let ran = Server::spawn(&mut intended(&held)).err().expect("it is older than what is named");
    assert!(ran.code == 8 && ran.err.contains("ledger.taken_back"), "{ran:?}");
    // A backup from before it is as old, and its config says where to look.
    let ran = restore(&site, &backup_file, &beside(&site, "new"), &[]).expect(8);
    assert!(ran.err.contains("ledger.taken_back") && ran.err.contains("--accept-loss"), "{}", ran.err);
    // What nobody kept anything of cannot be told: that is why one is kept.
    Server::spawn(&mut intended(&serve)).unwrap().stop().expect(0);
    site.start().unwrap().stop().expect(0);
}

fn configured(site: &Site, line: &str) {
    let config = site.dir.join("intended.toml");
    let with = format!("{line}\n{}", std::fs::read_to_string(&config).unwrap());
    std::fs::write(&config, with).unwrap();
}

fn first_start(site: &Site) -> Result<Server, Ran> {
    let first = ["serve", "--data-dir", site.path(), "--listen", "127.0.0.1:0", "--first-checkpoint"];
    Server::spawn(&mut intended(&first))
}

/// A mount point without its disk is a directory with nothing in it.
#[test]
fn where_a_kept_checkpoint_is_missing_the_server_starts_only_when_that_is_said() {
    let site = Site::bare();
    let elsewhere = beside(&site, "elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let ran = first_start(&site).err().expect("there is nowhere to keep one");
    assert!(ran.code == 1 && ran.err.contains("no `checkpoint_dir`"), "{ran:?}");
    configured(&site, &format!("checkpoint_dir = \"{}\"", text(&elsewhere)));
    let kept = elsewhere.join("acme.checkpoint");
    let refused = |what: &str| {
        let ran = site.start().err().expect(what);
        assert_eq!(ran.code, 1, "{ran:?}");
        for says in ["ledger.checkpoint_missing", "Is the disk mounted?", "--first-checkpoint", "acme.checkpoint"] {
            assert!(ran.err.contains(says), "{what}: {says}: {}", ran.err);
        }
        ran
    };
    refused("nothing is there");
    assert!(!kept.exists());
    // There before anything is served, and not said twice.
    let server = first_start(&site).unwrap();
    assert!(kept.exists() && server.err().contains("the first checkpoint, of"), "{}", server.err());
    server.stop().expect(0);
    let ran = first_start(&site).err().expect("it is there");
    assert!(ran.code == 1 && ran.err.contains("has one of every tenant"), "{ran:?}");
    let server = site.start().unwrap();
    // A tenant that is made later gets its own, soon, and is no obstacle when the server is killed.
    let operator = Http { key: site.operator.clone(), ..site.owner(&server) };
    operator.post("/v1/tenants", &json!({"tenant": "globex"})).expect(201);
    let other = elsewhere.join("globex.checkpoint");
    until("it is kept", || other.exists());
    server.kill();
    let server = site.start().unwrap();
    // The disk goes away under the server: what is left is no place to keep anything in.
    let away = beside(&site, "away");
    std::fs::rename(&elsewhere, &away).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    site.owner(&server)
        .put("agents/late", &json!({"environments": ["production"], "teams": ["x"], "trust": 70}))
        .expect(200);
    server.stop().expect(0);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    refused("its disk is gone");
    std::fs::remove_dir(&elsewhere).unwrap();
    std::fs::rename(&away, &elsewhere).unwrap();
    site.start().unwrap().stop().expect(0);
    // One of two is not all, and under another name it is not where it is looked for.
    std::fs::rename(&kept, elsewhere.join("other.checkpoint")).unwrap();
    assert!(!refused("one is missing").err.contains("globex.checkpoint"));
}

/// Whoever wrote the backup wrote the config file in it.
#[test]
fn no_program_that_a_backup_names_is_run_unless_that_is_said() {
    let site = Site::bare();
    let (out, new, ran_it) = (beside(&site, "a.backup"), beside(&site, "new"), beside(&site, "it-ran"));
    let (own, key) = (beside(&site, "own.toml"), site.dir.join("root.key"));
    let config = site.dir.join("intended.toml");
    std::fs::copy(&config, &own).unwrap();
    let program = format!("touch {}; cat {}", text(&ran_it), text(&key));
    let with = std::fs::read_to_string(&config).unwrap().replace("root_key_file = \"root.key\"", "");
    std::fs::write(&config, with.replace("trusted_proxies = []", "")).unwrap();
    configured(&site, &format!("root_key_command = [\"sh\", \"-c\", \"{program}\"]"));
    configured(&site, "trusted_proxies = [\"10.9.0.0/16\"]");
    backup(&site, &out, &[]).expect(0);
    let restore = |more: &[&str]| {
        let common = ["restore", text(&out), "--data-dir", text(&new), "--reason", "moved"];
        run(&mut intended(&[&common[..], more].concat()))
    };
    let with_key = ["--root-key-file", text(&key)];
    // Neither now nor by the first start of what was restored.
    for more in [&[][..], &with_key] {
        let ran = restore(more).expect(1);
        for says in ["names a program", "--run-root-key-command", "--config FILE", "it-ran", "10.9.0.0/16"] {
            assert!(ran.err.contains(says), "{says}: {}", ran.err);
        }
        assert!(ran.err.contains("operator_key_sha256") && ran.err.contains("signed by nobody"), "{}", ran.err);
    }
    for more in [&["--dry-run"][..], &["--dry-run", "--run-root-key-command"]] {
        let ran = restore(more).expect(0);
        assert!(ran.err.contains("runs no program") && ran.err.contains("it-ran"), "{}", ran.err);
    }
    assert!(!ran_it.exists() && !new.exists());
    // The operator's own file goes in instead.
    let ran = restore(&[&["--config", text(&own)], &with_key[..]].concat()).expect(0);
    assert!(ran.err.contains("your own file") && !ran.err.contains("10.9.0.0/16"), "{}", ran.err);
    assert_eq!(std::fs::read(new.join("intended.toml")).unwrap(), std::fs::read(&own).unwrap());
    std::fs::remove_dir_all(&new).unwrap();
    assert!(!ran_it.exists());
    restore(&["--run-root-key-command"]).expect(0);
    assert!(ran_it.exists());
}

/// The directory where the server looks holds an older one of the lost part than the newest that is known.
#[test]
fn a_loss_that_was_accepted_is_known_whichever_checkpoint_of_it_is_where_the_server_looks() {
    let (site, server) = Site::new();
    let (elsewhere, out) = (beside(&site, "elsewhere"), beside(&site, "old.backup"));
    std::fs::create_dir(&elsewhere).unwrap();
    server.stop().expect(0);
    configured(&site, &format!("checkpoint_dir = \"{}\"", text(&elsewhere)));
    let server = first_start(&site).unwrap();
    let agent = site.agent(&server);
    backup(&site, &out, &[]).expect(0);
    lookups(&agent, 0, 1);
    let [older, newest] = ["older", "newest"].map(|name| beside(&site, &format!("{name}.checkpoint")));
    site.cli(&server, &["audit", "checkpoint", "--out", text(&older)]).expect(0);
    lookups(&agent, 1, 1);
    site.cli(&server, &["audit", "checkpoint", "--out", text(&newest)]).expect(0);
    server.stop().expect(0);
    let kept = elsewhere.join("acme.checkpoint");
    std::fs::copy(&older, &kept).unwrap();
    let new = beside(&site, "new");
    restore(&site, &out, &new, &["--checkpoint", text(&newest), "--accept-loss", "2"]).expect(0);
    let view = site.view(new);
    let serve = ["serve", "--data-dir", view.path(), "--listen", "127.0.0.1:0", "--checkpoint", text(&newest)];
    let server = Server::spawn(&mut intended(&serve)).unwrap();
    assert_eq!(server.err().matches("lost when the ledger was restored").count(), 2, "{}", server.err());
    // It gives way to the newest of what goes on.
    until("it is kept", || std::fs::read(&kept).unwrap() != std::fs::read(&older).unwrap());
    server.stop().expect(0);
    view.start().unwrap().stop().expect(0);
}

#[test]
fn a_damaged_or_changed_backup_is_refused_and_leaves_nothing() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    lookups(&agent, 0, 30);
    let decided = agent.post("intents", &intents::lookup("used")).expect(200);
    consume(&agent, &decided);
    server.stop().expect(0);
    let out = beside(&site, "whole.backup");
    backup(&site, &out, &[]).expect(0);
    let whole = std::fs::read(&out).unwrap();
    let (changed, new) = (beside(&site, "changed.backup"), beside(&site, "new"));
    let refused = |what: &str, says: &str| {
        let ran = restore(&site, &changed, &new, &[]);
        assert!(ran.code == 8 && ran.err.contains(says), "{what}: {ran:?}");
        assert!(!new.exists(), "{what}");
        nothing_left(&site);
    };
    // By accident: cut short anywhere, a flipped bit anywhere.
    for part in 0..8 {
        std::fs::write(&changed, &whole[..whole.len() * part / 8]).unwrap();
        refused("cut short", "not whole");
        let mut bytes = whole.clone();
        let at = whole.len() * (2 * part + 1) / 16;
        bytes[at] ^= 1;
        std::fs::write(&changed, &bytes).unwrap();
        refused("a flipped bit", "not whole");
    }
    std::fs::write(&changed, b"not a tar archive at all").unwrap();
    refused("something else", "not whole");
    // On purpose, with new sums.
    for (what, change, says) in [
        (
            "an entry",
            "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'support-agent', 'support-agenT') AS BLOB) WHERE id = (SELECT max(id) - 5 FROM entries)",
            "altered",
        ),
        ("the tail", "DELETE FROM entries WHERE id > (SELECT max(id) - 2 FROM entries)", "does not hold"),
        ("a use", "DELETE FROM facts WHERE key LIKE 'j/%'", "missing"),
        (
            "the checkpoints",
            "UPDATE facts SET value = CAST(replace(CAST(value AS TEXT), 'acme', 'acmf') AS BLOB) WHERE key LIKE 'c/%'",
            "checkpoint",
        ),
    ] {
        let open = beside(&site, "opened");
        std::fs::create_dir(&open).unwrap();
        shell(&open, &format!("tar xf {}", text(&out)));
        let connection = rusqlite::Connection::open(open.join("ledger.db")).unwrap();
        assert!(connection.execute(change, []).unwrap() > 0, "{what}");
        connection.close().unwrap();
        shell(
            &open,
            &format!(
                "files='manifest.json intended.toml checkpoints/acme ledger.db'; sha256sum $files > SHA256SUMS && tar cf {} $files SHA256SUMS",
                text(&changed)
            ),
        );
        refused(what, says);
        std::fs::remove_dir_all(&open).unwrap();
    }
    // As it was, it is restored.
    restore(&site, &out, &new, &[]).expect(0);
    // And an older file in its place, with the newer checkpoint beside it.
    let ran = restore(&site, &out, &new, &[]).expect(1);
    assert!(ran.err.contains("something in it"), "{}", ran.err);
}

#[test]
fn the_root_key_is_in_a_backup_only_when_that_is_said_and_a_wrong_one_is_named() {
    let site = Site::bare();
    let (plain, with) = (beside(&site, "plain.backup"), beside(&site, "with.backup"));
    backup(&site, &plain, &[]).expect(0);
    let ran = backup(&site, &plain, &[]).expect(1);
    assert!(ran.err.contains("there already"), "{}", ran.err);
    let ran = backup(&site, &with, &["--with-root-key"]).expect(0);
    assert!(ran.err.contains("THE ROOT KEY IS IN IT"), "{}", ran.err);
    let new = beside(&site, "new");
    let bare = |backup: &Path, more: &[&str]| {
        let common = ["restore", text(backup), "--data-dir", text(&new), "--reason", "moved"];
        run(&mut intended(&[&common[..], more].concat()))
    };
    let ran = bare(&plain, &[]).expect(1);
    assert!(ran.err.contains("root key is not in the backup") && ran.err.contains("--root-key-file"), "{}", ran.err);
    let wrong = beside(&site, "wrong.key");
    std::fs::write(&wrong, "5".repeat(64)).unwrap();
    let ran = bare(&plain, &["--root-key-file", text(&wrong)]).expect(1);
    for says in ["key.sealed", "not the root key", "wrong.key", "Nothing was restored"] {
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    }
    assert!(!new.exists());
    nothing_left(&site);
    // A dry run checks all of it and makes nothing.
    let ran = bare(&with, &["--dry-run"]).expect(0);
    assert!(ran.out.contains("holds") && !new.exists(), "{}", ran.out);
    // An empty directory is no obstacle.
    std::fs::create_dir(&new).unwrap();
    bare(&with, &[]).expect(0);
    let key = new.join("root.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    site.view(new).start().unwrap().stop().expect(0);
}

/// `kill -9` at any point: there is nothing, or something whole.
#[test]
fn a_kill_in_the_middle_leaves_nothing_that_looks_good() {
    let (site, server) = Site::new();
    lookups(&site.agent(&server), 0, 400);
    server.stop().expect(0);
    let good = beside(&site, "good.backup");
    let key = site.dir.join("root.key");
    // How long each takes when nobody disturbs it; it is killed at each sixteenth of that.
    let mut whole_takes = [Duration::ZERO; 2];
    let began = Instant::now();
    backup(&site, &good, &[]).expect(0);
    whole_takes[0] = began.elapsed();
    restore(&site, &good, &beside(&site, "undisturbed"), &[]).expect(0);
    whole_takes[1] = began.elapsed().saturating_sub(whole_takes[0]);
    let (mut whole, mut nothing) = (0, 0);
    for n in 0..=16_u32 {
        let (out, new) = (beside(&site, &format!("{n}.backup")), beside(&site, &format!("{n}-new")));
        let mut commands = [
            intended(&["backup", "--data-dir", site.path(), "--out", text(&out)]),
            intended(&[
                "restore",
                text(&good),
                "--data-dir",
                text(&new),
                "--reason",
                "x",
                "--root-key-file",
                text(&key),
            ]),
        ];
        for (command, takes) in commands.iter_mut().zip(whole_takes) {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(takes * n / 16);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if out.exists() {
            let ran = restore(&site, &out, &beside(&site, &format!("{n}-again")), &[]);
            assert_eq!(ran.code, 0, "after {n}: {ran:?}");
        }
        // Its config file is what makes it one, and comes last.
        let made = new.join("intended.toml").exists();
        if made {
            let report = run(&mut intended(&["verify", text(&new), "-o", "json"])).expect(0).json();
            assert_eq!(report["restored"].as_array().unwrap().len(), 1, "{report}");
            assert!(new.join("root.key").exists());
        } else {
            let ran = run(&mut intended(&["serve", "--data-dir", text(&new), "--dry-run"]));
            assert!(ran.code == 1 && ran.err.contains("there is no intended.toml"), "{ran:?}");
        }
        whole += u32::from(out.exists()) + u32::from(made);
        nothing += u32::from(!out.exists()) + u32::from(!made);
        // What is left is no data directory to a server.
        for left in std::fs::read_dir(site.dir.parent().unwrap()).unwrap() {
            let left = left.unwrap().path();
            if left.file_name().unwrap().to_string_lossy().starts_with('.') {
                let ran = run(&mut intended(&["serve", "--data-dir", text(&left), "--dry-run"]));
                assert_eq!(ran.code, 1, "{}: {ran:?}", left.display());
                std::fs::remove_dir_all(left).unwrap();
            }
        }
    }
    assert!(nothing > 0, "{whole} whole, {nothing} nothing");
}

#[test]
fn signing_keys_are_listed_rotated_and_retired_from_the_command_line() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    let decided = agent.post("intents", &intents::lookup("1")).expect(200);
    let rows = |environment: &str| {
        let all = site.data(&server, &["keys", "list", "-e", environment]);
        let row = |k: &Value| (k["kid"].as_str().unwrap().to_owned(), k["status"].as_str().unwrap().to_owned());
        all.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let first = rows("production");
    assert_eq!((first.len(), &*first[0].1), (1, "active"));
    assert_eq!(site.data(&server, &["keys", "list"]).as_array().unwrap().len(), 3);
    let shown = site.cli(&server, &["keys", "list"]).expect(0);
    assert!(shown.out.contains("ADDED_AT") && shown.out.contains("EdDSA"), "{}", shown.out);
    let made = site.data(&server, &["keys", "rotate", "-e", "production", "--alg", "ES256"]);
    let statuses = |e: &str| rows(e).into_iter().map(|(_, status)| status).collect::<Vec<_>>();
    assert_eq!((&made["alg"], &made["retired"]), (&json!("ES256"), &json!([])));
    assert_eq!(statuses("production"), ["active", "previous"]);
    assert_eq!(statuses("staging"), ["active"]);
    assert_eq!(consume(&agent, &decided)["active"], true, "the key before still verifies");
    // At once, for a key that leaked: the name is wanted.
    let decided = agent.post("intents", &intents::lookup("2")).expect(200);
    let leaked = ["keys", "rotate", "-e", "production", "--retire-others", "--reason", "leaked"];
    let ran = site.cli(&server, &leaked).expect(1);
    assert!(ran.err.contains("--confirm production") && ran.err.contains(&first[0].0), "{}", ran.err);
    assert_eq!(statuses("production").len(), 2);
    site.cli(&server, &[&leaked[..], &["--confirm", "production"]].concat()).expect(0);
    assert_eq!(statuses("production"), ["active", "retired", "retired"]);
    assert_eq!(consume(&agent, &decided)["refusal"], "token.key_retired");
    let decided = agent.post("intents", &intents::lookup("3")).expect(200);
    assert_eq!(consume(&agent, &decided)["active"], true);
    let active = rows("production")[0].0.clone();
    let ran =
        site.cli(&server, &["keys", "retire", &active, "-e", "production", "--reason", "x", "--confirm", &active]);
    assert!(ran.code == 6 && ran.err.contains("rotate first"), "{ran:?}");
    site.cli(&server, &["keys", "rotate"]).expect(1);
}

fn shell(dir: &Path, line: &str) {
    let ran = run(Command::new("sh").args(["-euc", line]).current_dir(dir).stdin(Stdio::null()));
    ran.expect(0);
}
