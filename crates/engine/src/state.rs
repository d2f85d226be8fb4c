//! A tenant's state: the fold of the control entries of its ledger. Nothing else makes state, and
//! nothing in it comes from anywhere else (I7). Folding the same entries always gives the same state.
//!
//! Maps stand behind `Arc`, so a copy of the state is cheap and a change copies one map: readers
//! keep the version they started with, for as long as one decision takes.

use std::collections::{BTreeMap, BTreeSet};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use intended_intents::{Catalogue, domain_of};
use intended_model::decision::{DataClass, Operation};
use intended_model::entry::{
    AgentState, ApprovalGranted, CapabilitySet, Criticality, IdentityProviderSet, PolicySource, RoleGrant, Scope,
    Settings, SignInMethod, Tier, WebhookSet, WorkflowStep,
};
use intended_model::{
    CredentialId, Digest, EnvironmentId, Event, IntentId, MemberId, Name, TenantId, Timestamp, Value, synthetic,
};
use intended_policy::{Missing, Named, NamedKind, PackSource, PolicySetVersion};
use ipnet::IpNet;

use crate::breakers::{BreakerError, Breakers};
use crate::emergency::{Emergency, EmergencyError, Glass, Halt};
use crate::lifecycle::{Deployment, Draft, Incident, LifecycleError, MAX_NOTE, PendingRollback};
use crate::restored::Restored;

