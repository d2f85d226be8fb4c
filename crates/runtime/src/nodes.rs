//! The nodes that serve a tenant. Each writes down a few times a minute that it is there, and how it is;
//! one that has not for a while is gone, whatever it said last.
//!
//! That is a working note and no state: nothing is decided by it, the ledger has nothing of it, and it
//! is written as of the ledger's own time, so that an idle node does not move that on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use intended_engine::keys;
use intended_model::{Name, Timestamp};
use intended_store::{Commit, Write};
use serde::{Deserialize, Serialize};

use crate::health::{Check, Status};
use crate::{Runtime, RuntimeError, Tenant};

/// How often a node says something, in seconds.
pub const BEAT_SECS: u64 = 15;
/// After three that did not come.
const LATE_MS: i64 = 3 * 15_000;
/// A node that was taken away without saying so is listed for a day.
const FORGOTTEN_MS: i64 = 24 * 3_600_000;
/// Most nodes of a tenant that are listed.
const MAX_NODES: usize = 1_000;

/// A check that was not healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub component: Box<str>,
    pub check: Box<str>,
    pub status: Box<str>,
}

/// What is written down. Newer releases may write more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    beat_at: Timestamp,
    control: u64,
    /// Tells a process from another one of the same name.
    run: Box<str>,
    started_at: Timestamp,
    status: Box<str>,
    trouble: Vec<Trouble>,
    version: Box<str>,
}

/// A node as it is seen from this one.
#[derive(Debug, Clone)]
pub struct Node {
    pub node: Name,
    /// Whether it is the one that answers.
    pub here: bool,
    pub version: Box<str>,
    pub started_at: Timestamp,
    pub beat_at: Timestamp,
    /// It should have said something since.
    pub late: bool,
    /// What it said; `unavailable` when it is late.
    pub status: Box<str>,
    pub trouble: Vec<Trouble>,
    /// The control version that it has folded in.
    pub control: u64,
}

/// Who this process is to others.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    name: OnceLock<Name>,
    /// Of this process alone.
    run: OnceLock<Box<str>>,
    twin: AtomicBool,
    beaten: AtomicBool,
}

impl Runtime {
    /// Names this node, once, before it says anything.
    pub fn name_node(&self, name: Name) {
        let _ = self.identity.name.set(name);
    }
    /// How others call it.
    pub fn node(&self) -> Result<&Name, RuntimeError> {
        if let Some(name) = self.identity.name.get() {
            return Ok(name);
        }
        let short = self.run()?.get(..8).unwrap_or_default();
        let made_up = Name::new(&format!("node-{short}")).map_err(RuntimeError::internal)?;
        Ok(self.identity.name.get_or_init(|| made_up))
    }
    fn run(&self) -> Result<&str, RuntimeError> {
        if let Some(run) = self.identity.run.get() {
            return Ok(run);
        }
        let run = self.random_id()?;
        Ok(self.identity.run.get_or_init(|| run.into()))
    }
    /// Whether another process says that it is this node.
    pub(crate) fn has_twin(&self) -> bool {
        self.identity.twin.load(Ordering::Acquire)
    }

    /// Says to every tenant that this node is there, and how it is. One that it cannot be said to keeps it
    /// from no other.
    pub async fn beat(&self) -> Result<(), RuntimeError> {
        let (checks, first) = self.before_beat().await;
        let mut said = Ok(());
        for tenant in self.tenants() {
            let told = self.beat_to(&tenant, &checks, first).await;
            if let Err(error) = &told {
                tracing::warn!(tenant = %tenant.id, %error, "it was not said that this node is there");
            }
            said = said.and(told);
        }
        said
    }

    /// How this node is, and whether it says so for the first time.
    pub(crate) async fn before_beat(&self) -> (Vec<Check>, bool) {
        let checks = self.health().await;
        (checks, !self.identity.beaten.swap(true, Ordering::AcqRel))
    }

