//! The engine keeps the contract's promises, and its own about files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::sync::Arc;

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
            store.commit(commit(&n.to_string(), Vec::new())).await.unwrap();
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
            "INSERT INTO entries SELECT max(id) + 1, at, control, subject, leaf FROM entries",
            "UPDATE blocks SET root = zeroblob(32)",
            "DELETE FROM blocks",
            "UPDATE tenants SET frontier = zeroblob(8)",
            "UPDATE tenants SET frontier = zeroblob(7)",
            "UPDATE tenants SET next_version = -1",
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
        assert_eq!(reading.head(&acme()).unwrap().frontier.size(), 1);
        store.commit(commit("1", Vec::new())).await.unwrap();
        assert_eq!(reading.head(&acme()).unwrap().frontier.size(), 1, "one snapshot");
        assert_eq!(reading.entries(&acme(), 0, 9).unwrap().len(), 1);
        assert_eq!(ReadOnly::open(dir.path()).unwrap().head(&acme()).unwrap().frontier.size(), 2);
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
}
