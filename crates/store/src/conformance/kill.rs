//! A process that is killed while it commits: only what it was told counts.
//!
//! An engine's test runs itself again as the child: the child calls [`write_until_killed`], the
//! parent [`what_a_killed_process_was_told_is_there`].

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

/// Commits that the child has under way at any time.
const WRITERS: u64 = 8;
/// What an acknowledgement's line starts with.
const ACKNOWLEDGED: &str = "acknowledged ";

/// Appends and counts, with an acknowledgement on stdout after each commit, until the process ends.
pub async fn write_until_killed(store: Arc<dyn Store>) {
    let acme = tenant("acme");
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, acme) = (Arc::clone(&store), acme.clone());
        tasks.spawn(async move {
            for n in 0.. {
                let commit =
                    Commit { writes: vec![add("count", 1, i64::MAX)], ..appending(&acme, n * WRITERS + writer) };
                let committed = store.commit(commit).await.unwrap();
                let leaf = leaf_hash(&committed.leaves[0]);
                let line = format!("{ACKNOWLEDGED}{} {leaf}\n", committed.first_index);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// Kills the child that `writer` describes with SIGKILL, again and again, each time a little later,
/// and holds what is stored against everything any of them was told.
pub async fn what_a_killed_process_was_told_is_there<W: Fn() -> Command>(place: &dyn Place, writer: W) {
    let (store, acme) = with_acme(place).await;
    drop(store);
    let mut told = BTreeMap::new();
    let mut unacknowledged = 0;
    for round in 0..12 {
        let mut child = writer().stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let kill_after = 1 + round * 17;
        let heard = tokio::task::spawn_blocking(move || {
            let mut heard = Vec::new();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut alive = true;
            // What was said before the kill is read to its end: it was said.
            while let Some(Ok(line)) = lines.next() {
                let Some((_, said)) = line.split_once(ACKNOWLEDGED) else { continue };
                // The last line may have been cut.
                if let Some((index, leaf)) = said.split_once(' ').filter(|(_, leaf)| leaf.len() == 44) {
                    heard.push((index.parse::<u64>().unwrap(), leaf.to_owned()));
                }
                if alive && heard.len() > kill_after {
                    child.kill().unwrap();
                    alive = false;
                }
            }
            child.wait().unwrap();
            assert!(!alive, "the child ended by itself after {} acknowledgements", heard.len());
            heard
        });
        for (index, leaf) in heard.await.unwrap() {
            assert_eq!(told.insert(index, leaf), None, "index {index} was given twice, round {round}");
        }
        let store = place.open().await;
        settle(&store, &acme).await;
        let stored = check_ledger(&store, &acme).await;
        for (index, leaf) in &told {
            let found = stored.get(*index as usize).map(|entry| leaf_hash(&entry.leaf).to_string());
            assert_eq!(found.as_ref(), Some(leaf), "entry {index} was acknowledged, round {round}");
        }
        // An entry and its facts are one.
        assert_eq!(store.counter_now(&acme, "count"), Ok(stored.len() as i64), "round {round}");
        unacknowledged = stored.len() - told.len();
    }
    // The kills came in the middle of commits, not between them.
    assert!(unacknowledged > 0, "no commit was under way at any kill");
}
