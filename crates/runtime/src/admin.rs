//! The administration point. A change of a tenant's state is an event: it is tried on a copy of the
//! state (the same fold the verifier runs), committed fenced by the control version it was tried
//! on, and only then seen by readers. A change that lost the race is made anew on the state that
//! won: whether the caller may, and what exactly changes, is never about another state than the one
//! that the commit is fenced by.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{KeyStatus, State, keys};
use intended_intents::Catalogue;
use intended_keyring::{ApiKey, KeyKind, SigningKey};
use intended_ledger::{Checkpoint, Frontier, encode_leaf, leaf_hash, origin};
use intended_model::decision::DataClass;
use intended_model::entry::{
    BODY_VERSION, CapabilitySet, CatalogueSet, CredentialCreated, Criticality, EnvironmentSet, KeyAdded, KeyRetired,
    Scope, Settings, TenantCreated, Tier,
};
use intended_model::{Code, CredentialId, Digest, EnvironmentId, Event, Name, TenantId};
use intended_policy::diagnostic::MAX_QUOTED;
use intended_policy::{Diagnostic, Severity};
use intended_rehearse::{Suite, SuiteError};
use intended_store::{Commit, Conflict, NewEntry, StoreError, Write};
use intended_token::Alg;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::submit::IDEMPOTENCY_TTL_MS;
use crate::tenant::{Folded, control_count, ledger_key_fact, note_signer};
use crate::{Member, Principal, Runtime, RuntimeError, Tenant, pointer_step};

/// How often a change that lost the race against another one is tried again.
const MAX_ATTEMPTS: usize = 16;

/// What creating a tenant gives: the owner's key, shown once.
pub struct Bootstrap {
    pub tenant: TenantId,
    pub owner: NewKey,
}

/// A new API key. It exists in clear here and nowhere else.
pub struct NewKey {
    pub credential: CredentialId,
    pub key: String,
    pub index: u64,
}

/// What one attempt at a change comes to.
#[derive(Debug, Clone)]
pub struct Change<T> {
    pub events: Vec<Event>,
    /// The facts that must still be as they were read.
    pub reads: Vec<(Box<str>, u64)>,
    /// The facts that go with them.
    pub writes: Vec<Write>,
    /// What the caller is told besides the ledger index.
    pub answer: T,
    /// Which of the events the index is that of.
    pub at: usize,
}

impl<T> Change<T> {
    /// One event.
    pub fn new(event: Event, answer: T) -> Self {
        Self { events: vec![event], reads: Vec::new(), writes: Vec::new(), answer, at: 0 }
    }
}

/// A change that is durable in the ledger and seen by every later request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed<T> {
    pub answer: T,
    pub index: u64,
    /// Whether it was made before, under the same idempotency key.
    pub repeated: bool,
}

/// How a change is remembered under its idempotency key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Its first entry is the first control entry from here on.
    from: u64,
    /// Absent where it made no control entry.
    at: Option<u64>,
    answer: serde_json::Value,
    request: Digest,
}

/// What a target is. What is `None` stays as it is; of a new one it is the default.
#[derive(Debug, Clone, Serialize)]
pub struct CapabilitySpec {
    pub active: bool,
    pub capability: Name,
    pub criticality: Criticality,
    pub data_class: DataClass,
    /// `Some(None)`: it may be touched from any environment.
    pub environment: Option<Option<EnvironmentId>>,
    pub owner: Option<Box<str>>,
    pub pattern: Box<str>,
    pub resource_type: Box<str>,
}

impl From<CapabilitySet> for CapabilitySpec {
    fn from(set: CapabilitySet) -> Self {
        Self {
            active: set.active,
            capability: set.capability,
            criticality: set.criticality,
            data_class: set.data_class,
            environment: Some(set.environment),
            owner: Some(set.owner),
            pattern: set.pattern,
            resource_type: set.resource_type,
        }
    }
}

