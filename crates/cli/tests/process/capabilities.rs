//! `intended capabilities` against a real server: what a tenant has, and what it says of a store that
//! was damaged while the server runs.

use serde_json::json;

use crate::support::{Site, intents};

#[test]
fn capabilities_are_tried_on_a_real_server_and_what_was_damaged_ends_with_5() {
    let (site, server) = Site::new();
    site.agent(&server).post("intents", &intents::refund(1)).expect(200);
    let cli = |arguments: &[&str]| site.cli(&server, arguments);
    let ran = cli(&["capabilities"]).expect(0);
    assert!(ran.out.starts_with("CAPABILITY") || ran.out.trim_start().starts_with("CAPABILITY"), "{}", ran.out);
    for part in ["gates", "working", "webhooks", "not configured", " ms"] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(ran.err.contains("0 unavailable"), "{}", ran.err);

    let ran = cli(&["capabilities", "--area", "emergency", "--verbose"]).expect(0);
    for part in
        ["halt: working", "claim ", "probe ", "docs/emergency.md#stop-it", "crates/testkit/tests/it/emergency.rs::i2_"]
    {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(!ran.out.contains("gates:"), "of that area alone\n{}", ran.out);
    let unset = cli(&["capabilities", "--status", "not-configured", "-o", "json"]).expect(0).json();
    let rows = unset["capabilities"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|r| r["status"] == json!("not configured")), "{unset}");
    cli(&["capabilities", "--area", "weather"]).expect(1);

    // What was written is changed under the server: the row says which entry, and the command what it is.
    let newest = site.data(&server, &["audit", "query", "--kind", "decision", "--limit", "1"]);
    let index = newest[0]["index"].as_i64().unwrap();
    let file = std::path::Path::new(site.path()).join(intended_store_sqlite::FILE);
    let connection = rusqlite::Connection::open(file).unwrap();
    let leaf: Vec<u8> = connection
        .query_row("SELECT leaf FROM entries WHERE id & ((1 << 40) - 1) = ?1", [index], |row| row.get(0))
        .unwrap();
    let changed = String::from_utf8(leaf).unwrap().replacen("stripe", "strype", 1).into_bytes();
    let update = "UPDATE entries SET leaf = ?1 WHERE id & ((1 << 40) - 1) = ?2";
    assert_eq!(connection.execute(update, rusqlite::params![changed, index]).unwrap(), 1);
    crate::support::until("the row changes", || {
        let ran = cli(&["capabilities", "--status", "unavailable"]);
        ran.code == 5 && ran.out.contains("replay") && ran.out.contains(&format!("entry {index}"))
    });
}
