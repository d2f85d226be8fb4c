//! The engine keeps the contract's promises, and its own about files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::sync::{Arc, Mutex, Weak};

use intended_store::conformance::Place;
use intended_store::{BoxFuture, Store};
use intended_store_sqlite::{Options, SqliteStore};

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Place for Directory {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        let options = Options { shared: true, ..Options::default() };
        Box::pin(async move { Arc::new(SqliteStore::open(self.0.path(), &options).unwrap()) as Arc<dyn Store> })
    }
}

intended_store::conformance_suite!(Directory::new());

/// The suite again with the directory locked: heads and subjects from memory. What the suite opens
/// while it is open is the same store: two at once are what the lock refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_with_the_directory_locked() {
    struct Locked(tempfile::TempDir, Mutex<Weak<SqliteStore>>);
    impl Place for Locked {
        fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
            Box::pin(async move {
                let mut current = self.1.lock().unwrap();
                let store = current
                    .upgrade()
                    .unwrap_or_else(|| Arc::new(SqliteStore::open(self.0.path(), &Options::default()).unwrap()));
                *current = Arc::downgrade(&store);
                store as Arc<dyn Store>
            })
        }
    }
    for (_, check) in intended_store::conformance::CHECKS {
        check(&Locked(tempfile::tempdir().unwrap(), Mutex::default())).await;
    }
}

mod files {
    use std::path::Path;
    use std::sync::Arc;

    use intended_model::{TenantId, Timestamp};
    use intended_store::{Commit, NewEntry, Store, StoreError, Write};
    use intended_store_sqlite::{FILE, Options, ReadOnly, SqliteStore};

    fn acme() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    fn commit(body: &str, writes: Vec<Write>) -> Commit {
        let entry = NewEntry { kind: "test".into(), control: false, subject: None, body: format!("\"{body}\"").into() };
        Commit {
            tenant: acme(),
            now: Timestamp::from_millis(1),
            control_version: None,
            reads: Vec::new(),
            writes,
            entries: vec![entry],
        }
    }

    fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(dir, &Options::default())
    }

    /// A closed store with this many entries.
    async fn written(dir: &Path, entries: u64) {
        let store = open(dir).unwrap();
        store.create_tenant(&acme()).await.unwrap();
        for n in 0..entries {
            let first = Write::Put { key: "first".into(), value: Vec::new(), expires_at: None };
            store.commit(commit(&n.to_string(), if n == 0 { vec![first] } else { Vec::new() })).await.unwrap();
        }
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_is_served_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::Locked(_))));
        drop(store);
        open(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn what_does_not_lead_to_the_heads_root_is_named_and_not_served() {
        let changes = [
            "UPDATE entries SET leaf = CAST(replace(leaf, '\"299\"', '\"298\"') AS BLOB) WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE entries SET at = 2 WHERE id = (SELECT max(id) FROM entries)",
            "DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)",
            "INSERT INTO entries SELECT max(id) + 1, at, control, subject, root, control_version, last_at, next_version, leaf FROM entries",
            "UPDATE blocks SET root = zeroblob(32)",
            "DELETE FROM blocks",
            "UPDATE blocks SET id = id + 1",
            "INSERT INTO blocks SELECT id + 1, root FROM blocks",
            "UPDATE tenants SET root = zeroblob(32)",
            "UPDATE tenants SET root = zeroblob(31)",
            "UPDATE tenants SET size = 0",
            "UPDATE tenants SET size = 299",
            "UPDATE tenants SET size = 301",
            "UPDATE tenants SET size = -1",
            "UPDATE tenants SET control_version = 1",
            "UPDATE tenants SET last_at = 0",
            "UPDATE tenants SET next_version = -1",
            "UPDATE tenants SET next_version = 1",
            "UPDATE entries SET control = 1 WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE entries SET root = NULL",
            "UPDATE entries SET root = zeroblob(32) WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE entries SET control_version = 1 WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE entries SET last_at = last_at + 1 WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE entries SET next_version = next_version + 1 WHERE id = (SELECT max(id) FROM entries)",
            "UPDATE facts SET version = 99",
            "UPDATE migrations SET checksum = 'other'",
            "INSERT INTO migrations VALUES (999, 'newer')",
            "PRAGMA application_id = 7",
        ];
        let whole = tempfile::tempdir().unwrap();
        written(whole.path(), 300).await;
        drop(open(whole.path()).unwrap());
        for change in changes {
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(whole.path().join(FILE), dir.path().join(FILE)).unwrap();
            rusqlite::Connection::open(dir.path().join(FILE)).unwrap().execute_batch(change).unwrap();
            let outcome = open(dir.path());
            assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{change}: {outcome:?}");
        }
    }

    fn about(subject: u8) -> Commit {
        let mut commit = commit(&subject.to_string(), Vec::new());
        commit.entries[0].subject = Some([subject; 16]);
        commit.entries[0].control = subject == 3;
        commit
    }

    /// What a store must say of a ledger whose entry `n` is about `n % 7`.
    async fn is_whole(store: &SqliteStore, dir: &Path, size: u64) {
        let reading = ReadOnly::open(dir).unwrap();
        let head = store.head(&acme()).await.unwrap();
        assert_eq!((head.size, reading.head(&acme()).unwrap().root), (size, head.root));
        assert_eq!(store.root_at(&acme(), size).await.unwrap(), head.root);
        assert_eq!(head.control_version, (0..size).filter(|n| n % 7 == 3).count() as u64);
        for subject in 0..8 {
            let expected: Vec<u64> = (0..size).filter(|n| n % 7 == u64::from(subject)).collect();
            for found in [
                store.entries_of(&acme(), [subject; 16]).await.unwrap(),
                reading.entries_of(&acme(), [subject; 16]).unwrap(),
            ] {
                assert_eq!(found.iter().map(|e| e.index).collect::<Vec<_>>(), expected, "subject {subject} of {size}");
            }
        }
    }

    /// Sizes around a fold, with facts alone in between, let go and opened again at each of them.
    #[tokio::test]
    async fn heads_and_subjects_are_the_same_before_and_after_a_fold_and_a_kill() {
        for shared in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let options = Options { shared, ..Options::default() };
            let open = || SqliteStore::open(dir.path(), &options).unwrap();
            let mut store = open();
            store.create_tenant(&acme()).await.unwrap();
            let mut version = 0;
            for n in 0..600_u64 {
                store.commit(about((n % 7) as u8)).await.unwrap();
                if [1, 2, 254, 255, 256, 257, 300, 511, 512, 598].contains(&n) {
                    is_whole(&store, dir.path(), n + 1).await;
                    drop(store);
                    store = open();
                    is_whole(&store, dir.path(), n + 1).await;
                }
                if [2, 256, 300, 590].contains(&n) {
                    // A head without an entry to stand in.
                    let put = vec![Write::Put { key: "f".into(), value: vec![1], expires_at: None }];
                    let facts =
                        Commit { entries: Vec::new(), now: Timestamp::from_millis(n as i64), ..commit("", put) };
                    store.commit(facts.clone()).await.unwrap();
                    drop(store);
                    store = open();
                    store.commit(facts).await.unwrap();
                    let fact = store.fact_now(&acme(), "f").unwrap().unwrap();
                    assert!(fact.version > version, "a version never comes again");
                    version = fact.version;
                    assert_eq!(store.head(&acme()).await.unwrap().at.as_millis(), n as i64);
                    is_whole(&store, dir.path(), n + 1).await;
                }
            }
            store.close().await.unwrap();
            drop(store);
            is_whole(&open(), dir.path(), 600).await;
        }
    }

    #[tokio::test]
    async fn two_writers_find_what_the_other_has_not_folded() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { shared: true, ..Options::default() };
        let stores = [0, 1].map(|_| SqliteStore::open(dir.path(), &options).unwrap());
        stores[0].create_tenant(&acme()).await.unwrap();
        for n in 0..530_u64 {
            stores[(n / 3 % 2) as usize].commit(about((n % 7) as u8)).await.unwrap();
            if n % 53 == 0 || n % 256 > 253 {
                for store in &stores {
                    is_whole(store, dir.path(), n + 1).await;
                }
            }
        }
        stores[1].close().await.unwrap();
        is_whole(&stores[0], dir.path(), 530).await;
        stores[0].commit(about(5)).await.unwrap();
        is_whole(&stores[0], dir.path(), 531).await;
    }

    #[tokio::test]
    async fn what_was_not_folded_is_held_against_its_head_too() {
        let whole = tempfile::tempdir().unwrap();
        let store = open(whole.path()).unwrap();
        store.create_tenant(&acme()).await.unwrap();
        for n in 0..300_u64 {
            store.commit(about((n % 7) as u8)).await.unwrap();
        }
        drop(store);
        let last = "WHERE id = (SELECT max(id) FROM entries)";
        for change in [
            &format!("UPDATE entries SET root = zeroblob(32) {last}"),
            &format!("UPDATE entries SET root = NULL {last}"),
            &format!("UPDATE entries SET control_version = control_version - 1 {last}"),
            &format!("UPDATE entries SET last_at = at - 1 {last}"),
            &format!("UPDATE entries SET next_version = 0 {last}"),
            "UPDATE entries SET control = 0 WHERE id = (SELECT max(id) FROM entries WHERE control = 1)",
            "UPDATE tenants SET size = 255",
            "UPDATE tenants SET root = zeroblob(32)",
            "UPDATE tenants SET control_version = control_version - 1",
            "UPDATE tenants SET last_at = 2",
            "UPDATE tenants SET next_version = 2",
            "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id DESC LIMIT 45)",
        ] {
            let dir = tempfile::tempdir().unwrap();
            for file in [FILE.to_owned(), format!("{FILE}-wal")] {
                std::fs::copy(whole.path().join(&file), dir.path().join(&file)).unwrap();
            }
            drop(open(dir.path()).unwrap());
            let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
            assert_eq!(connection.execute(change, []).unwrap().min(1), 1);
            drop(connection);
            let outcome = open(dir.path());
            assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{change}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_damaged_file_never_gives_other_entries_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 40).await;
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        let mut refused = 0;
        for at in (0..whole.len()).step_by(397) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(dir.path().join(FILE), &bytes).unwrap();
            match open(dir.path()) {
                Err(StoreError::Corrupt(_) | StoreError::Unavailable(_) | StoreError::ReadOnly(_)) => refused += 1,
                Err(error) => panic!("byte {at}: {error}"),
                Ok(store) => {
                    let entries = store.entries(&acme(), 0, 100).await.unwrap_or_default();
                    assert!(entries.is_empty() || entries.len() == 40, "byte {at}");
                    for (n, entry) in entries.iter().enumerate() {
                        assert!(
                            String::from_utf8_lossy(&entry.leaf).contains(&format!("\"body\":\"{n}\"")),
                            "byte {at}"
                        );
                    }
                }
            }
        }
        assert!(refused > 0);
    }

    #[tokio::test]
    async fn a_file_of_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "not a database, but long enough to look like one ".repeat(200)).unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::Corrupt(_))));
        let dir = tempfile::tempdir().unwrap();
        rusqlite::Connection::open(dir.path().join(FILE)).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::Corrupt(_))));
    }

    #[tokio::test]
    async fn a_full_disk_refuses_and_the_store_recovers_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &Options { max_bytes: Some(2 << 20), ..Options::default() }).unwrap();
        store.create_tenant(&acme()).await.unwrap();
        let put = |n| vec![Write::Put { key: format!("f/{n}").into(), value: vec![0; 100_000], expires_at: None }];
        let mut written = 0;
        let error = loop {
            match store.commit(commit("x", put(written))).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((error.code(), error.retryable()), ("store.full", true));
        let health = store.health().await;
        assert!(!health.writable && health.detail.contains("full"), "{health:?}");
        assert_eq!(store.head(&acme()).await.unwrap().size, written, "nothing of it is there");
        assert_eq!(store.fact_now(&acme(), &format!("f/{written}")).unwrap(), None);
        // Room, and it goes on by itself.
        let gone = (0..written).map(|n| Write::Delete { key: format!("f/{n}").into() }).collect();
        store.commit(commit("y", gone)).await.unwrap();
        assert!(store.health().await.writable);
        store.commit(commit("z", put(0))).await.unwrap();
        drop(store);
        assert_eq!(open(dir.path()).unwrap().head(&acme()).await.unwrap().size, written + 2);
    }

    #[tokio::test]
    async fn a_ledger_is_read_while_it_is_served_and_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ReadOnly::open(dir.path()).is_err());
        let store = open(dir.path()).unwrap();
        store.create_tenant(&acme()).await.unwrap();
        store.commit(commit("0", Vec::new())).await.unwrap();
        let reading = ReadOnly::open(dir.path()).unwrap();
        assert_eq!(reading.head(&acme()).unwrap().size, 1);
        store.commit(commit("1", Vec::new())).await.unwrap();
        assert_eq!(reading.head(&acme()).unwrap().size, 1, "one snapshot");
        assert_eq!(reading.entries(&acme(), 0, 9).unwrap().len(), 1);
        assert_eq!(ReadOnly::open(dir.path()).unwrap().head(&acme()).unwrap().size, 2);
        drop((store, reading));
        assert_eq!(ReadOnly::open(dir.path()).unwrap().entries(&acme(), 0, 9).unwrap().len(), 2, "after a kill");
        open(dir.path()).unwrap().close().await.unwrap();
        assert_eq!(ReadOnly::open(dir.path()).unwrap().entries(&acme(), 0, 9).unwrap().len(), 2, "after closing");
        assert_eq!(std::fs::metadata(dir.path().join(FILE).with_extension("db-wal")).map_or(0, |m| m.len()), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_log_starts_over_under_constant_load() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(dir.path()).unwrap());
        store.create_tenant(&acme()).await.unwrap();
        let body = "x".repeat(250_000);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (store, body) = (Arc::clone(&store), body.clone());
            tasks.spawn(async move {
                for _ in 0..200 {
                    store.commit(commit(&body, Vec::new())).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        let log = store.health().await.wal_bytes.unwrap();
        assert!(log < 120 << 20, "200 MB were written, the log has {log} bytes");
    }

    #[tokio::test]
    async fn a_full_disk_is_over_when_what_a_decision_needs_fits() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), &Options { max_bytes: Some(1 << 20), ..Options::default() }).unwrap();
        store.create_tenant(&acme()).await.unwrap();
        let put = || vec![Write::Put { key: "checkpoint".into(), value: b"1".to_vec(), expires_at: None }];
        store.commit(commit("0", put())).await.unwrap();
        let large = "x".repeat(2 << 20);
        assert!(matches!(store.commit(commit(&large, Vec::new())).await, Err(StoreError::Full(_))));
        // A fact written in place needs no room and says nothing about it: what a decision needs is tried.
        assert!(!store.health().await.writable);
        store.commit(Commit { entries: Vec::new(), ..commit("", put()) }).await.unwrap();
        assert!(store.health().await.writable, "there is room for what a decision needs");
        let body = "x".repeat(16 << 10);
        while store.commit(commit(&body, Vec::new())).await.is_ok() {}
        for _ in 0..3 {
            store.commit(Commit { entries: Vec::new(), ..commit("", put()) }).await.unwrap();
            assert!(!store.health().await.writable, "a fact fits where a decision does not");
        }
        store.commit(commit("1", Vec::new())).await.unwrap();
        assert!(store.health().await.writable, "an entry that fits shows that entries fit");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn commits_get_through_while_facts_are_purged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(dir.path()).unwrap());
        store.create_tenant(&acme()).await.unwrap();
        let expires_at = Some(Timestamp::from_millis(1));
        let put = |n| Write::Put { key: format!("f/{n}").into(), value: Vec::new(), expires_at };
        store.commit(commit("", (0..2_000).map(put).collect())).await.unwrap();
        let purge = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.purge_expired(Timestamp::from_millis(2)).await }
        });
        let mut between = 0;
        while !purge.is_finished() {
            store.commit(commit("x", Vec::new())).await.unwrap();
            between += 1;
        }
        assert_eq!(purge.await.unwrap(), Ok(2_000));
        assert!(between >= 30, "{between} commits in 40 steps");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_bounded_by_its_bytes_too() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { shared: true, ..Options::default() };
        let store = Arc::new(SqliteStore::open(dir.path(), &options).unwrap());
        store.create_tenant(&acme()).await.unwrap();
        // Somebody else is writing: everything waits.
        let other = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let body = "x".repeat(1 << 20);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (store, commit) = (Arc::clone(&store), commit(&body, Vec::new()));
            tasks.spawn(async move { store.commit(commit).await.map(drop) });
        }
        let mut refused = 0;
        while refused < 25 {
            assert_eq!(tasks.join_next().await.unwrap().unwrap(), Err(StoreError::Overloaded));
            refused += 1;
        }
        other.execute_batch("ROLLBACK").unwrap();
        let rest = tasks.join_all().await;
        assert!(rest.iter().filter(|outcome| outcome.is_ok()).count() >= 64);
        // What was written waits no more.
        store.commit(commit(&body, Vec::new())).await.unwrap();
    }
}
