//! The shell's heart. It gathers inputs, calls the pure core, commits, and answers.
//!
//! * [`submit`], the decision point: intent → durable decision → token
//! * [`admin`]: the administration point: every change of a tenant's state is a ledger entry
//! * [`access`]: members and credentials; [`agents`]
//! * [`activity`]: when agents and callers were last seen, and where
//! * [`review`]: who may do what, and whether it is used
//! * [`policy`](mod@policy): drafts, gates, deployment, verification, rollback
//! * [`siem`]: the ledger as it is streamed to collectors
//! * [`sign_in`]: people: passwords, codes, links, identity providers, sessions
//! * [`signing_keys`]: which keys tokens are signed with
//! * [`simulation`]: recorded decisions made again by another version
//! * [`staleness`]: since when memory is what the ledger says
//! * [`standing`]: where each version stands, and why
//! * [`tokens`]: online verification, single use, revocation, keys
//! * [`audit`]: entries, proofs, receipts, exports, replay
//! * [`approvals`]: people and their say in what was escalated
//! * [`emergency`]: halts, blast radius, revocation, break-glass; [`drills`] of them
//! * [`breakers`]: what is measured, and what opens and closes by it
//! * [`capabilities`]: what the product claims, and whether it holds here and now
//! * [`outcomes`]: what came of an action
//! * [`escalations`]: what stays open, and the timeouts that deny
//! * [`webhooks`]: telling others what happens to approvals
//! * [`incidents`]: what happened while something was wrong, and a proof of it
//! * [`verification`]: the ledger decided again, in the background
//! * [`health`]: what works and what does not; [`nodes`]: who else serves
//! * [`housekeeping`]: what a node does by itself
//! * [`key_age`]: when signing keys are to be rotated
//! * [`readiness`]: whether that is good enough, in figures
//! * `lag`: the one way to the store's log, measured
//! * [`ports`]: where time comes from, and the root key
//! * [`rate`]: how many requests a credential may make
//! * [`tenants`]: who operates the server; suspending a tenant or an environment
//! * [`restore`]: a ledger against checkpoints kept elsewhere, and going on from a copy
//! * [`rotation`]: new keys for credentials
//! * [`lockout`]: who guesses keys waits
//! * [`usage`]: when each credential was last used, and what for
//!
//! **Architecture invariant:** nothing here decides. Whatever the verifier must recompute is in
//! `intended-engine`; this crate only reads, commits and signs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use intended_engine::{Access, NoAccess, State};
use intended_keyring::{ApiKey, RngSource, RootKey};
use intended_model::entry::Scope;
use intended_model::{Code, CredentialId, Digest, EnvironmentId, IntentId, MemberId, TenantId, Timestamp};
use intended_store::Store;

pub mod access;
pub mod activity;
pub mod admin;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod breakers;
pub mod capabilities;
mod checkpoints;
mod commit;
mod draft;
pub mod drills;
pub mod elsewhere;
pub mod emergency;
mod error;
pub mod escalations;
pub mod health;
pub mod housekeeping;
pub mod incidents;
pub mod key_age;
mod lag;
pub mod lately;
pub mod lockout;
pub mod metrics;
pub mod nodes;
pub mod outcomes;
pub mod policy;
pub mod ports;
pub mod rate;
pub mod readiness;
pub mod restore;
pub mod review;
pub mod rotation;
pub mod siem;
pub mod sign_in;
pub mod signing_keys;
pub mod simulation;
pub mod spans;
pub mod staleness;
pub mod standing;
pub mod submit;
pub mod tenant;
pub mod tenants;
pub mod tokens;
pub mod usage;
pub mod verification;
pub mod webhooks;

pub use admin::{Bootstrap, NewKey};
pub use error::{Member, RuntimeError, pointer_step};
pub use metrics::Metrics;
pub use ports::{Clock, ManualClock, RootSource, SystemClock};
pub use rate::{Quota, RateLimit};
pub use submit::{Authority, Decided, Submission};
pub use tenant::Tenant;
use usage::Meter;
pub use usage::Usage;