impl Runtime {
    /// Creates a tenant with its environments, a ledger key, a signing key for each environment,
    /// and an owner's credential.
    pub async fn create_tenant(
        &self,
        id: &TenantId,
        environments: &[(EnvironmentId, Tier, Settings)],
    ) -> Result<Bootstrap, RuntimeError> {
        let by = CredentialId::new("bootstrap").map_err(RuntimeError::internal)?;
        let ledger_key = SigningKey::generate(Alg::EdDSA, self.rng()).map_err(RuntimeError::internal)?;
        let signer = note_signer(id, &ledger_key)?;
        let mut events = vec![Event::TenantCreated(TenantCreated {
            catalogue: Catalogue::builtin().digest(),
            tenant: id.clone(),
            vkey: signer.vkey().into(),
            v: BODY_VERSION,
        })];
        let mut writes = vec![self.sealed(id, &ledger_key_fact(), &ledger_key)?];
        for (environment, tier, settings) in environments {
            events.push(Event::EnvironmentSet(EnvironmentSet {
                by: by.clone(),
                environment: environment.clone(),
                settings: settings.clone(),
                tier: *tier,
                v: BODY_VERSION,
            }));
            let (added, write) = self.new_key(id, environment, Alg::EdDSA, &by)?;
            events.push(added);
            writes.push(write);
        }
        let key = ApiKey::generate(self.rng(), KeyKind::Live).map_err(RuntimeError::internal)?;
        let owner = CredentialId::new("owner").map_err(RuntimeError::internal)?;
        events.push(Event::CredentialCreated(CredentialCreated {
            by,
            credential: owner.clone(),
            environments: Vec::new(),
            expires_at: None,
            hash: key.hash(),
            member: None,
            scopes: Scope::ALL.to_vec(),
            whole: true,
            actions: Vec::new(),
            agents: Vec::new(),
            networks: Vec::new(),
            test: false,
            v: BODY_VERSION,
        }));
        // Tried before anything is stored.
        let mut state = State::genesis(events.first().ok_or(Code::Internal)?)?;
        for (index, event) in (1_u64..).zip(events.iter().skip(1)) {
            state.apply(index, event)?;
        }
        match self.store().create_tenant(id).await {
            // A set-up that ended between the two: there is a name, and nothing else.
            Err(StoreError::TenantExists) if self.store().head(id).await?.size == 0 => {}
            other => other?,
        }
        let entries: Vec<NewEntry> = events.iter().map(entry_of).collect::<Result<_, _>>()?;
        let now = self.now();
        // The first checkpoint goes down with what it signs for: no ledger is without one.
        let mut frontier = Frontier::empty();
        for (index, entry) in (0_u64..).zip(&entries) {
            frontier.push(leaf_hash(&encode_leaf(id, index, now, &entry.kind, &entry.body)));
        }
        let first = Checkpoint { origin: origin(id), size: frontier.size(), root: frontier.root() };
        writes.push(Write::Put {
            key: keys::checkpoint(first.size).into(),
            value: first.sign(&signer).map_err(RuntimeError::internal)?.into_bytes(),
            expires_at: None,
        });
        let count = control_count(&signer, id, first.size, first.size);
        writes.push(Write::Put { key: keys::CONTROL_COUNT.into(), value: count.into_bytes(), expires_at: None });
        let commit = Commit { tenant: id.clone(), now, control_version: Some(0), reads: Vec::new(), writes, entries };
        self.follower.commit(commit).await?;
        self.load_tenant(id).await?;
        let index = u64::try_from(events.len()).unwrap_or(1) - 1;
        Ok(Bootstrap { tenant: id.clone(), owner: NewKey { credential: owner, key: key.expose().to_owned(), index } })
    }

    /// Makes one change of state: `make` says, for the state of each attempt, whether the caller may
    /// and what changes. `request` is what was asked for, to know it again under an idempotency key.
    ///
    /// From the commit on it does not depend on being waited for: a caller who is gone leaves a
    /// change that is either not made, or made and seen.
    pub async fn change<T: Serialize + DeserializeOwned>(
        &self,
        by: &Principal,
        request: impl Serialize,
        mut make: impl FnMut(&Principal, &State) -> Result<Change<T>, RuntimeError>,
    ) -> Result<Changed<T>, RuntimeError> {
        let once = match &by.idempotency_key {
            None => None,
            Some(key) => {
                let request = serde_json::to_vec(&request).map_err(RuntimeError::internal)?;
                Some((keys::idempotency(&by.credential, key), Digest::of(&request)))
            }
        };
        self.change_of(&by.tenant, Some(by), once, |by, state| make(by.ok_or(Code::Internal)?, state)).await
    }

