//! The engine keeps the contract's promises, and its own about files.

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