/// Everything one server process holds.
pub struct Runtime {
    follower: Follower,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn RngSource>,
    issuer: Box<str>,
    tenants: Arc<ArcSwap<HashMap<TenantId, Arc<Tenant>>>>,
    /// The newest time in any ledger, in milliseconds: see [`Self::now`].
    floor: AtomicI64,
    /// Requests of each credential in a second; 0 for no limit.
    rate: AtomicU32,
    metrics: Arc<Metrics>,
    /// Most entries that breakers are filled from: see [`breakers`].
    recalled: u64,
    /// See [`key_age`].
    key_days: AtomicU32,
    /// What sends requests, where something does.
    notifier: std::sync::OnceLock<Arc<dyn webhooks::Notifier>>,
    /// Where checkpoints are kept besides.
    elsewhere: std::sync::OnceLock<Arc<dyn elsewhere::Elsewhere>>,
    /// Where the ledger is streamed to.
    sinks: std::sync::OnceLock<Vec<Arc<siem::Sink>>>,
    delivering: AtomicBool,
    reaches: audit::Reaches,
    verifications: verification::Verifications,
    started: Timestamp,
    identity: nodes::Identity,
    door: Arc<health::Door>,
    loops: Arc<health::Loops>,
    probes: health::Probes,
    known: health::Known,
    root: health::Root,
    /// The SHA-256 of the operator's key.
    operator: ArcSwapOption<Digest>,
    lockout: lockout::Lockout,
    /// Deciding again folds a whole ledger: a few at once, and never on the threads that decide.
    replays: Arc<tokio::sync::Semaphore>,
    /// One simulation that was asked for at a time.
    simulations: Arc<tokio::sync::Semaphore>,
    /// Those that a submission or a deployment waits for, which wait for no other.
    gates: Arc<tokio::sync::Semaphore>,
    /// One report of access at a time.
    reviews: Arc<tokio::sync::Semaphore>,
    /// Whether a version validates on a tenant's state: see [`standing`].
    validations: std::sync::Mutex<HashMap<(TenantId, Digest, u64), Option<String>>>,
    desk: sign_in::Desk,
    capabilities: capabilities::Probes,
    /// What is open, as was last read: see [`approvals`].
    open: approvals::Cache,
    /// Told when something that was open no longer is.
    settled: tokio::sync::Notify,
    readiness: readiness::Readiness,
}

/// How many decisions are made again at once.
const MAX_REPLAYS: usize = 2;

/// What makes memory follow the ledger. Apart from the runtime, because it must go on when the
/// request that it began with is dropped: what is committed is then seen all the same.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) store: Arc<dyn Store>,
    appends: Arc<lag::Appends>,
    root: Arc<RootKey>,
    /// SHA-256 of an API key → whose it is. What it may do is looked up in the tenant's state,
    /// each time, so that a revocation takes effect at once.
    credentials: Arc<Index>,
}

/// In parts by the first byte of the hash: a new credential copies one of them and not all.
struct Index([ArcSwap<HashMap<Digest, Arc<Holder>>>; 256]);

impl Default for Index {
    fn default() -> Self {
        Self(std::array::from_fn(|_| ArcSwap::default()))
    }
}

impl Index {
    fn part(&self, hash: &Digest) -> &ArcSwap<HashMap<Digest, Arc<Holder>>> {
        let [first, ..] = hash.as_bytes();
        // A byte is below 256, always.
        #[expect(clippy::indexing_slicing, reason = "there is a part for every byte")]
        &self.0[usize::from(*first)]
    }
    fn get(&self, hash: &Digest) -> Option<Arc<Holder>> {
        self.part(hash).load().get(hash).cloned()
    }
}

impl Follower {
    /// Folds in what this node has not seen yet, and makes new credentials findable.
    pub(crate) async fn follow(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        let caught_up = tenant.catch_up(&*self.store, &self.root).await;
        // Also after half of it: no credential is in the state and not in the index.
        self.index_credentials(tenant);
        caught_up
    }

