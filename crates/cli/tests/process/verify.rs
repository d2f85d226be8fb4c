//! `verify` of a data directory that somebody has written to: the unsigned tail is held against the
//! store's own head, and the whole against a checkpoint that was kept elsewhere.

use std::path::PathBuf;

use serde_json::json;

use crate::support::{Ran, Site, intended, intents, run};

/// A ledger whose last entry, a halt, is not signed for: the server was killed right after it.
fn killed_after_a_halt() -> (Site, PathBuf, Vec<u8>) {
    let (site, server) = Site::new();
    site.agent(&server).post("intents", &intents::lookup("order-1")).expect(200);
    // Stopped once, so that there is a checkpoint before what is not signed.
    server.stop().expect(0);
    let server = site.start().unwrap();
    let halt = json!({"environment": "production", "reason": "stop"});
    assert!(site.owner(&server).post("emergency/halts", &halt).status < 300);
    server.kill();
    let path = site.dir.join("ledger.db");
    // Brings the write-ahead log into the file.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    connection.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (site, path, bytes)
}

#[track_caller]
fn verified(site: &Site, more: &[&str]) -> Ran {
    run(intended(&["verify", site.path()]).args(more))
}

#[test]
fn an_unsigned_tail_that_was_changed_or_cut_does_not_hold() {
    let (site, path, whole) = killed_after_a_halt();
    let ran = verified(&site, &[]).expect(0);
    assert!(ran.out.contains("not signed for yet"), "{}", ran.out);
    let last = "(SELECT max(id) FROM entries)";
    for (what, change, says) in [
        (
            "the reason of the halt",
            format!(
                "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"stop\"', '\"stay\"') AS BLOB) WHERE id = {last}"
            ),
            "altered",
        ),
        ("one before it", format!("DELETE FROM entries WHERE id = {last} - 1"), "entries are missing or out of order"),
        ("what was signed for", format!("DELETE FROM entries WHERE id >= {last} - 1"), "beyond its entries"),
        (
            "a control entry that is not counted",
            format!("UPDATE entries SET control_version = control_version - 1 WHERE id = {last}"),
            // Where something that is no entry was written after it, another head says what is true.
            "counts other control entries|heads contradict each other",
        ),
        (
            "a block that is none",
            "INSERT INTO blocks SELECT number << 40, zeroblob(32) FROM tenants".to_owned(),
            "blocks",
        ),
    ] {
        std::fs::write(&path, &whole).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        assert!(connection.execute(&change, []).unwrap() > 0, "{what}");
        connection.close().unwrap();
        let ran = verified(&site, &[]);
        assert_eq!(ran.code, 8, "{what}: {ran:?}");
        let said = says.split('|').any(|says| ran.err.contains(says));
        assert!(said && !ran.out.contains("holds"), "{what}: {ran:?}");
    }
}

#[test]
fn a_block_that_was_changed_does_not_hold_and_is_named() {
    let (site, server) = Site::new();
    let agent = site.agent(&server);
    for n in 0..260 {
        agent.post("intents", &intents::lookup(&format!("order-{n}"))).expect(200);
    }
    server.stop().expect(0);
    verified(&site, &[]).expect(0);
    let connection = rusqlite::Connection::open(site.dir.join("ledger.db")).unwrap();
    assert_eq!(connection.execute("UPDATE blocks SET root = zeroblob(32)", []).unwrap(), 1);
    connection.close().unwrap();
    let ran = verified(&site, &[]).expect(8);
    assert!(ran.err.contains("the entries 0 to 255 do not have the root that the store keeps"), "{}", ran.err);
}

#[test]
fn a_copy_that_was_put_back_does_not_hold_against_a_kept_checkpoint() {
    let (site, server) = Site::new();
    server.stop().expect(0);
    let path = site.dir.join("ledger.db");
    let old = std::fs::read(&path).unwrap();
    let server = site.start().unwrap();
    site.agent(&server).post("intents", &intents::lookup("order-1")).expect(200);
    let note = site.owner(&server).get("audit/checkpoint").expect(200)["checkpoint"].as_str().unwrap().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let kept = elsewhere.path().join("kept.note");
    std::fs::write(&kept, &note).unwrap();
    let kept = kept.to_str().unwrap();
    let export = elsewhere.path().join("ledger.jsonl");
    let export = export.to_str().unwrap();
    site.cli(&server, &["audit", "export", export]).expect(0);
    server.stop().expect(0);
    verified(&site, &["--checkpoint", kept]).expect(0);
    run(&mut intended(&["verify", export, "--checkpoint", kept])).expect(0);
    // Of another ledger, or of none.
    let other = elsewhere.path().join("other.note");
    std::fs::write(&other, note.replace("intended/", "intended/x")).unwrap();
    for path in [site.path(), export] {
        run(&mut intended(&["verify", path, "--checkpoint", other.to_str().unwrap()])).expect(8);
    }
    std::fs::write(&path, &old).unwrap();
    // By itself it is whole.
    verified(&site, &[]).expect(0);
    let ran = verified(&site, &["--checkpoint", kept]).expect(8);
    assert!(ran.err.contains("taken back") && !ran.out.contains("holds"), "{ran:?}");
}
