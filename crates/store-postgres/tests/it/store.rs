//! The engine keeps the contract's promises, on a server that the test starts and stops.

use std::process::{Command, Stdio};
use std::sync::Arc;

use intended_store::conformance::{CHECKS, Place, commits, kill};
use intended_store::{BoxFuture, Store};
use intended_store_postgres::PostgresStore;

use crate::server::Server;

struct Schema(String);

impl Place for Schema {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async move { Arc::new(PostgresStore::open(&self.0).await.unwrap()) as Arc<dyn Store> })
    }
}

/// One test, because all checks share one server: starting it takes longer than they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let server = Server::start(&["fsync=off"]).await;
    let mut broken = Vec::new();
    for (name, check) in CHECKS {
        server.admin(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let place = Schema(server.url(name));
        let check = tokio::spawn(async move { check(&place).await });
        if let Err(error) = check.await {
            broken.push((name, error.to_string()));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    // The row's creator is its transaction: tenants do share them.
    let shared = "SELECT count(*)::text FROM (SELECT FROM many_tenants_share_a_batch_and_nothing_else.entries \
                  GROUP BY xmin::text HAVING count(DISTINCT tenant) > 1) AS transactions";
    assert_ne!(server.ask(shared).await, "0", "each tenant's commits went down by themselves");

    // A stricter default of the database does not turn fencing into failures.
    server.admin("CREATE SCHEMA strict").await.unwrap();
    let url = server.url("strict").replace("'-c", "'-c default_transaction_isolation=serializable -c");
    commits::two_writers_on_two_connections_are_fenced(&Schema(url)).await;

    server.admin("CREATE SCHEMA killed").await.unwrap();
    let url = server.url("killed");
    kill::what_a_killed_process_was_told_is_there(&Schema(url.clone()), || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "store::child", "--ignored", "--nocapture"])
            .env("CHILD_URL", &url)
            .stdin(Stdio::null());
        command
    })
    .await;
}

/// Commits until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the other test starts and kills"]
async fn child() {
    let Ok(url) = std::env::var("CHILD_URL") else { return };
    kill::write_until_killed(Schema(url).open().await).await;
}