    fn index_credentials(&self, tenant: &Arc<Tenant>) {
        let (credentials, next) = tenant.unindexed();
        for credential in &credentials {
            // Keys of one credential share its meter. After a restart the one before is found too.
            for hash in [Some(credential.hash), credential.previous.map(|(hash, _)| hash)].into_iter().flatten() {
                let holder = Arc::new(Holder {
                    tenant: Arc::clone(tenant),
                    credential: credential.id.clone(),
                    meter: tenant.meters.of(&credential.id),
                    known: ArcSwapOption::empty(),
                });
                self.credentials.part(&hash).rcu(|part| {
                    let mut part = HashMap::clone(part);
                    part.entry(hash).or_insert_with(|| Arc::clone(&holder));
                    part
                });
            }
        }
        tenant.indexed(next);
    }
}

/// Whose an API key is, and what was done with it.
struct Holder {
    tenant: Arc<Tenant>,
    credential: CredentialId,
    meter: Arc<Meter>,
    /// What it may do, as was last looked at.
    known: ArcSwapOption<Known>,
}

/// What somebody may do in the state of some control version.
struct Known {
    control: u64,
    access: Arc<Access>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Who calls: an authenticated credential of one tenant, or a member of it who is signed in.
#[derive(Debug, Clone)]
pub struct Principal {
    pub tenant: Arc<Tenant>,
    pub credential: CredentialId,
    /// What it may do, in the state of `control`.
    pub access: Arc<Access>,
    control: u64,
    meter: Arc<Meter>,
    /// Under which a change that it asks for is made once: see [`Self::once`].
    idempotency_key: Option<Box<str>>,
    /// The session of a member who is signed in.
    session: Option<sign_in::Session>,
    /// The API key that it came with: whose, and its SHA-256.
    key: Option<Arc<(CredentialId, Digest)>>,
}

impl Principal {
    /// The same caller, with the idempotency key of the request at hand: a change that was made under
    /// it before is not made again, but answered as it was then.
    #[must_use]
    pub fn once(self, idempotency_key: Option<Box<str>>) -> Self {
        Self { idempotency_key, ..self }
    }
    /// Fails unless the caller has the scope: in the environment, where one is named.
    pub fn require(&self, scope: Scope, environment: Option<&EnvironmentId>) -> Result<(), RuntimeError> {
        if !self.access.may(scope, None) {
            return Err(RuntimeError::new(Code::ScopeMissing, format!("`{}` is needed", scope.as_str())));
        }
        match environment {
            Some(e) if !self.access.may(scope, Some(e)) => {
                Err(RuntimeError::new(Code::EnvironmentForbidden, format!("`{e}`")))
            }
            _ => {
                self.meter.used(scope);
                Ok(())
            }
        }
    }
    /// Fails unless the caller has the scope for the whole tenant: what is everyone's is not changed by
    /// someone who is responsible for a part.
    pub fn require_whole(&self, scope: Scope) -> Result<(), RuntimeError> {
        if self.access.whole(scope) {
            self.meter.used(scope);
            return Ok(());
        }
        if !self.access.may(scope, None) {
            return self.require(scope, None);
        }
        Err(RuntimeError::new(Code::EnvironmentForbidden, "this concerns the whole tenant"))
    }
    /// [`Self::require`] for one environment, [`Self::require_whole`] for none.
    pub fn require_in(&self, scope: Scope, environment: Option<&EnvironmentId>) -> Result<(), RuntimeError> {
        environment.map_or_else(|| self.require_whole(scope), |e| self.require(scope, Some(e)))
    }
    /// The caller with what has the scope and nothing else: [`Self::sees`] is then about it.
    pub fn reading(mut self, scope: Scope) -> Result<Self, RuntimeError> {
        self.require(scope, None)?;
        self.access = Arc::new(self.access.only(scope));
        Ok(self)
    }
    /// Whether the caller can do anything in an environment.
    #[must_use]
    pub fn sees(&self, environment: &EnvironmentId) -> bool {
        self.access.environments().contains(environment)
    }
    /// Whether the caller can do anything for the whole tenant.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.access.is_whole()
    }
    /// The person who calls, if it is one.
    #[must_use]
    pub fn member(&self) -> Option<&MemberId> {
        self.access.member.as_ref()
    }
    /// The environment to use when a request names none: the caller's only one.
    #[must_use]
    pub fn only_environment(&self) -> Option<&EnvironmentId> {
        match self.access.environments() {
            [only] => Some(only),
            _ => None,
        }
    }
    /// The same caller with what they may do in a state, at a time; `Err` when that is nothing any more.
    /// Whether their session has ended is for [`Runtime::current`] to say.
    fn as_of(&self, state: &State, now: Timestamp) -> Result<Self, RuntimeError> {
        if let Some((of, key)) = self.key.as_deref()
            && state.credentials.get(of).is_some_and(|c| !c.revoked && !c.has_key(*key, now))
        {
            return Err(Code::CredentialExpired.into());
        }
        if self.control == state.control && self.access.valid_until.is_none_or(|until| now < until) {
            return Ok(self.clone());
        }
        not_suspended(state)?;
        let access = Arc::new(state.access(&self.credential, now).map_err(no_access)?);
        Ok(Self { access, control: state.control, ..self.clone() })
    }
}

