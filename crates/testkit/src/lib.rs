//! The whole runtime for tests: a real store in a temporary directory, a clock that stands still, a
//! seeded generator, a tenant that is set up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use intended_keyring::{RngError, RngSource, RootKey};
use intended_model::decision::DataClass;
use intended_model::entry::{
    AgentSet, AgentState, BODY_VERSION, Budget, CapabilitySet, Criticality, EmergencyRules, Settings, Tier,
};
use intended_model::{EnvironmentId, Event, Intent, Name, TenantId};
use intended_runtime::admin::Change;
use intended_runtime::{ManualClock, Principal, Runtime, RuntimeError};
use intended_store::Store as _;
use intended_store_sqlite::{Options, SqliteStore};

/// A Tuesday at noon, UTC.
pub const NOON: i64 = 1_795_521_600_000;

/// A generator that gives the same bytes for the same seed.
#[derive(Debug)]
pub struct SeededRng(AtomicU64);

impl SeededRng {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl RngSource for SeededRng {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RngError> {
        for chunk in bytes.chunks_mut(8) {
            // SplitMix64 over a counter.
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let word = (z ^ (z >> 31)).to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
        Ok(())
    }
}

/// A runtime with one tenant, `acme`, and its owner.
pub struct World {
    pub runtime: Arc<Runtime>,
    pub clock: Arc<ManualClock>,
    pub owner: Principal,
    pub owner_key: String,
    pub dir: tempfile::TempDir,
}

/// The root key of every test world.
pub fn root_key() -> Result<RootKey, RuntimeError> {
    RootKey::parse(&"07".repeat(32)).map_err(RuntimeError::internal)
}

fn name(text: &str) -> Result<Name, RuntimeError> {
    Name::new(text).map_err(RuntimeError::internal)
}

/// An environment's id.
pub fn environment(text: &str) -> Result<EnvironmentId, RuntimeError> {
    EnvironmentId::new(text).map_err(RuntimeError::internal)
}

/// The pack that test worlds decide by.
#[must_use]
pub fn demo_pack() -> BTreeMap<String, String> {
    [
        ("pack.toml", include_str!("../../../policies/demo/pack.toml")),
        ("release.cedar", include_str!("../../../policies/demo/release.cedar")),
        ("support.cedar", include_str!("../../../policies/demo/support.cedar")),
    ]
    .into_iter()
    .map(|(n, t)| (n.to_owned(), t.to_owned()))
    .collect()
}

/// A refund by the support agent in production.
pub fn refund(amount: i64, session: Option<&str>) -> Result<Intent, RuntimeError> {
    let session = session.map_or(String::new(), |s| format!(r#","session":"{s}""#));
    intent(&format!(
        r#"{{"subject":{{"type":"agent","id":"support-agent"}},"action":{{"name":"stripe.create_refund","properties":{{"amount":{amount}}}}},"resource":{{"type":"charge","id":"ch_1"}},"environment":"production"{session}}}"#
    ))
}

/// An intent from its JSON.
pub fn intent(text: &str) -> Result<Intent, RuntimeError> {
    let value = intended_model::json::parse(text.as_bytes())?;
    Ok(Intent::from_value(&value, None, false)?)
}

impl World {
    /// Sets the world up.
    pub async fn new() -> Result<Self, RuntimeError> {
        let dir = tempfile::tempdir().map_err(RuntimeError::internal)?;
        let clock = Arc::new(ManualClock::at(NOON));
        let runtime = open(dir.path(), &clock).await?;
        let refunds = Budget {
            agent: None,
            amount: Some("amount".into()),
            id: name("refunds")?,
            limit: 100_000,
            per_agent: true,
            tool: Some("stripe.create_refund".into()),
            window_secs: 86_400,
        };
        // The owner is alone, also in production.
        let emergency = EmergencyRules { resume_people: Some(1) };
        let settings = Settings { budgets: vec![refunds], emergency, ..Settings::default() };
        let environments = vec![
            (environment("production")?, Tier::Production, settings.clone()),
            (environment("staging")?, Tier::Staging, settings),
        ];
        let tenant = TenantId::new("acme").map_err(RuntimeError::internal)?;
        let bootstrap = runtime.create_tenant(&tenant, &environments).await?;
        let owner = runtime.authenticate(&bootstrap.owner.key)?;
        let all: Vec<EnvironmentId> = environments.iter().map(|(e, _, _)| e.clone()).collect();
        for (agent, team) in [("release-agent", "release"), ("support-agent", "support")] {
            let event = AgentSet {
                agent: agent.into(),
                by: owner.credential.clone(),
                environments: all.clone(),
                kind: "agent".into(),
                owner: "platform".into(),
                state: AgentState::Active,
                teams: vec![name(team)?],
                trust: 70,
                categories: Vec::new(),
                purpose: Box::default(),
                tools: Vec::new(),
                workflow: Vec::new(),
                v: BODY_VERSION,
            };
            runtime.set_agent(&owner, event).await?;
        }
        for (id, kind, data_class) in [
            ("shop-repository", "repository", DataClass::Internal),
            ("orders", "order", DataClass::Confidential),
            ("charges", "charge", DataClass::Confidential),
            ("customers", "customer", DataClass::Restricted),
        ] {
            let event = CapabilitySet {
                active: true,
                by: owner.credential.clone(),
                capability: name(id)?,
                criticality: Criticality::High,
                data_class,
                environment: None,
                owner: "platform".into(),
                pattern: "*".into(),
                resource_type: kind.into(),
                v: BODY_VERSION,
            };
            runtime.set_capability(&owner, event).await?;
        }
        for environment in &all {
            runtime.deploy_pack(&owner, environment, demo_pack()).await?;
        }
        Ok(Self { runtime, clock, owner, owner_key: bootstrap.owner.key, dir })
    }

    /// Closes the runtime and opens it again over the same directory.
    pub async fn reopen(mut self) -> Result<Self, RuntimeError> {
        self.runtime.close().await?;
        drop(std::mem::replace(&mut self.runtime, empty().await?));
        self.runtime = open(self.dir.path(), &self.clock).await?;
        self.owner = self.runtime.authenticate(&self.owner_key)?;
        Ok(self)
    }

    /// Lets the runtime go as a kill would; the directory stays.
    pub async fn crash(mut self) -> Result<Self, RuntimeError> {
        drop(std::mem::replace(&mut self.runtime, empty().await?));
        Ok(self)
    }

    /// What was let go, opened again.
    pub async fn back(mut self) -> Result<Self, RuntimeError> {
        self.runtime = open(self.dir.path(), &self.clock).await?;
        self.owner = self.runtime.authenticate(&self.owner_key)?;
        Ok(self)
    }

    /// Makes any change of the tenant's state, as the owner.
    pub async fn control(&self, event: Event) -> Result<u64, RuntimeError> {
        let change = |_: &Principal, _: &intended_engine::State| Ok(Change::new(event.clone(), ()));
        Ok(self.runtime.change(&self.owner, (), change).await?.index)
    }

    /// The world's time, in milliseconds.
    #[must_use]
    pub fn clock_now(&self) -> i64 {
        intended_runtime::Clock::now(&*self.clock).as_millis()
    }

    /// The whole ledger as an export: header and leaves.
    pub async fn export(&self) -> Result<(intended_ledger::ExportHeader, Vec<Vec<u8>>), RuntimeError> {
        let header = self.runtime.export_header(&self.owner).await?;
        let entries = self.runtime.store().entries(&self.owner.tenant.id, 0, usize::MAX >> 1).await?;
        Ok((header, entries.into_iter().map(|e| e.leaf).collect()))
    }
}

async fn open(dir: &std::path::Path, clock: &Arc<ManualClock>) -> Result<Arc<Runtime>, RuntimeError> {
    let store = SqliteStore::open(dir, &Options { shared: true, ..Options::default() })?;
    // As far on as the ledger is: opened again, it makes no id a second time.
    let mut made = u64::try_from(NOON).unwrap_or(1);
    for tenant in store.tenants().await? {
        made += store.head(&tenant).await?.size;
    }
    let rng = Arc::new(SeededRng::new(made));
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Ok(Arc::new(Runtime::open(Arc::new(store), clock, rng, root_key()?, "http://intended.test").await?))
}

async fn empty() -> Result<Arc<Runtime>, RuntimeError> {
    let dir = tempfile::tempdir().map_err(RuntimeError::internal)?;
    open(dir.path(), &Arc::new(ManualClock::at(NOON))).await
}

/// An API key that is always the same.
pub fn fixed_key() -> Result<String, RuntimeError> {
    let key = intended_keyring::ApiKey::generate(&SeededRng::new(7), intended_keyring::KeyKind::Test)
        .map_err(RuntimeError::internal)?;
    Ok(key.expose().to_owned())
}