/// Why an entry cannot follow the entries before it. In a ledger this means tampering or a bug;
/// in the administration point, a request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("a member is linked to an identity provider that there is, and to no other")]
    Linked,
    #[error("the provider knows `{0}` as that")]
    Subject(MemberId),
    #[error("the ledger does not start with `tenant.created`")]
    NoGenesis,
    #[error("a second `tenant.created`")]
    SecondGenesis,
    #[error("the environment `{0}` does not exist")]
    NoEnvironment(EnvironmentId),
    #[error("the policy version {0} was never published")]
    NoVersion(Digest),
    #[error("the policy version's content has the digest {actual}, the entry says {stated}")]
    VersionDigest { stated: Digest, actual: Digest },
    #[error("the policy version's manifest names it `{manifest}`, the entry `{stated}`")]
    VersionName { stated: Box<str>, manifest: Box<str> },
    #[error("the policy version does not parse: {0}")]
    Version(String),
    #[error("the catalogue's text has the digest {actual}, the entry says {stated}")]
    CatalogueDigest { stated: Digest, actual: Digest },
    #[error("the catalogue does not parse: {0}")]
    Catalogue(String),
    #[error("no release up to this one shipped the catalogue {0}")]
    NoCatalogue(Digest),
    #[error("the credential `{0}` exists already")]
    CredentialExists(CredentialId),
    #[error("the credential `{0}` does not exist")]
    NoCredential(CredentialId),
    #[error("the halt `{0}` exists already")]
    HaltExists(Name),
    #[error("the halt `{0}` is not in force")]
    NoHalt(Name),
    #[error("the key `{0}` exists already")]
    KeyExists(Box<str>),
    #[error("the key `{0}` does not exist")]
    NoKey(Box<str>),
    #[error("the settings are not valid: {0}")]
    Settings(&'static str),
    #[error("`{0}` is not an active member")]
    NoMember(MemberId),
    #[error("the id `{0}` is kept for a member")]
    Reserved(CredentialId),
    #[error("`{0}` is not a pattern: printable ASCII with a `*` at its end only")]
    Pattern(Box<str>),
    #[error("`{0}` is not a network such as 10.0.0.0/8")]
    Network(Box<str>),
    #[error("a role is granted for environments or for the whole tenant, and at most {MAX_GRANTS} of them")]
    Grants,
    #[error("`{0}` is suspended already")]
    Suspended(Box<str>),
    #[error("`{0}` is not suspended")]
    NotSuspended(Box<str>),
    #[error("there is no webhook `{0}`")]
    NoWebhook(Name),
    #[error("the review `{0}` exists already")]
    ReviewExists(Name),
    #[error("the review `{0}` is not the last one, or is of another report")]
    NoReview(Name),
    #[error("the review `{review}` has been signed by `{member}`, or by somebody who is the same person")]
    ReviewAgain { review: Name, member: MemberId },
    #[error("the approval is not somebody else's, with means and a group of their own that are older than the request")]
    NotEligible,
    #[error("`{0}` is not a means of signing in that is set by itself")]
    SignInMethod(&'static str),
    #[error("`{0}` has approved it before")]
    ApprovedAgain(MemberId),
    #[error("there is no approval by `{0}` to take back")]
    NoApproval(MemberId),
    #[error("the agent's registration: {} at {}", .0.message, .0.pointer)]
    Agent(crate::agents::WrongAgent),
    #[error("the agent `{0}` is retired, for good")]
    AgentRetired(Box<str>),
    #[error("`{0}` entries do not change the state")]
    NotControl(&'static str),
    #[error(transparent)]
    Breaker(#[from] BreakerError),
    #[error(transparent)]
    Policy(#[from] LifecycleError),
    #[error("the ledger is restored from a copy of {copied} entries, and {known} are said to be known: none is lost")]
    NothingLost { copied: u64, known: u64 },
    #[error("the older checkpoints of what is lost are too many, or not each of more entries than the one before")]
    LostOrder,
    #[error(transparent)]
    Emergency(#[from] EmergencyError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Patterns of the categories that it may act in; none: any.
    pub categories: Vec<Box<str>>,
    pub environments: Vec<EnvironmentId>,
    pub kind: Box<str>,
    /// Who owned it before, and until which ledger position.
    pub owned_until: BTreeMap<Box<str>, u64>,
    pub owner: Box<str>,
    pub purpose: Box<str>,
    pub state: AgentState,
    pub teams: Vec<Name>,
    /// Patterns of the tools that it may use; none: any.
    pub tools: Vec<Box<str>>,
    pub trust: u8,
    pub workflow: Vec<WorkflowStep>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub id: Name,
    pub criticality: Criticality,
    pub data_class: DataClass,
    pub environment: Option<EnvironmentId>,
    pub owner: Box<str>,
    pub pattern: Box<str>,
    pub resource_type: Box<str>,
}

/// Most roles of one member.
pub const MAX_GRANTS: usize = 64;
/// Most groups of an identity provider that are mapped.
pub const MAX_MAPPINGS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: CredentialId,
    /// Patterns of the tools that it may submit intents for; none: any.
    pub actions: Vec<Box<str>>,
    /// Patterns of the agents that intents may be submitted for; none: any.
    pub agents: Vec<Box<str>>,
    /// Who made it.
    pub by: CredentialId,
    /// Ledger position.
    pub created_at: u64,
    pub environments: Vec<EnvironmentId>,
    pub expires_at: Option<Timestamp>,
    /// It can throw one halt, once.
    pub glass: Option<Glass>,
    pub hash: Digest,
    pub member: Option<MemberId>,
    pub networks: Vec<IpNet>,
    /// The key before the last rotation, and until when it is good.
    pub previous: Option<(Digest, Timestamp)>,
    pub revoked: bool,
    /// Ledger position of the last rotation.
    pub rotated_at: Option<u64>,
    /// What it was rotated with, each time: whoever does that has its key.
    pub rotated_by: BTreeSet<CredentialId>,
    pub scopes: Vec<Scope>,
    pub test: bool,
    /// Good for every environment, also for those that are made later.
    pub whole: bool,
}

impl Credential {
    /// Whether a key with this hash is one of it at a time.
    #[must_use]
    pub fn has_key(&self, hash: Digest, at: Timestamp) -> bool {
        self.hash == hash || self.previous.is_some_and(|(previous, until)| previous == hash && at < until)
    }
}

/// An immutable policy version, parsed and indexed once.
#[derive(Debug)]
pub struct Version {
    pub pack: Name,
    pub version: Box<str>,
    pub digest: Digest,
    pub compiled: PolicySetVersion,
    /// What it is expected to do where it is deployed.
    pub expectations: Vec<intended_policy::Expectation>,
    /// Its files, as they were published.
    pub files: BTreeMap<Box<str>, Box<str>>,
}

impl Version {
    /// Makes a version of a pack's files.
    pub fn compile(files: &BTreeMap<Box<str>, Box<str>>) -> Result<Self, FoldError> {
        let source = files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        let wrong = |e: &dyn std::fmt::Display| FoldError::Version(e.to_string());
        let pack =
            intended_policy::Pack::parse(&intended_policy::PackSource { files: source }).map_err(|e| wrong(&e))?;
        Ok(Self {
            pack: Name::new(pack.name()).map_err(|e| wrong(&e))?,
            version: pack.version().into(),
            digest: pack.digest(),
            compiled: PolicySetVersion::compile(&pack).map_err(|e| wrong(&e))?,
            expectations: pack.expectations().to_vec(),
            files: files.clone(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStatus {
    Active,
    Previous,
    Retired,
}

impl KeyStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Previous => "previous",
            Self::Retired => "retired",
        }
    }
}

/// The public half of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The ledger position of the entry that added it, whose time is its birth.
    pub added: u64,
    pub alg: Box<str>,
    pub jwk: Value,
    pub kid: Box<str>,
    pub status: KeyStatus,
}

#[derive(Debug, Clone)]
pub struct Environment {
    pub id: EnvironmentId,
    pub tier: Tier,
    pub settings: Arc<Settings>,
    /// Since which ledger position an agent's owner may approve, if they may.
    pub owners_since: Option<u64>,
    pub deployed: Option<Arc<Version>>,
    /// What it decided by, newest last: the last one is `deployed`.
    pub history: Arc<Vec<Deployment>>,
    /// A rollback that waits for a second person.
    pub rollback: Option<PendingRollback>,
    /// What the source of its policy holds, as was last said.
    pub source: Option<(Digest, PolicySource)>,
    /// What the deployed version names and the tenant has not: see [`intended_policy::missing`].
    pub missing: Arc<Missing>,
    /// Newest last.
    pub keys: Vec<Key>,
    /// Why it takes part in nothing.
    pub suspended: Option<Box<str>>,
}

/// An identity provider that may speak of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    pub provider: Name,
    /// Who the provider was then: another one under its name does not speak of the member.
    pub issuer: Box<str>,
    /// Who the member is to it. Absent until they came: then it is by name and address.
    pub subject: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub active: bool,
    /// Every address that the member ever had, in lower case.
    pub addresses: BTreeSet<Box<str>>,
    /// Who said so last.
    pub by: CredentialId,
    pub email: Option<Box<str>>,
    /// Where the member may decide what is asked of people, and since when.
    pub decides: Vec<Decides>,
    /// Ledger position of the last means of signing in that somebody else gave to the member: what was
    /// asked for before that is not for them to approve.
    pub entrusted_at: Option<u64>,
    /// What the member's means of signing in were given or taken with, ever, the member's own sessions
    /// aside: whoever did that could come in as the member.
    pub entrusted_by: BTreeSet<CredentialId>,
    pub grants: Vec<RoleGrant>,
    pub groups: Vec<Name>,
    /// Until which ledger position the member was last in each group that they have left.
    pub left: BTreeMap<Name, u64>,
    /// The last link, and until when it is good.
    pub link: Option<(Digest, Timestamp)>,
    pub name: Option<Box<str>>,
    /// The identity provider that may speak of the member.
    pub oidc: Option<Linked>,
    /// How many control entries there were when the member was last taken out: sessions from before
    /// do not come back with the member.
    pub out: u64,
    pub sign_in: BTreeSet<SignInMethod>,
    /// Since which ledger position in each group.
    pub since: BTreeMap<Name, u64>,
}

/// A say in what is asked of people, as a role gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decides {
    /// `None`: everywhere.
    pub environment: Option<EnvironmentId>,
    /// Exclusive.
    pub expires_at: Option<Timestamp>,
    /// Ledger position.
    pub since: u64,
}

/// A review of who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    pub id: Name,
    pub digest: Digest,
    pub by: CredentialId,
    /// Ledger position.
    pub index: u64,
    /// Who signed it, and with what.
    pub signed: BTreeMap<MemberId, CredentialId>,
}

impl Review {
    /// Two people are behind it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.signed.len() >= 2
    }
}

/// Everything the gates read besides the recorded input.
#[derive(Debug, Clone)]
pub struct State {
    pub tenant: TenantId,
    pub vkey: Box<str>,
    /// How many control entries this is the fold of.
    pub control: u64,
    pub environments: BTreeMap<EnvironmentId, Environment>,
    pub members: Arc<BTreeMap<MemberId, Arc<Member>>>,
    pub credentials: Arc<BTreeMap<CredentialId, Arc<Credential>>>,
    pub agents: Arc<HashMap<Box<str>, Arc<Agent>>>,
    pub capabilities: Arc<Vec<Capability>>,
    pub catalogue: Arc<Catalogue>,
    pub versions: Arc<BTreeMap<Digest, Arc<Version>>>,
    /// Those in force.
    pub halts: Arc<BTreeMap<Name, Halt>>,
    /// Where it goes on from copies of itself, newest last.
    pub restored: Arc<Vec<Restored>>,
    /// What they cover, and what they and revocations have killed.
    pub emergency: Arc<Emergency>,
    pub breakers: Arc<Breakers>,
    pub approvals: Arc<BTreeMap<IntentId, Vec<(u64, ApprovalGranted)>>>,
    pub drafts: Arc<BTreeMap<Name, Draft>>,
    /// Those that are open.
    pub incidents: BTreeMap<Name, Incident>,
    /// Why the tenant takes part in nothing.
    pub suspended: Option<Box<str>>,
    pub providers: BTreeMap<Name, IdentityProviderSet>,
    pub webhooks: BTreeMap<Name, WebhookSet>,
    /// Oldest first.
    pub reviews: Arc<Vec<Review>>,
}

/// Two equally specific capabilities describe one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousCapability;

impl State {
    /// The state after the first entry.
    pub fn genesis(event: &Event) -> Result<Self, FoldError> {
        let Event::TenantCreated(created) = event else { return Err(FoldError::NoGenesis) };
        Ok(Self {
            tenant: created.tenant.clone(),
            vkey: created.vkey.clone(),
            control: 1,
            environments: BTreeMap::new(),
            members: Arc::default(),
            credentials: Arc::default(),
            agents: Arc::default(),
            capabilities: Arc::default(),
            catalogue: shipped(created.catalogue)?,
            versions: Arc::default(),
            halts: Arc::default(),
            restored: Arc::default(),
            emergency: Arc::default(),
            breakers: Arc::default(),
            approvals: Arc::default(),
            drafts: Arc::default(),
            incidents: BTreeMap::new(),
            suspended: None,
            providers: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            reviews: Arc::default(),
        })
    }

    /// The state after one more control entry, which stands at ledger position `index`.
    /// On an error the state is unchanged.
    pub fn apply(&mut self, index: u64, event: &Event) -> Result<(), FoldError> {
        self.apply_reusing(index, event, &BTreeMap::new())
    }

    /// [`Self::apply`], taking a policy version that was compiled before rather than compiling it
    /// again. The entry's files must still have the digest that the version has.
    pub fn apply_reusing(
        &mut self,
        index: u64,
        event: &Event,
        compiled: &BTreeMap<Digest, Arc<Version>>,
    ) -> Result<(), FoldError> {
        match event {
            Event::TenantCreated(_) => return Err(FoldError::SecondGenesis),
            Event::EnvironmentSet(set) => {
                check_settings(&set.settings)?;
                let settings = Arc::new(set.settings.clone());
                let id = set.environment.clone();
                Arc::make_mut(&mut self.breakers).environment_set(&id, settings.breakers);
                let owners_may = settings.approvals.owner_may_approve.then_some(index);
                self.environments
                    .entry(id.clone())
                    .and_modify(|e| {
                        e.tier = set.tier;
                        e.settings = Arc::clone(&settings);
                        e.owners_since = owners_may.map(|now| e.owners_since.unwrap_or(now));
                    })
                    .or_insert_with(|| Environment {
                        id,
                        tier: set.tier,
                        settings,
                        owners_since: owners_may,
                        deployed: None,
                        history: Arc::default(),
                        rollback: None,
                        source: None,
                        missing: Arc::default(),
                        keys: Vec::new(),
                        suspended: None,
                    });
            }
            Event::MemberSet(set) => self.member_set(index, set)?,
            Event::CredentialCreated(new) => self.credential_created(index, new)?,
            Event::CredentialRotated(new) => {
                let known = Arc::make_mut(&mut self.credentials).get_mut(&new.credential);
                // A break-glass file holds the key that it has.
                let known = known.filter(|c| c.glass.is_none());
                let known = known.ok_or_else(|| FoldError::NoCredential(new.credential.clone()))?;
                let known = Arc::make_mut(known);
                known.previous = Some((known.hash, new.previous_until));
                known.hash = new.hash;
                known.rotated_at = Some(index);
                known.rotated_by.insert(new.by.clone());
            }
            Event::CredentialRevoked(gone) => {
                let known = Arc::make_mut(&mut self.credentials).get_mut(&gone.credential);
                let known = known.ok_or_else(|| FoldError::NoCredential(gone.credential.clone()))?;
                Arc::make_mut(known).revoked = true;
            }
            Event::AccessSuspended(e) => self.suspend(e.environment.as_ref(), Some(&e.reason))?,
            Event::AccessReinstated(e) => self.suspend(e.environment.as_ref(), None)?,
            Event::SignInSet(e) => self.sign_in_set(index, e)?,
            Event::LinkIssued(e) => self.link_issued(index, e)?,
            Event::IdentityProviderSet(e) => {
                e.mappings.values().try_for_each(|m| check_grants(&m.grants))?;
                if e.mappings.len() > MAX_MAPPINGS {
                    return Err(FoldError::Grants);
                }
                if e.active {
                    self.providers.insert(e.provider.clone(), e.clone());
                } else {
                    self.providers.remove(&e.provider);
                }
            }
            Event::ReviewMade(e) => self.review_made(index, e)?,
            Event::ReviewSigned(e) => self.review_signed(e)?,
            Event::WebhookSet(e) => {
                if let Some(environment) = &e.environment {
                    self.environment_mut(environment)?;
                }
                if e.active {
                    self.webhooks.insert(e.webhook.clone(), e.clone());
                } else if self.webhooks.remove(&e.webhook).is_none() {
                    return Err(FoldError::NoWebhook(e.webhook.clone()));
                }
            }
            Event::AgentSet(set) => self.agent_set(index, set)?,
            Event::CapabilitySet(set) => {
                self.set_capability(set);
                self.refresh_missing();
            }
            Event::CatalogueSet(set) => {
                let actual = Digest::of(set.text.as_bytes());
                if actual != set.digest {
                    return Err(FoldError::CatalogueDigest { stated: set.digest, actual });
                }
                let own = Catalogue::parse(&set.text).map_err(|e| FoldError::Catalogue(e.to_string()))?;
                self.catalogue = Arc::new(Catalogue::with_overlay(&*shipped(set.shipped)?, &own));
                self.refresh_missing();
            }
            Event::PolicyPublished(new) => {
                let actual = source(&new.files).digest();
                if actual != new.digest {
                    return Err(FoldError::VersionDigest { stated: new.digest, actual });
                }
                let version = match compiled.get(&actual) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(Version::compile(&new.files)?),
                };
                if version.pack != new.pack || version.version != new.version {
                    let stated = format!("{} {}", new.pack, new.version);
                    let manifest = format!("{} {}", version.pack, version.version);
                    return Err(FoldError::VersionName { stated: stated.into(), manifest: manifest.into() });
                }
                Arc::make_mut(&mut self.versions).insert(new.digest, version);
            }
            Event::PolicyDeployed(e) => self.deployed(index, e)?,
            Event::PolicyDrafted(e) => self.drafted(index, e)?,
            Event::PolicySubmitted(e) => self.submitted(index, e)?,
            Event::PolicyApproved(e) => self.approved(index, e)?,
            Event::PolicyRejected(e) => self.rejected(index, e)?,
            Event::RollbackRequested(e) => self.rollback_requested(index, e)?,
            Event::PolicyVerified(e) => self.verified(e)?,
            Event::PolicySourced(e) => self.sourced(e)?,
            Event::IncidentOpened(e) => {
                if self.incidents.contains_key(&e.incident) {
                    return Err(LifecycleError::IncidentExists(e.incident.clone()).into());
                }
                if let Some(environment) = &e.environment {
                    self.environment_mut(environment)?;
                }
                let (environment, title, by) = (e.environment.clone(), e.title.clone(), self.person(&e.by));
                self.incidents.insert(e.incident.clone(), Incident { environment, title, by, index });
            }
            // It changes nothing, and stands in the order of what did.
            Event::IncidentNoted(e) => {
                if !self.incidents.contains_key(&e.incident) {
                    return Err(LifecycleError::NoIncident(e.incident.clone()).into());
                }
                if e.text.trim().is_empty() || e.text.len() > MAX_NOTE {
                    return Err(LifecycleError::Note.into());
                }
            }
            Event::IncidentClosed(e) => {
                let closed = self.incidents.remove(&e.incident);
                closed.ok_or_else(|| LifecycleError::NoIncident(e.incident.clone()))?;
            }
            Event::HaltThrown(e) => self.halt_thrown(index, e)?,
            Event::HaltResumeAsked(e) => self.halt_resume_asked(index, e)?,
            Event::HaltResumed(e) => self.halt_resumed(e)?,
            Event::TokensRevoked(e) => self.tokens_revoked(index, e)?,
            Event::BreakGlassPrepared(e) => self.break_glass_prepared(index, e)?,
            Event::DrillRecorded(e) => self.drill_recorded(index, e)?,
            Event::LedgerRestored(e) => self.ledger_restored(index, e)?,
            Event::BreakerHeld(e) => {
                self.environment_mut(&e.environment)?;
                Arc::make_mut(&mut self.breakers).hold(e)?;
            }
            Event::BreakerReleased(e) => Arc::make_mut(&mut self.breakers).release(e)?,
            Event::BreakerSet(e) => {
                self.environment_mut(&e.environment)?;
                Arc::make_mut(&mut self.breakers).set(e)?;
            }
            Event::BreakerOpened(e) => Arc::make_mut(&mut self.breakers).opened(e)?,
            Event::BreakerProbing(e) => Arc::make_mut(&mut self.breakers).probing(index, e)?,
            Event::BreakerClosed(e) => Arc::make_mut(&mut self.breakers).closed(e)?,
            Event::KeyAdded(added) => {
                let key = Key {
                    added: index,
                    alg: added.alg.clone(),
                    jwk: added.jwk.clone(),
                    kid: added.kid.clone(),
                    status: KeyStatus::Active,
                };
                let environment = self.environment_mut(&added.environment)?;
                if environment.keys.iter().any(|k| k.kid == added.kid) {
                    return Err(FoldError::KeyExists(added.kid.clone()));
                }
                for key in &mut environment.keys {
                    key.status = match key.status {
                        KeyStatus::Active => KeyStatus::Previous,
                        KeyStatus::Previous | KeyStatus::Retired => KeyStatus::Retired,
                    };
                }
                environment.keys.push(key);
            }
            Event::KeyRetired(retired) => {
                let environment = self.environment_mut(&retired.environment)?;
                let key = environment.keys.iter_mut().find(|k| k.kid == retired.kid);
                key.ok_or_else(|| FoldError::NoKey(retired.kid.clone()))?.status = KeyStatus::Retired;
            }
            Event::ApprovalGranted(granted) => self.approval_granted(index, granted)?,
            Event::ApprovalWithdrawn(e) => self.approval_withdrawn(e)?,
            Event::Decision(_)
            | Event::TokenConsumed(_)
            | Event::TokenRevoked(_)
            | Event::EscalationClosed(_)
            | Event::ApprovalNote(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::IntentOutcome(_) => {
                return Err(FoldError::NotControl(event.kind().as_str()));
            }
        }
        self.control += 1;
        Ok(())
    }

    pub(crate) fn environment_mut(&mut self, id: &EnvironmentId) -> Result<&mut Environment, FoldError> {
        self.environments.get_mut(id).ok_or_else(|| FoldError::NoEnvironment(id.clone()))
    }

    /// Looks again at what the deployed versions name.
    pub(crate) fn refresh_missing(&mut self) {
        if self.environments.values().all(|e| e.deployed.is_none()) {
            return;
        }
        let (agents, capabilities) = (Arc::clone(&self.agents), Arc::clone(&self.capabilities));
        let catalogue = Arc::clone(&self.catalogue);
        let capabilities: HashSet<&str> = capabilities.iter().map(|c| c.id.as_str()).collect();
        let present = agents.values().filter(|a| a.state != AgentState::Retired);
        let teams: HashSet<&str> = present.flat_map(|a| a.teams.iter().map(Name::as_str)).collect();
        // As in the schema that versions are validated against: tools, and the groups that they are in.
        let (mut actions, mut operations) = (HashSet::new(), HashSet::new());
        for (tool, category, operation) in catalogue.tools() {
            actions.extend([tool, category, domain_of(category)]);
            operations.insert(operation.as_str());
        }
        actions.extend([synthetic::NAME, synthetic::CATEGORY, synthetic::DOMAIN]);
        operations.insert(Operation::Probe.as_str());
        let exists = |named: &Named| match named.kind {
            NamedKind::Agent => agents.get(&named.id).is_some_and(|a| a.state != AgentState::Retired),
            NamedKind::Team => teams.contains(&*named.id),
            NamedKind::Capability => capabilities.contains(&*named.id),
            NamedKind::Action => match named.id.strip_prefix("op:") {
                Some(operation) => operations.contains(operation),
                None => actions.contains(&*named.id),
            },
        };
        for environment in self.environments.values_mut() {
            let missing = environment.deployed.as_ref().map(|v| v.compiled.missing(exists)).unwrap_or_default();
            if *environment.missing != missing {
                environment.missing = Arc::new(missing);
            }
        }
    }

    fn set_capability(&mut self, set: &CapabilitySet) {
        let capabilities = Arc::make_mut(&mut self.capabilities);
        capabilities.retain(|c| c.id != set.capability);
        if set.active {
            capabilities.push(Capability {
                id: set.capability.clone(),
                criticality: set.criticality,
                data_class: set.data_class,
                environment: set.environment.clone(),
                owner: set.owner.clone(),
                pattern: set.pattern.clone(),
                resource_type: set.resource_type.clone(),
            });
            // Most specific first: exact patterns, then longer prefixes.
            capabilities.sort_by(|a, b| specificity(b).cmp(&specificity(a)).then_with(|| a.id.cmp(&b.id)));
        }
    }

    /// What the registry says about a target. The most specific pattern wins; two of the same
    /// specificity are ambiguous.
    pub fn capability(&self, kind: &str, id: &str) -> Result<Option<&Capability>, AmbiguousCapability> {
        let mut matching =
            self.capabilities.iter().filter(|c| *c.resource_type == *kind && crate::access::matches(&c.pattern, id));
        let first = matching.next();
        match (first, matching.next()) {
            (Some(a), Some(b)) if specificity(a) == specificity(b) => Err(AmbiguousCapability),
            _ => Ok(first),
        }
    }
}

/// What every list of roles keeps to.
pub(crate) fn check_grants(grants: &[RoleGrant]) -> Result<(), FoldError> {
    let good = grants.len() <= MAX_GRANTS && grants.iter().all(|g| g.environments.is_empty() == g.whole);
    if good { Ok(()) } else { Err(FoldError::Grants) }
}

fn specificity(capability: &Capability) -> (bool, usize) {
    (!capability.pattern.ends_with('*'), capability.pattern.len())
}

fn shipped(digest: Digest) -> Result<Arc<Catalogue>, FoldError> {
    Catalogue::shipped(digest).ok_or(FoldError::NoCatalogue(digest))
}

fn source(files: &BTreeMap<Box<str>, Box<str>>) -> PackSource {
    PackSource { files: files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect() }
}

/// Bounds of an environment's settings. Longest escalation: 7 days. Most budgets: 64.
pub fn check_settings(settings: &Settings) -> Result<(), FoldError> {
    let ok = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(FoldError::Settings(what)) };
    ok((1..=300).contains(&settings.token_ttl_secs), "token_ttl_secs lies within 1 to 300")?;
    ok(settings.confidence_threshold <= 100, "confidence_threshold lies within 0 to 100")?;
    ok(settings.risk_deny_at <= 101, "risk_deny_at lies within 0 to 101")?;
    ok(
        (1..=604_800).contains(&settings.escalation_timeout_secs),
        "escalation_timeout_secs lies within 1 second to 7 days",
    )?;
    ok(!settings.audience.is_empty() && settings.audience.len() <= 256, "audience has 1 to 256 characters")?;
    let rules = &settings.policy;
    ok(settings.emergency.resume_people.is_none_or(|n| (1..=2).contains(&n)), "emergency.resume_people is 1 or 2")?;
    ok(settings.approvals.bulk_max_risk <= 100, "approvals.bulk_max_risk lies within 0 to 100")?;
    ok((1..=300).contains(&settings.approvals.token_ttl_secs), "approvals.token_ttl_secs lies within 1 to 300")?;
    ok(rules.approvals <= 20, "policy.approvals lies within 0 to 20")?;
    ok(rules.max_blast_permille <= 1000, "policy.max_blast_permille lies within 0 to 1000")?;
    ok(rules.rollback_people.is_none_or(|n| (1..=2).contains(&n)), "policy.rollback_people is 1 or 2")?;
    ok(
        (60..=2_678_400).contains(&rules.simulation_window_secs),
        "policy.simulation_window_secs lies within one minute to 31 days",
    )?;
    ok(settings.budgets.len() <= 64, "there are at most 64 budgets")?;
    ok(
        settings.budgets.iter().all(|b| b.limit >= 0 && b.window_secs >= 1),
        "a budget's limit is not negative and its window at least 1 second",
    )?;
    ok(settings.hours.weekdays.iter().all(|d| (1..=7).contains(d)), "weekdays are 1 (Monday) to 7")?;
    ok(
        settings.hours.to_minute <= 1440 && (-14 * 60..=14 * 60).contains(&settings.hours.offset_minutes),
        "hours lie within one day",
    )?;
    let ids: std::collections::BTreeSet<_> = settings.budgets.iter().map(|b| &b.id).collect();
    ok(ids.len() == settings.budgets.len(), "each budget has its own id")
}