/// Nobody of a suspended tenant does anything, or learns more than that.
fn not_suspended(state: &State) -> Result<(), RuntimeError> {
    if state.suspended.is_some() { Err(Code::TenantSuspended.into()) } else { Ok(()) }
}

/// Why somebody may do nothing, as a code.
pub(crate) const fn code_of(why: NoAccess) -> Code {
    match why {
        NoAccess::Unknown => Code::CredentialUnknown,
        NoAccess::Revoked => Code::CredentialRevoked,
        NoAccess::Expired => Code::CredentialExpired,
        NoAccess::Spent => Code::CredentialSpent,
        NoAccess::MemberInactive => Code::MemberInactive,
    }
}
fn no_access(why: NoAccess) -> RuntimeError {
    code_of(why).into()
}

impl Runtime {
    /// Opens a runtime over a store: every tenant is rebuilt from its ledger.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn RngSource>,
        root: RootKey,
        issuer: &str,
    ) -> Result<Self, RuntimeError> {
        Self::open_recalling(store, clock, rng, root, issuer, breakers::MAX_RECALLED).await
    }

    /// [`Self::open`], reading at most so many entries again for breakers.
    pub async fn open_recalling(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn RngSource>,
        root: RootKey,
        issuer: &str,
        recalled: u64,
    ) -> Result<Self, RuntimeError> {
        let started = clock.now();
        let metrics = Arc::new(Metrics::default());
        let appends = Arc::clone(&metrics.appends);
        let loops = Arc::new(health::Loops::new(Arc::clone(&clock)));
        let runtime = Self {
            follower: Follower { store, appends, root: Arc::new(root), credentials: Arc::default() },
            clock,
            rng,
            issuer: issuer.into(),
            tenants: Arc::default(),
            floor: AtomicI64::new(0),
            rate: AtomicU32::new(0),
            recalled,
            key_days: AtomicU32::new(key_age::DEFAULT_KEY_DAYS),
            metrics,
            notifier: std::sync::OnceLock::new(),
            elsewhere: std::sync::OnceLock::new(),
            sinks: std::sync::OnceLock::new(),
            delivering: AtomicBool::new(false),
            reaches: audit::Reaches::default(),
            verifications: verification::Verifications::default(),
            started,
            identity: nodes::Identity::default(),
            door: Arc::default(),
            loops,
            probes: health::Probes::default(),
            known: health::Known::default(),
            root: health::Root::default(),
            operator: ArcSwapOption::empty(),
            lockout: lockout::Lockout::default(),
            replays: Arc::new(tokio::sync::Semaphore::new(MAX_REPLAYS)),
            simulations: Arc::new(tokio::sync::Semaphore::new(1)),
            gates: Arc::new(tokio::sync::Semaphore::new(1)),
            reviews: Arc::new(tokio::sync::Semaphore::new(1)),
            validations: std::sync::Mutex::default(),
            desk: sign_in::Desk::default(),
            capabilities: capabilities::Probes::default(),
            open: approvals::Cache::default(),
            settled: tokio::sync::Notify::new(),
            readiness: readiness::Readiness::default(),
        };
        for id in runtime.store().tenants().await? {
            if runtime.store().head(&id).await?.size == 0 {
                tracing::warn!(tenant = %id, "a tenant whose set-up did not finish is not served");
                continue;
            }
            runtime.load_tenant(&id).await?;
        }
        let tenants = Arc::clone(&runtime.tenants);
        match checkpoints::signing(move |id| tenants.load().get(id).cloned()) {
            Ok(ahead) => runtime.store().before_commit(ahead),
            Err(error) => tracing::warn!(%error, "checkpoints are not signed ahead"),
        }
        Ok(runtime)
    }

    async fn load_tenant(&self, id: &TenantId) -> Result<Arc<Tenant>, RuntimeError> {
        let before = self.clock.now();
        let tenant = Arc::new(Tenant::load(self.store(), id, self.root_key()).await?);
        tenant.confirmed.store(before.as_millis(), Ordering::Release);
        self.saw(self.store().head(id).await?.at);
        self.recall_breakers(&tenant).await?;
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            tenants.insert(id.clone(), Arc::clone(&tenant));
            tenants
        });
        self.follower.index_credentials(&tenant);
        Ok(tenant)
    }

    /// The caller with what they may do in a state, at a time; `Err` when that is nothing any more: their
    /// roles, their key or their session can be gone since the request came in.
    pub(crate) fn current(&self, by: &Principal, state: &State, now: Timestamp) -> Result<Principal, RuntimeError> {
        self.session_stands(by, state, now)?;
        by.as_of(state, now)
    }

    /// Who an API key belongs to, or whose session it is the key of. An API key is checked for typing errors before anything is looked
    /// up; the look-up is by SHA-256 of 256 random bits, so its timing tells nothing of the key.
    /// `from` is the caller's address, as far as it is known.
    pub fn authenticate_from(&self, key: &str, from: Option<IpAddr>) -> Result<Principal, RuntimeError> {
        if intended_keyring::SessionKey::looks_like(key) {
            return self.authenticate_session(key, from);
        }
        let key = ApiKey::parse(key).map_err(|_| self.guessed(Code::CredentialMalformed, from))?;
        let hash = key.hash();
        let holder = self.follower.credentials.get(&hash);
        let holder = holder.ok_or_else(|| self.guessed(Code::CredentialUnknown, from))?;
        let (state, now) = (holder.tenant.state(), self.now());
        not_suspended(&state)?;
        let credential = state.credentials.get(&holder.credential).ok_or(Code::CredentialUnknown)?;
        if !credential.has_key(hash, now) {
            // It was rotated, and this is the key from before.
            return Err(Code::CredentialExpired.into());
        }
        let fresh = |k: &Arc<Known>| k.control == state.control && k.access.valid_until.is_none_or(|u| now < u);
        let access = match holder.known.load_full().filter(fresh) {
            Some(known) => Arc::clone(&known.access),
            None => {
                let access = Arc::new(state.access(&holder.credential, now).map_err(no_access)?);
                let known = Known { control: state.control, access: Arc::clone(&access) };
                holder.known.store(Some(Arc::new(known)));
                access
            }
        };
        if !access.reachable_from(from) {
            return Err(Code::CredentialNetwork.into());
        }
        holder.meter.seen(now);
        Ok(Principal {
            tenant: Arc::clone(&holder.tenant),
            credential: holder.credential.clone(),
            access,
            control: state.control,
            meter: Arc::clone(&holder.meter),
            idempotency_key: None,
            session: None,
            key: Some(Arc::new((holder.credential.clone(), hash))),
        })
    }

    /// Why a key that nobody has is refused: itself, or because there were too many of them.
    fn guessed(&self, code: Code, from: Option<IpAddr>) -> RuntimeError {
        match from.map_or(Ok(()), |address| self.lockout.failed(address, self.clock.now())) {
            Ok(()) => code.into(),
            Err(seconds) => RuntimeError {
                retry_after: Some(seconds),
                ..RuntimeError::new(Code::RateLimited, "too many unknown keys came from this address")
            },
        }
    }

    /// [`Self::authenticate_from`] nowhere in particular: what is good in some networks only is not good.
    pub fn authenticate(&self, key: &str) -> Result<Principal, RuntimeError> {
        self.authenticate_from(key, None)
    }

    /// Counts a request of the caller. `None` where nothing is limited; `Err` when it is too many.
    pub fn admit(&self, principal: &Principal) -> Option<Result<Quota, Quota>> {
        let limit = RateLimit::per_second(self.rate.load(Ordering::Relaxed))?;
        Some(principal.meter.bucket.take(limit, self.clock.now()))
    }

    /// Limits the requests of each credential in a second; 0 lifts the limit.
    pub fn limit_requests(&self, per_second: u32) {
        self.rate.store(per_second, Ordering::Relaxed);
    }

    #[must_use]
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        let mut tenants: Vec<_> = self.tenants.load().values().cloned().collect();
        tenants.sort_by(|a, b| a.id.cmp(&b.id));
        tenants
    }
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.load().get(id).cloned()
    }
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.follower.store
    }
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
    /// The time to decide by: the clock's, but never before what a ledger already says. After the
    /// clock was set back, what had expired stays expired, and what is recorded stays in order.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now().max(Timestamp::from_millis(self.floor.load(Ordering::Acquire)))
    }
    /// The newest time that a ledger says, and will say again after a restart.
    pub(crate) fn recorded_time(&self) -> Timestamp {
        Timestamp::from_millis(self.floor.load(Ordering::Acquire))
    }
    /// Notes a time that a ledger says.
    pub(crate) fn saw(&self, at: Timestamp) {
        self.floor.fetch_max(at.as_millis(), Ordering::AcqRel);
        self.clock.not_before(at);
    }
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        self.started
    }
    pub(crate) fn root_key(&self) -> &RootKey {
        &self.follower.root
    }
    pub(crate) fn rng(&self) -> &dyn RngSource {
        &*self.rng
    }
    /// A name that nobody guesses: 128 random bits in hex.
    pub fn random_id(&self) -> Result<String, RuntimeError> {
        Ok(intended_model::digest::hex(&self.random::<16>()?))
    }
    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], RuntimeError> {
        let mut bytes = [0; N];
        self.rng.fill(&mut bytes).map_err(RuntimeError::internal)?;
        Ok(bytes)
    }
    /// An intent's id, and the id that its token will have: of one draw, which costs less than two.
    pub(crate) fn random_names(&self) -> Result<(IntentId, Box<str>), RuntimeError> {
        let (mut of_id, mut of_jti) = ([0; 10], [0; 32]);
        let drawn: [u8; 42] = self.random()?;
        of_id.iter_mut().chain(&mut of_jti).zip(drawn).for_each(|(to, from)| *to = from);
        Ok((IntentId::v7(self.now(), of_id), intended_token::base64url(&of_jti).into()))
    }
    /// A token id: 256 random bits, base64url.
    pub(crate) fn random_jti(&self) -> Result<Box<str>, RuntimeError> {
        Ok(intended_token::base64url(&self.random::<32>()?).into())
    }
    /// Stops taking work, finishes what is queued, and signs a last checkpoint.
    pub async fn close(&self) -> Result<(), RuntimeError> {
        self.verifications.stop();
        if let Err(error) = self.save_activity().await {
            tracing::warn!(%error, "when agents and callers were last seen was not written down");
        }
        if let Err(error) = self.flush_usage(true).await {
            tracing::warn!(%error, "when credentials were last used was not written down");
        }
        if let Err(error) = self.leave().await {
            tracing::warn!(%error, "other nodes were not told that this one goes");
        }
        for tenant in self.tenants() {
            if let Err(error) = self.save_checkpoint(&tenant).await {
                tracing::warn!(tenant = %tenant.id, %error, "no last checkpoint");
            }
        }
        self.store().close().await?;
        Ok(())
    }
}