    /// [`Self::change`] by a caller of the tenant, or by who operates the server: what that is good for
    /// is said by who calls this.
    pub(crate) async fn change_of<T: Serialize + DeserializeOwned>(
        &self,
        tenant: &Arc<Tenant>,
        by: Option<&Principal>,
        once: Option<(String, Digest)>,
        mut make: impl FnMut(Option<&Principal>, &State) -> Result<Change<T>, RuntimeError>,
    ) -> Result<Changed<T>, RuntimeError> {
        for _ in 0..MAX_ATTEMPTS {
            let Folded { state, next } = tenant.folded();
            let by = by.map(|by| self.current(by, &state, self.now())).transpose()?;
            if let (Some((key, request)), Some(by)) = (&once, &by)
                && let Some(changed) = self.repeated(by, key, *request).await?
            {
                return Ok(changed);
            }
            let Change { events, mut reads, mut writes, answer, at } = make(by.as_ref(), &state)?;
            if let Some(by) = &by {
                reads.extend(self.session_fence(by)?);
            }
            let mut tried = State::clone(&state);
            // What does not change the state is fenced by it all the same: who may was looked up in it.
            let mut is_control = false;
            for event in &events {
                if event.kind().is_control() {
                    is_control = true;
                    tried.apply(u64::MAX, event)?;
                }
            }
            let now = self.now();
            let at = at as u64;
            if let Some((key, request)) = &once {
                let answer = serde_json::to_value(&answer).map_err(RuntimeError::internal)?;
                let kept = Kept { from: next, at: is_control.then_some(at), answer, request: *request };
                reads.push((key.as_str().into(), 0));
                writes.push(Write::Put {
                    key: key.as_str().into(),
                    value: serde_json::to_vec(&kept).map_err(RuntimeError::internal)?,
                    expires_at: Some(now.plus_millis(IDEMPOTENCY_TTL_MS)),
                });
            }
            let commit = Commit {
                tenant: tenant.id.clone(),
                now,
                control_version: Some(state.control),
                reads,
                writes,
                entries: events.iter().map(entry_of).collect::<Result<_, _>>()?,
            };
            let (follower, of) = (self.follower.clone(), Arc::clone(tenant));
            let committed = tokio::spawn(async move {
                let committed = follower.commit_here(commit).await?;
                Ok::<_, StoreError>((committed.first_index, follower.follow(&of).await))
            });
            match committed.await.map_err(RuntimeError::internal)? {
                Ok((first, followed)) => {
                    if let Some(by) = &by {
                        tenant.activity.changed(&by.credential, &events, now);
                    }
                    followed?;
                    return Ok(Changed { answer, index: first + at, repeated: false });
                }
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(StoreError::Conflict(
                    Conflict::Control { .. } | Conflict::Fact { .. } | Conflict::Bound { .. },
                )) => {
                    self.follow(tenant).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// The answer to a request that was made under the same idempotency key before, for changes that
    /// take more than one look at the state.
    pub(crate) async fn made_before<T: DeserializeOwned>(
        &self,
        by: &Principal,
        request: impl Serialize,
    ) -> Result<Option<Changed<T>>, RuntimeError> {
        let Some(key) = &by.idempotency_key else { return Ok(None) };
        let request = serde_json::to_vec(&request).map_err(RuntimeError::internal)?;
        self.repeated(by, &keys::idempotency(&by.credential, key), Digest::of(&request)).await
    }

    /// The answer to a change that was made under the same idempotency key before.
    async fn repeated<T: DeserializeOwned>(
        &self,
        by: &Principal,
        key: &str,
        request: Digest,
    ) -> Result<Option<Changed<T>>, RuntimeError> {
        let Some(fact) = self.store().fact_now(&by.tenant.id, key)? else { return Ok(None) };
        // Anything else under this key is an intent.
        let kept: Kept = serde_json::from_slice(&fact.value).map_err(|_| Code::IdempotencyMismatch)?;
        if kept.request != request {
            return Err(Code::IdempotencyMismatch.into());
        }
        self.follow(&by.tenant).await?;
        let answer = serde_json::from_value(kept.answer).map_err(RuntimeError::internal)?;
        let Some(at) = kept.at else { return Ok(Some(Changed { answer, index: kept.from, repeated: true })) };
        let entries = self.store().control_entries(&by.tenant.id, kept.from, 1).await?;
        let first = entries.first().ok_or_else(|| RuntimeError::internal("a kept answer names no entry"))?.index;
        Ok(Some(Changed { answer, index: first + at, repeated: true }))
    }

    /// Creates an environment or changes its settings; a new one gets its signing key in the same
    /// commit. `settings` makes the new settings of the present ones, which of a new environment are
    /// the default.
    pub async fn set_environment(
        &self,
        by: &Principal,
        environment: EnvironmentId,
        tier: Tier,
        settings: impl Fn(&Settings) -> Result<Settings, RuntimeError>,
    ) -> Result<u64, RuntimeError> {
        let mut key: Option<(Event, Write)> = None;
        let changed = self.change(by, ("environment", &environment, tier), |by, state| {
            let known = state.environments.get(&environment);
            by.require_in(Scope::AccessWrite, known.map(|e| &e.id))?;
            let wanted = known.map_or_else(|| settings(&Settings::default()), |e| settings(&e.settings))?;
            // What a change of policy, an approval and lifting a halt take is the whole tenant's to say, not
            // whose it is, nor who may do it.
            let said = |now: &Settings| {
                now.policy == wanted.policy && now.approvals == wanted.approvals && now.emergency == wanted.emergency
            };
            if known.is_some_and(|e| e.tier != tier || !said(&e.settings)) {
                by.require_whole(Scope::AccessWrite)?;
            }
            // Without its breakers, what has gone wrong there goes on.
            if known.map(|e| e.settings.breakers).unwrap_or_default() != wanted.breakers {
                by.require(Scope::EmergencyWrite, Some(&environment))?;
            }
            let event = Event::EnvironmentSet(EnvironmentSet {
                by: by.credential.clone(),
                environment: environment.clone(),
                settings: wanted,
                tier,
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, ());
            if known.is_none_or(|e| e.keys.is_empty()) {
                let make = || self.new_key(&by.tenant.id, &environment, Alg::EdDSA, &by.credential);
                let (added, write) = made_once(&mut key, make)?;
                change.events.push(added);
                change.writes.push(write);
            }
            Ok(change)
        });
        Ok(changed.await?.index)
    }

    /// Says what a target is.
    pub async fn set_capability(
        &self,
        by: &Principal,
        capability: impl Into<CapabilitySpec>,
    ) -> Result<u64, RuntimeError> {
        let spec: CapabilitySpec = capability.into();
        let changed = self.change(by, ("capability", &spec), |by, state| {
            let known = state.capabilities.iter().find(|c| c.id == spec.capability);
            if let Some(known) = known {
                by.require_in(Scope::AccessWrite, known.environment.as_ref())?;
            }
            let environment = spec.environment.clone().unwrap_or_else(|| known.and_then(|c| c.environment.clone()));
            by.require_in(Scope::AccessWrite, environment.as_ref())?;
            let event = Event::CapabilitySet(CapabilitySet {
                active: spec.active,
                by: by.credential.clone(),
                capability: spec.capability.clone(),
                criticality: spec.criticality,
                data_class: spec.data_class,
                environment,
                owner: spec.owner.clone().or_else(|| known.map(|c| c.owner.clone())).unwrap_or_default(),
                pattern: spec.pattern.clone(),
                resource_type: spec.resource_type.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    /// Replaces the tenant's own part of the tool catalogue.
    pub async fn set_catalogue(&self, by: &Principal, text: &str) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("catalogue", text), |by, _| {
            by.require_whole(Scope::PolicyWrite)?;
            // What cannot be read is refused by the fold.
            if let Ok(own) = Catalogue::parse(text)
                && let Some(name) = own.reserved()
            {
                let what = format!("tool `{name}`: the name is kept for the self-test, or would be taken for it");
                return Err(RuntimeError::new(Code::CatalogueInvalid, what));
            }
            let event = Event::CatalogueSet(CatalogueSet {
                by: by.credential.clone(),
                digest: Digest::of(text.as_bytes()),
                // Also how a tenant comes to a newer shipped one.
                shipped: Catalogue::builtin().digest(),
                text: text.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    /// Makes a new active signing key; the one before becomes the previous, an older one retired.
    pub async fn rotate_key(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        alg: Alg,
    ) -> Result<(Box<str>, u64), RuntimeError> {
        let mut key: Option<(Event, Write)> = None;
        let changed = self.change(by, ("key.rotate", environment, alg), |by, state| {
            by.require(Scope::KeyWrite, Some(environment))?;
            if !state.environments.contains_key(environment) {
                return Err(Code::EnvironmentUnknown.into());
            }
            let make = || self.new_key(&by.tenant.id, environment, alg, &by.credential);
            let (event, write) = made_once(&mut key, make)?;
            let Event::KeyAdded(added) = &event else { return Err(Code::Internal.into()) };
            let kid = added.kid.clone();
            Ok(Change { writes: vec![write], ..Change::new(event, kid) })
        });
        let changed = changed.await?;
        Ok((changed.answer, changed.index))
    }

    /// Retires a key at once: tokens signed with it are refused from here on. The active key
    /// cannot be retired: rotate first.
    pub async fn retire_key(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        kid: &str,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("key.retire", environment, kid, reason), |by, state| {
            by.require(Scope::KeyWrite, Some(environment))?;
            let known = state.environments.get(environment);
            if known.is_some_and(|e| e.keys.iter().any(|k| *k.kid == *kid && k.status == KeyStatus::Active)) {
                return Err(RuntimeError::new(Code::Conflict, "the active key cannot be retired; rotate first"));
            }
            let event = Event::KeyRetired(KeyRetired {
                by: by.credential.clone(),
                environment: environment.clone(),
                kid: kid.into(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    fn new_key(
        &self,
        tenant: &TenantId,
        environment: &EnvironmentId,
        alg: Alg,
        by: &CredentialId,
    ) -> Result<(Event, Write), RuntimeError> {
        let key = SigningKey::generate(alg, self.rng()).map_err(RuntimeError::internal)?;
        let write = self.sealed(tenant, &keys::sealed_key(environment.as_str(), key.kid()), &key)?;
        let jwk = serde_json::to_vec(&key.public_jwk()).map_err(RuntimeError::internal)?;
        let event = Event::KeyAdded(KeyAdded {
            alg: alg.as_str().into(),
            by: by.clone(),
            environment: environment.clone(),
            jwk: intended_model::json::parse(&jwk)?,
            kid: key.kid().into(),
            v: BODY_VERSION,
        });
        Ok((event, write))
    }

    fn sealed(&self, tenant: &TenantId, fact: &str, key: &SigningKey) -> Result<Write, RuntimeError> {
        let sealed = key.to_sealed(self.root_key(), tenant.as_str(), self.rng()).map_err(RuntimeError::internal)?;
        Ok(Write::Put { key: fact.into(), value: sealed.into_bytes(), expires_at: None })
    }
}

/// What is made for the first attempt at a change is good for the next ones too.
fn made_once<T: Clone>(
    kept: &mut Option<T>,
    make: impl FnOnce() -> Result<T, RuntimeError>,
) -> Result<T, RuntimeError> {
    match kept {
        Some(made) => Ok(made.clone()),
        None => Ok(kept.insert(make()?).clone()),
    }
}

/// An event as an entry to be appended.
pub(crate) fn entry_of(event: &Event) -> Result<NewEntry, RuntimeError> {
    let subject = match event {
        Event::TokenConsumed(e) => Some(*e.intent.as_bytes()),
        Event::TokenRevoked(e) => Some(*e.intent.as_bytes()),
        Event::EscalationClosed(e) => Some(*e.intent.as_bytes()),
        Event::ApprovalGranted(e) => Some(*e.intent.as_bytes()),
        Event::ApprovalWithdrawn(e) => Some(*e.intent.as_bytes()),
        Event::ApprovalNote(e) => Some(*e.intent.as_bytes()),
        Event::IntentOutcome(e) => Some(*e.intent.as_bytes()),
        _ => None,
    };
    Ok(NewEntry {
        kind: event.kind().as_str().into(),
        control: event.kind().is_control(),
        subject,
        body: event.to_canonical()?.into(),
    })
}

/// Everything that is to be said of a pack on this tenant: what is wrong with it and its tests, and what
/// looks wrong. A large one takes seconds, which whatever else is to be done does not wait for.
pub fn check(state: &State, files: &BTreeMap<String, String>) -> Result<intended_policy::Checked, RuntimeError> {
    aside(|| {
        let source = intended_policy::PackSource { files: files.clone() };
        let mut checked = intended_policy::check(&source, &schema_of(state)?, None);
        let suite = Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())));
        if let Err(error) = suite {
            checked.diagnostics.push(in_tests(error, files));
            let place = |d: &Diagnostic| (d.line, d.column);
            checked.diagnostics.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| place(a).cmp(&place(b))));
        }
        Ok(checked)
    })
}

/// Why a pack's tests cannot be run, as a finding of the pack.
fn in_tests(error: SuiteError, files: &BTreeMap<String, String>) -> Diagnostic {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (line, column) = (at(error.line), at(error.column));
    let text = files.get(&error.file).and_then(|text| text.lines().nth(line.saturating_sub(1)));
    Diagnostic {
        severity: Severity::Error,
        code: "test-file",
        file: error.file,
        line,
        column,
        end_column: None,
        policy: None,
        message: error.message,
        help: None,
        source_line: text.filter(|l| !l.is_empty() && l.len() <= MAX_QUOTED).map(str::to_owned),
    }
}

/// Work that keeps a processor busy for a while: a thread that others wait for hands them on first.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // There is nobody to hand them to.
        _ => work(),
    }
}

/// A pack that validates strictly against what the tenant has.
pub fn validated(state: &State, files: &BTreeMap<String, String>) -> Result<intended_policy::Pack, RuntimeError> {
    let checked = check(state, files)?;
    let errors: Vec<Member> =
        checked.errors().map(|d| in_file(&d.file, Some((d.line, d.column)), d.to_string())).collect();
    let first = checked.errors().next().map(|d| format!("{}:{}:{}: {}", d.file, d.line, d.column, d.message));
    match (first, checked.pack) {
        (None, Some(pack)) => Ok(pack),
        (first, _) => {
            let detail = first.unwrap_or_else(|| "the pack cannot be read".to_owned());
            Err(RuntimeError { errors, ..RuntimeError::new(Code::PackInvalid, detail) })
        }
    }
}

/// What is wrong with a file of a pack, as a member of the request that carried it.
fn in_file(file: &str, position: Option<(usize, usize)>, message: String) -> Member {
    Member { pointer: format!("/files{}", pointer_step(file)), message, position }
}

/// What the tenant has, by name.
#[must_use]
pub fn vocabulary(state: &State) -> intended_policy::Vocabulary {
    let present = || state.agents.iter().filter(|(_, a)| a.state != intended_model::entry::AgentState::Retired);
    intended_policy::Vocabulary {
        agents: present().map(|(id, _)| id.to_string()).collect(),
        teams: present().flat_map(|(_, a)| a.teams.iter().map(ToString::to_string)).collect(),
        capabilities: state.capabilities.iter().map(|c| c.id.to_string()).collect(),
        groups: state
            .members
            .values()
            .filter(|m| m.active)
            .flat_map(|m| m.groups.iter().map(ToString::to_string))
            .collect(),
        environments: state.environments.values().map(|e| (e.id.to_string(), e.tier.as_str().to_owned())).collect(),
    }
}

/// The Cedar schema of a tenant: its tools with their categories and operations, and what it has by name.
pub fn schema_of(state: &State) -> Result<intended_policy::Schema, RuntimeError> {
    schema_with(state, &vocabulary(state))
}

/// [`schema_of`] as the caller may see it: with the environments that their credential is good for.
pub fn schema_for(state: &State, by: &Principal) -> Result<intended_policy::Schema, RuntimeError> {
    let mut vocabulary = vocabulary(state);
    vocabulary.environments.retain(|name, _| by.access.environments().iter().any(|e| e.as_str() == name));
    schema_with(state, &vocabulary)
}

fn schema_with(
    state: &State,
    vocabulary: &intended_policy::Vocabulary,
) -> Result<intended_policy::Schema, RuntimeError> {
    let tools: Vec<intended_policy::ToolAction> = state
        .catalogue
        .tools()
        .map(|(tool, category, operation)| intended_policy::ToolAction {
            tool: tool.to_owned(),
            category: category.to_owned(),
            domain: intended_intents::domain_of(category).to_owned(),
            operation: operation.as_str(),
        })
        .collect();
    intended_policy::Schema::generate_for(&tools, vocabulary).map_err(RuntimeError::internal)
}