    pub(crate) async fn beat_to(&self, tenant: &Tenant, checks: &[Check], first: bool) -> Result<(), RuntimeError> {
        let run = self.run()?;
        let key = keys::node(self.node()?);
        if let Some(before) = self.store().fact_now(&tenant.id, &key)? {
            let other = serde_json::from_slice::<Said>(&before.value).is_ok_and(|s| *s.run != *run);
            // What a process before this one left is no twin.
            self.identity.twin.store(other && !first, Ordering::Release);
        }
        let mut writes = Vec::new();
        if first && self.store().alone() {
            // Whoever wrote here before has gone: nobody else can.
            let left = self.store().facts(&tenant.id, keys::NODE_PREFIX, "", MAX_NODES).await?;
            writes.extend(left.into_iter().map(|(key, _)| Write::Delete { key: key.into() }));
        }
        let said = self.in_short(tenant, checks)?;
        writes.push(Write::Put {
            key: key.as_str().into(),
            value: serde_json::to_vec(&said).map_err(RuntimeError::internal)?,
            expires_at: Some(said.beat_at.plus_millis(FORGOTTEN_MS)),
        });
        self.jot(tenant, writes).await
    }

    /// Says that this node goes.
    pub(crate) async fn leave(&self) -> Result<(), RuntimeError> {
        if !self.identity.beaten.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = keys::node(self.node()?);
        for tenant in self.tenants() {
            self.jot(&tenant, vec![Write::Delete { key: key.as_str().into() }]).await?;
        }
        Ok(())
    }

    async fn jot(&self, tenant: &Tenant, writes: Vec<Write>) -> Result<(), RuntimeError> {
        let now = self.store().head(&tenant.id).await?.at;
        let (reads, entries) = (Vec::new(), Vec::new());
        let commit = Commit { tenant: tenant.id.clone(), now, control_version: None, reads, writes, entries };
        self.follower.commit(commit).await?;
        Ok(())
    }

    fn in_short(&self, tenant: &Tenant, checks: &[Check]) -> Result<Said, RuntimeError> {
        // Of its own and of what is everyone's; how other nodes are is theirs to say.
        let own = |c: &&Check| c.tenant.as_ref().is_none_or(|t| *t == tenant.id) && c.check != "nodes";
        let status = checks.iter().filter(own).map(|c| c.status).max().unwrap_or(Status::Healthy);
        let troubled = checks.iter().filter(own).filter(|c| c.status > Status::Healthy);
        let mut trouble: Vec<Trouble> = troubled
            .map(|c| Trouble { component: c.component.into(), check: c.check.into(), status: c.status.as_str().into() })
            .collect();
        trouble.dedup();
        Ok(Said {
            beat_at: self.now(),
            control: tenant.state().control,
            run: self.run()?.into(),
            started_at: self.started(),
            status: status.as_str().into(),
            trouble,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// All nodes that serve a tenant, by name: this one as it is, given its checks, the others as they
    /// said.
    pub async fn nodes(&self, tenant: &Tenant, checks: &[Check]) -> Result<Vec<Node>, RuntimeError> {
        let mut nodes = self.other_nodes(tenant).await?;
        let said = self.in_short(tenant, checks)?;
        nodes.push(self.seen(self.node()?.clone(), said, true));
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(nodes)
    }

    pub(crate) async fn other_nodes(&self, tenant: &Tenant) -> Result<Vec<Node>, RuntimeError> {
        let own = self.node()?;
        let facts = self.store().facts(&tenant.id, keys::NODE_PREFIX, "", MAX_NODES).await?;
        let read = facts.into_iter().filter_map(|(key, fact)| {
            let name = Name::new(key.strip_prefix(keys::NODE_PREFIX)?).ok().filter(|n| n != own)?;
            let said: Said = serde_json::from_slice(&fact.value).ok()?;
            Some(self.seen(name, said, false))
        });
        Ok(read.filter(|n| self.now().millis_since(n.beat_at) < FORGOTTEN_MS).collect())
    }

    fn seen(&self, node: Name, said: Said, here: bool) -> Node {
        let late = !here && self.now().millis_since(said.beat_at) > LATE_MS;
        Node {
            node,
            here,
            late,
            version: said.version,
            started_at: said.started_at,
            beat_at: said.beat_at,
            status: if late { Status::Unavailable.as_str().into() } else { said.status },
            trouble: said.trouble,
            control: said.control,
        }
    }
}
