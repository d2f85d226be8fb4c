//! The administration point. A change of a tenant's state is an event: it is tried on a copy of the
//! state (the same fold the verifier runs), committed fenced by the control version it was tried
//! on, and only then seen by readers. A change that lost the race is tried again.

use std::collections::BTreeMap;

use intended_engine::{KeyStatus, State, keys};
use intended_intents::Catalogue;
use intended_keyring::{ApiKey, SigningKey};
use intended_ledger::{Checkpoint, Frontier, encode_leaf, leaf_hash, origin};
use intended_model::entry::{
    AgentSet, BODY_VERSION, CapabilitySet, CatalogueSet, CredentialCreated, CredentialRevoked, DeployCause,
    EnvironmentSet, HaltResumed, HaltThrown, KeyAdded, KeyRetired, PolicyDeployed, PolicyPublished, Scope, Settings,
    TenantCreated, Tier,
};
use intended_model::{Code, CredentialId, Digest, EnvironmentId, Event, Name, TenantId, Timestamp};
use intended_store::{Commit, Conflict, NewEntry, StoreError, Write};
use intended_token::Alg;

use crate::tenant::{control_count, ledger_key_fact, note_signer};
use crate::{Member, Principal, Runtime, RuntimeError, pointer_step};

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

/// A credential to create.
#[derive(Debug, Clone)]
pub struct CredentialSpec {
    pub credential: CredentialId,
    pub environments: Vec<EnvironmentId>,
    pub scopes: Vec<Scope>,
    pub expires_at: Option<Timestamp>,
    pub live: bool,
    /// Good for the whole tenant, whatever environments it gets.
    pub whole: bool,
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
        let key = ApiKey::generate(self.rng(), true).map_err(RuntimeError::internal)?;
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
        self.store().commit(commit).await?;
        self.load_tenant(id).await?;
        let index = u64::try_from(events.len()).unwrap_or(1) - 1;
        Ok(Bootstrap { tenant: id.clone(), owner: NewKey { credential: owner, key: key.expose().to_owned(), index } })
    }

    /// Commits one change of state, with the facts that go with it. Returns its ledger index.
    pub async fn change(&self, by: &Principal, event: Event, writes: Vec<Write>) -> Result<u64, RuntimeError> {
        let tenant = &by.tenant;
        for _ in 0..MAX_ATTEMPTS {
            let state = tenant.state();
            self.check_current(by, &state)?;
            let mut tried = State::clone(&state);
            tried.apply(u64::MAX, &event)?;
            let commit = Commit {
                tenant: tenant.id.clone(),
                now: self.now(),
                control_version: Some(state.control),
                reads: Vec::new(),
                writes: writes.clone(),
                entries: vec![entry_of(&event)?],
            };
            let committed = self.append(commit).await;
            match committed {
                Ok(committed) => {
                    tenant.catch_up(self.store(), self.root_key()).await?;
                    if matches!(event, Event::CredentialCreated(_)) {
                        self.index_credentials(tenant);
                    }
                    return Ok(committed.first_index);
                }
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(StoreError::Conflict(Conflict::Control { .. })) => {
                    tenant.catch_up(self.store(), self.root_key()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Creates a credential. None can be wider than the one that creates it.
    pub async fn create_credential(&self, by: &Principal, spec: CredentialSpec) -> Result<NewKey, RuntimeError> {
        by.require(Scope::AccessWrite, None)?;
        if let Some(scope) = spec.scopes.iter().find(|s| !by.scopes.contains(s)) {
            let detail = format!("`{}` is not yours to give", scope.as_str());
            return Err(RuntimeError::at(Code::ScopeMissing, "/scopes", detail));
        }
        if let Some(environment) = spec.environments.iter().find(|e| !by.environments.contains(e)) {
            return Err(RuntimeError::at(
                Code::EnvironmentForbidden,
                "/environments",
                format!("`{environment}` is not yours to give"),
            ));
        }
        let state = by.tenant.state();
        let own_end = state.credentials.get(&by.credential).and_then(|c| c.expires_at);
        if own_end.is_some_and(|end| spec.expires_at.is_none_or(|at| at > end)) {
            let detail = "it would outlive the credential that makes it";
            return Err(RuntimeError::at(Code::ScopeMissing, "/expires_at", detail));
        }
        if spec.whole {
            by.require_whole(Scope::AccessWrite)?;
        }
        if spec.scopes.is_empty() || spec.environments.is_empty() != spec.whole {
            return Err(RuntimeError::at(
                Code::RequestInvalid,
                "/environments",
                "a credential needs a scope, and either environments or `\"whole\": true`",
            ));
        }
        let key = ApiKey::generate(self.rng(), spec.live).map_err(RuntimeError::internal)?;
        let event = Event::CredentialCreated(CredentialCreated {
            by: by.credential.clone(),
            credential: spec.credential.clone(),
            environments: spec.environments,
            expires_at: spec.expires_at,
            hash: key.hash(),
            member: None,
            scopes: spec.scopes,
            whole: spec.whole,
            v: BODY_VERSION,
        });
        let index = self.change(by, event, Vec::new()).await?;
        Ok(NewKey { credential: spec.credential, key: key.expose().to_owned(), index })
    }

    pub async fn revoke_credential(
        &self,
        by: &Principal,
        credential: CredentialId,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        by.require(Scope::AccessWrite, None)?;
        // Nobody takes away what reaches further than their own.
        if let Some(known) = by.tenant.state().credentials.get(&credential) {
            if known.whole {
                by.require_whole(Scope::AccessWrite)?;
            }
            known.environments.iter().try_for_each(|e| by.require(Scope::AccessWrite, Some(e)))?;
        }
        let event = Event::CredentialRevoked(CredentialRevoked {
            by: by.credential.clone(),
            credential,
            reason: reason.into(),
            v: BODY_VERSION,
        });
        self.change(by, event, Vec::new()).await
    }

    /// Creates an environment or changes its settings; a new one gets a signing key.
    pub async fn set_environment(
        &self,
        by: &Principal,
        environment: EnvironmentId,
        tier: Tier,
        settings: Settings,
    ) -> Result<u64, RuntimeError> {
        let known = by.tenant.state().environments.contains_key(&environment);
        by.require_in(Scope::AccessWrite, known.then_some(&environment))?;
        let event = Event::EnvironmentSet(EnvironmentSet {
            by: by.credential.clone(),
            environment: environment.clone(),
            settings,
            tier,
            v: BODY_VERSION,
        });
        let index = self.change(by, event, Vec::new()).await?;
        let keyless = by.tenant.state().environments.get(&environment).is_some_and(|e| e.keys.is_empty());
        if keyless {
            let (added, write) = self.new_key(&by.tenant.id, &environment, Alg::EdDSA, &by.credential)?;
            self.change(by, added, vec![write]).await?;
        }
        Ok(index)
    }

    /// Registers an agent or changes its registration.
    pub async fn set_agent(&self, by: &Principal, agent: AgentSet) -> Result<u64, RuntimeError> {
        by.require(Scope::AccessWrite, None)?;
        // Where it may act now, and where it may act from now on.
        let state = by.tenant.state();
        let known = state.agents.get(&agent.agent).map(|a| a.environments.as_slice()).unwrap_or_default();
        let mut all = known.iter().chain(&agent.environments);
        if let Some(environment) = all.find(|e| !by.environments.contains(e)) {
            return Err(RuntimeError::at(Code::EnvironmentForbidden, "/environments", format!("`{environment}`")));
        }
        let event = Event::AgentSet(AgentSet { by: by.credential.clone(), v: BODY_VERSION, ..agent });
        self.change(by, event, Vec::new()).await
    }

    /// Says what a target is.
    pub async fn set_capability(&self, by: &Principal, capability: CapabilitySet) -> Result<u64, RuntimeError> {
        let known = by
            .tenant
            .state()
            .capabilities
            .iter()
            .find(|c| c.id == capability.capability)
            .map(|c| c.environment.clone());
        if let Some(environment) = &known {
            by.require_in(Scope::AccessWrite, environment.as_ref())?;
        }
        by.require_in(Scope::AccessWrite, capability.environment.as_ref())?;
        let event = Event::CapabilitySet(CapabilitySet { by: by.credential.clone(), v: BODY_VERSION, ..capability });
        self.change(by, event, Vec::new()).await
    }

    /// Replaces the tenant's own part of the tool catalogue.
    pub async fn set_catalogue(&self, by: &Principal, text: &str) -> Result<u64, RuntimeError> {
        by.require_whole(Scope::PolicyWrite)?;
        let event = Event::CatalogueSet(CatalogueSet {
            by: by.credential.clone(),
            digest: Digest::of(text.as_bytes()),
            // Also how a tenant comes to a newer shipped one.
            shipped: Catalogue::builtin().digest(),
            text: text.into(),
            v: BODY_VERSION,
        });
        self.change(by, event, Vec::new()).await
    }

    /// Validates a pack strictly against the tenant's schema, publishes it as an immutable version,
    /// and makes the environment decide by it from the deployment's ledger position on.
    pub async fn deploy_pack(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        files: BTreeMap<String, String>,
    ) -> Result<(Digest, u64), RuntimeError> {
        by.require(Scope::PolicyWrite, Some(environment))?;
        let state = by.tenant.state();
        let pack = validated(&state, &files)?;
        let digest = pack.digest();
        let name = Name::new(pack.name())
            .map_err(|e| RuntimeError::at(Code::PackInvalid, "/files/pack.toml", e.to_string()))?;
        if !state.versions.contains_key(&digest) {
            let event = Event::PolicyPublished(PolicyPublished {
                by: by.credential.clone(),
                digest,
                files: files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect(),
                pack: name.clone(),
                version: pack.version().into(),
                v: BODY_VERSION,
            });
            self.change(by, event, Vec::new()).await?;
        }
        let event = Event::PolicyDeployed(PolicyDeployed {
            by: by.credential.clone(),
            cause: DeployCause::Deploy,
            digest,
            draft: None,
            environment: environment.clone(),
            pack: name,
            reason: None,
            replaces: state.environments.get(environment).and_then(|e| e.deployed.as_ref()).map(|v| v.digest),
            v: BODY_VERSION,
        });
        let index = self.change(by, event, Vec::new()).await?;
        Ok((digest, index))
    }

    /// Throws a halt. When this returns, no covered allow can follow in the ledger (I2).
    pub async fn halt(
        &self,
        by: &Principal,
        environment: Option<EnvironmentId>,
        reason: &str,
    ) -> Result<(Name, u64), RuntimeError> {
        by.require_in(Scope::EmergencyWrite, environment.as_ref())?;
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let halt = Name::new(&format!("halt-{hex}")).map_err(RuntimeError::internal)?;
        let event = Event::HaltThrown(HaltThrown {
            by: by.credential.clone(),
            environment,
            halt: halt.clone(),
            reason: reason.into(),
            v: BODY_VERSION,
        });
        let index = self.change(by, event, Vec::new()).await?;
        Ok((halt, index))
    }

    /// Lifts a halt.
    pub async fn resume(&self, by: &Principal, halt: Name, reason: &str) -> Result<u64, RuntimeError> {
        let state = by.tenant.state();
        let known = state.halts.get(&halt).ok_or(Code::HaltUnknown)?;
        by.require_in(Scope::EmergencyWrite, known.environment.as_ref())?;
        let event =
            Event::HaltResumed(HaltResumed { by: by.credential.clone(), halt, reason: reason.into(), v: BODY_VERSION });
        self.change(by, event, Vec::new()).await
    }

    /// Makes a new active signing key; the one before becomes the previous, an older one retired.
    pub async fn rotate_key(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        alg: Alg,
    ) -> Result<(Box<str>, u64), RuntimeError> {
        by.require(Scope::KeyWrite, Some(environment))?;
        let (event, write) = self.new_key(&by.tenant.id, environment, alg, &by.credential)?;
        let Event::KeyAdded(added) = &event else { return Err(Code::Internal.into()) };
        let kid = added.kid.clone();
        let index = self.change(by, event, vec![write]).await?;
        Ok((kid, index))
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
        by.require(Scope::KeyWrite, Some(environment))?;
        let state = by.tenant.state();
        let active = state
            .environments
            .get(environment)
            .is_some_and(|e| e.keys.iter().any(|k| *k.kid == *kid && k.status == KeyStatus::Active));
        if active {
            return Err(RuntimeError::new(Code::Conflict, "the active key cannot be retired; rotate first"));
        }
        let event = Event::KeyRetired(KeyRetired {
            by: by.credential.clone(),
            environment: environment.clone(),
            kid: kid.into(),
            reason: reason.into(),
            v: BODY_VERSION,
        });
        self.change(by, event, Vec::new()).await
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

/// An event as an entry to be appended.
pub(crate) fn entry_of(event: &Event) -> Result<NewEntry, RuntimeError> {
    let subject = match event {
        Event::TokenConsumed(e) => Some(*e.intent.as_bytes()),
        Event::TokenRevoked(e) => Some(*e.intent.as_bytes()),
        Event::EscalationClosed(e) => Some(*e.intent.as_bytes()),
        Event::ApprovalGranted(e) => Some(*e.intent.as_bytes()),
        _ => None,
    };
    Ok(NewEntry {
        kind: event.kind().as_str().into(),
        control: event.kind().is_control(),
        subject,
        body: event.to_canonical()?.into(),
    })
}

/// Parses and strictly validates a pack against what the tenant has.
pub fn validated(state: &State, files: &BTreeMap<String, String>) -> Result<intended_policy::Pack, RuntimeError> {
    let source = intended_policy::PackSource { files: files.clone() };
    let pack = intended_policy::Pack::parse(&source).map_err(|e| RuntimeError {
        errors: vec![in_file(&e.file, e.position, e.message.clone())],
        ..RuntimeError::new(Code::PackInvalid, e.to_string())
    })?;
    let schema = schema_of(state)?;
    let report = intended_policy::validate(&pack, &schema);
    if report.errors.is_empty() {
        return Ok(pack);
    }
    let detail = report.errors.first().map(|e| format!("{}: {e}", e.place())).unwrap_or_default();
    let errors = report.errors.iter().map(|e| in_file(&e.file, None, e.to_string())).collect();
    Err(RuntimeError { errors, ..RuntimeError::new(Code::PackInvalid, detail) })
}

/// What is wrong with a file of a pack, as a member of the request that carried it.
fn in_file(file: &str, position: Option<(usize, usize)>, message: String) -> Member {
    Member { pointer: format!("/files{}", pointer_step(file)), message, position }
}

/// The Cedar schema of a tenant: its tools with their categories and operations.
pub fn schema_of(state: &State) -> Result<intended_policy::Schema, RuntimeError> {
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
    intended_policy::Schema::generate(&tools).map_err(RuntimeError::internal)
}
