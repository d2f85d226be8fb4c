//! Everything that can stand in a ledger. A tenant's state is the fold of the *control* entries;
//! decisions, consumptions, revocations and timeouts follow from it and do not change it.
//!
//! Every body is an object with a version `v`, without unknown members; each kind has one struct.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::emergency::{DrillKind, DrillStep, HaltTarget, TokenSelector, TreeAt};

pub use crate::access::{Role, RoleGrant, Scope, Scopes, SignInMethod, WorkflowStep};
pub use crate::breaker::{
    ActionOutcome, BreakerDefaults, BreakerMeasure, BreakerMetric, BreakerRules, BreakerScope, BreakerSpend,
    BreakerTarget, BreakerWindow,
};
use crate::decision::{DataClass, DecisionRecord};
use crate::{Code, CredentialId, Digest, EnvironmentId, IntentId, MemberId, Name, TenantId, Timestamp, Value};

/// The version of entry bodies that this release writes.
pub const BODY_VERSION: u32 = 1;

macro_rules! kinds {
    ($($variant:ident($body:ty) = $text:literal, control: $control:literal;)+) => {
        /// The kind of an entry, as the leaf names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($variant,)+ }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }
            /// Whether entries of this kind change the tenant's state.
            #[must_use]
            pub const fn is_control(self) -> bool { match self { $(Self::$variant => $control,)+ } }
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$variant),)+ _ => None } }
        }

        /// An entry's body.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[expect(clippy::large_enum_variant, reason = "events are handled one at a time")]
        pub enum Event { $($variant($body),)+ }

        impl Event {
            #[must_use]
            pub const fn kind(&self) -> Kind { match self { $(Self::$variant(_) => Kind::$variant,)+ } }
            /// The version that the body says it has.
            #[must_use]
            pub const fn version(&self) -> u32 { match self { $(Self::$variant(body) => body.v,)+ } }
            /// The body as canonical JSON.
            pub fn to_canonical(&self) -> Result<String, crate::json::JsonError> {
                match self { $(Self::$variant(body) => crate::json::canonical(body),)+ }
            }
            /// Reads the body of an entry of `kind`.
            pub fn parse(kind: Kind, body: &Value) -> Result<Self, crate::json::JsonError> {
                Ok(match kind { $(Kind::$variant => Self::$variant(crate::json::from_value(body)?),)+ })
            }
        }
    };
}

kinds! {
    TenantCreated(TenantCreated) = "tenant.created", control: true;
    EnvironmentSet(EnvironmentSet) = "environment.set", control: true;
    MemberSet(MemberSet) = "member.set", control: true;
    CredentialCreated(CredentialCreated) = "credential.created", control: true;
    CredentialRotated(CredentialRotated) = "credential.rotated", control: true;
    CredentialRevoked(CredentialRevoked) = "credential.revoked", control: true;
    AccessSuspended(AccessSuspended) = "access.suspended", control: true;
    AccessReinstated(AccessReinstated) = "access.reinstated", control: true;
    SignInSet(SignInSet) = "sign_in.set", control: true;
    LinkIssued(LinkIssued) = "sign_in.link_issued", control: true;
    IdentityProviderSet(IdentityProviderSet) = "sign_in.provider_set", control: true;
    ReviewMade(ReviewMade) = "access.reviewed", control: true;
    ReviewSigned(ReviewSigned) = "access.review_signed", control: true;
    WebhookSet(WebhookSet) = "webhook.set", control: true;
    AgentSet(AgentSet) = "agent.set", control: true;
    CapabilitySet(CapabilitySet) = "capability.set", control: true;
    CatalogueSet(CatalogueSet) = "catalogue.set", control: true;
    PolicyPublished(PolicyPublished) = "policy.published", control: true;
    PolicyDeployed(PolicyDeployed) = "policy.deployed", control: true;
    PolicyDrafted(PolicyDrafted) = "policy.drafted", control: true;
    PolicySubmitted(PolicySubmitted) = "policy.submitted", control: true;
    PolicyApproved(PolicyApproved) = "policy.approved", control: true;
    PolicyRejected(PolicyRejected) = "policy.rejected", control: true;
    RollbackRequested(RollbackRequested) = "policy.rollback_requested", control: true;
    PolicyVerified(PolicyVerified) = "policy.verified", control: true;
    PolicySourced(PolicySourced) = "policy.sourced", control: true;
    IncidentOpened(IncidentOpened) = "incident.opened", control: true;
    IncidentNoted(IncidentNoted) = "incident.noted", control: true;
    IncidentClosed(IncidentClosed) = "incident.closed", control: true;
    HaltThrown(HaltThrown) = "halt.thrown", control: true;
    HaltResumeAsked(HaltResumeAsked) = "halt.resume_asked", control: true;
    HaltResumed(HaltResumed) = "halt.resumed", control: true;
    TokensRevoked(TokensRevoked) = "tokens.revoked", control: true;
    BreakGlassPrepared(BreakGlassPrepared) = "break_glass.prepared", control: true;
    DrillRecorded(DrillRecorded) = "drill.recorded", control: true;
    LedgerRestored(LedgerRestored) = "ledger.restored", control: true;
    BreakerHeld(BreakerHeld) = "breaker.held", control: true;
    BreakerReleased(BreakerReleased) = "breaker.released", control: true;
    BreakerSet(BreakerSet) = "breaker.set", control: true;
    BreakerOpened(BreakerOpened) = "breaker.opened", control: true;
    BreakerProbing(BreakerProbing) = "breaker.probing", control: true;
    BreakerClosed(BreakerClosed) = "breaker.closed", control: true;
    KeyAdded(KeyAdded) = "key.added", control: true;
    KeyRetired(KeyRetired) = "key.retired", control: true;
    ApprovalGranted(ApprovalGranted) = "approval.granted", control: true;
    ApprovalWithdrawn(ApprovalWithdrawn) = "approval.withdrawn", control: true;
    Decision(DecisionRecord) = "decision", control: false;
    TokenConsumed(TokenConsumed) = "token.consumed", control: false;
    TokenRevoked(TokenRevoked) = "token.revoked", control: false;
    EscalationClosed(EscalationClosed) = "escalation.closed", control: false;
    ApprovalNote(ApprovalNote) = "approval.note", control: false;
    SessionStarted(SessionStarted) = "session.started", control: false;
    SessionEnded(SessionEnded) = "session.ended", control: false;
    IntentOutcome(IntentOutcome) = "intent.outcome", control: false;
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* pub v: u32 }
    )+};
}

bodies! {
    /// The first entry of every ledger.
    TenantCreated {
        /// The shipped tool catalogue that it is decided by, until one is set.
        catalogue: Digest,
        tenant: TenantId,
        /// The ledger's public key, as a C2SP verifier key.
        vkey: Box<str>,
    }
    /// Creates an environment or changes its settings.
    EnvironmentSet {
        by: CredentialId,
        environment: EnvironmentId,
        settings: Settings,
        tier: Tier,
    }
    /// Adds a member or changes what is said of one. All of it is new: what is left out is gone.
    MemberSet {
        active: bool,
        by: CredentialId,
        /// For people, and for an identity provider to know them by. Not checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<Box<str>>,
        /// The roles that the member has, where and until when.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        grants: Vec<RoleGrant>,
        groups: Vec<Name>,
        member: MemberId,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Box<str>>,
    }
    /// A service credential. The key itself never enters the ledger, only its SHA-256.
    CredentialCreated {
        /// Patterns of the tools that it may submit intents for; none: any tool.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<Box<str>>,
        /// Patterns of the agents that it may submit intents for; none: any agent.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        agents: Vec<Box<str>>,
        by: CredentialId,
        credential: CredentialId,
        environments: Vec<EnvironmentId>,
        expires_at: Option<Timestamp>,
        hash: Digest,
        /// The member it belongs to, if it is a person's.
        member: Option<MemberId>,
        /// Networks that it may be used from (`10.0.0.0/8`, RFC 4632 and RFC 4291); none: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        networks: Vec<Box<str>>,
        scopes: Vec<Scope>,
        /// Its key says `test`: it is never good for a production environment, whatever it names.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        test: bool,
        /// Good for every environment, also for those that are made later.
        whole: bool,
    }
    /// A new key for a credential. The one before stays good until `previous_until`.
    CredentialRotated {
        by: CredentialId,
        credential: CredentialId,
        hash: Digest,
        previous_until: Timestamp,
    }
    CredentialRevoked {
        by: CredentialId,
        credential: CredentialId,
        reason: Box<str>,
    }
    /// The tenant or an environment takes part in nothing until it is reinstated.
    AccessSuspended {
        by: CredentialId,
        /// Absent: the whole tenant, by who operates the server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
        reason: Box<str>,
    }
    AccessReinstated {
        by: CredentialId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
        reason: Box<str>,
    }
    /// A means of signing in that a member has from here on, or has no more. The secret itself is
    /// sealed beside the ledger.
    SignInSet {
        active: bool,
        by: CredentialId,
        member: MemberId,
        method: SignInMethod,
        /// Of `oidc`: the provider that may speak of the member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<Name>,
        /// Who the member is to it, from when they came: SHA-256 of its issuer and its subject.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Digest>,
    }
    /// A link that lets a member sign in once. Only the SHA-256 of its code is here.
    LinkIssued {
        by: CredentialId,
        expires_at: Timestamp,
        link: Digest,
        member: MemberId,
    }
    /// The OpenID provider whose word is taken for who somebody is, and what its groups mean here.
    IdentityProviderSet {
        active: bool,
        by: CredentialId,
        client_id: Box<str>,
        /// The claim that holds the groups, `groups` say.
        groups_claim: Box<str>,
        issuer: Box<str>,
        /// What a group of the provider gives.
        mappings: BTreeMap<Box<str>, ProviderGroup>,
        /// The claim that names the member: `email` for its local part; absent: `preferred_username`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member_claim: Option<Box<str>>,
        provider: Name,
    }
    /// A review of who may do what: the digest of the report, which is kept beside the ledger.
    ReviewMade {
        by: CredentialId,
        digest: Digest,
        review: Name,
    }
    /// One person's signature under a review.
    ReviewSigned {
        by: CredentialId,
        digest: Digest,
        member: MemberId,
        reason: Box<str>,
        review: Name,
    }
    /// Where to send what happens to approvals. The signing secret is sealed beside the ledger.
    WebhookSet {
        active: bool,
        by: CredentialId,
        /// Absent: of every environment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
        /// Event types, `approval.requested` say.
        events: Vec<Box<str>>,
        url: Box<str>,
        webhook: Name,
    }
    /// Registers an agent or changes its registration.
    AgentSet {
        agent: Box<str>,
        by: CredentialId,
        /// Patterns of the Open Intent Layer categories that it may act in; none: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        categories: Vec<Box<str>>,
        environments: Vec<EnvironmentId>,
        /// The AuthZEN subject type it is known under.
        kind: Box<str>,
        owner: Box<str>,
        /// What it is for, for people.
        #[serde(default, skip_serializing_if = "str::is_empty")]
        purpose: Box<str>,
        state: AgentState,
        teams: Vec<Name>,
        /// Patterns of the tools that it may use; none: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<Box<str>>,
        /// 0 (none) to 100.
        trust: u8,
        /// The order of actions that it declares; none: any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        workflow: Vec<WorkflowStep>,
    }
    /// Says what a target is. The longest matching pattern wins.
    CapabilitySet {
        active: bool,
        by: CredentialId,
        capability: Name,
        criticality: Criticality,
        data_class: DataClass,
        /// The only environment it may be touched from; absent: any.
        environment: Option<EnvironmentId>,
        owner: Box<str>,
        /// A resource id, or a prefix followed by `*`.
        pattern: Box<str>,
        resource_type: Box<str>,
    }
    /// Replaces the tenant's own part of the tool catalogue.
    CatalogueSet {
        by: CredentialId,
        digest: Digest,
        /// The shipped catalogue that the tenant's own stands on from here.
        shipped: Digest,
        text: Box<str>,
    }
    /// An immutable policy version with its whole content.
    PolicyPublished {
        by: CredentialId,
        digest: Digest,
        files: BTreeMap<Box<str>, Box<str>>,
        pack: Name,
        version: Box<str>,
    }
    /// From here on, the environment decides by this version.
    PolicyDeployed {
        by: CredentialId,
        #[serde(default, skip_serializing_if = "DeployCause::is_deploy")]
        cause: DeployCause,
        digest: Digest,
        /// The approved draft that it is; absent where the environment asks for no approvals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        draft: Option<Name>,
        environment: EnvironmentId,
        pack: Name,
        /// Why, of a rollback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Box<str>>,
        /// The version that the deployer saw deployed, if there was one: another one deployed in
        /// between refuses this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<Digest>,
        /// What replaying the recorded decisions came to right before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        simulation: Option<SimulationSummary>,
    }
    /// Begins a draft, or puts another content into it. The content is a published version; whatever
    /// was submitted or approved of the draft before is void.
    PolicyDrafted {
        by: CredentialId,
        digest: Digest,
        draft: Name,
        environment: EnvironmentId,
        pack: Name,
        /// 1 for a new draft, then one more each time.
        revision: u32,
        /// Where the files come from, for people and for drift.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<PolicySource>,
        title: Box<str>,
    }
    /// The draft passed what is measured before people look at it.
    PolicySubmitted {
        by: CredentialId,
        digest: Digest,
        draft: Name,
        gates: Vec<GateMeasure>,
        /// The version that the simulation compared with, if one was deployed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<Digest>,
        /// What replaying the recorded decisions came to.
        simulation: SimulationSummary,
    }
    /// One person's approval of exactly this content.
    PolicyApproved {
        approver: MemberId,
        by: CredentialId,
        digest: Digest,
        draft: Name,
        reason: Box<str>,
    }
    PolicyRejected {
        by: CredentialId,
        digest: Digest,
        draft: Name,
        reason: Box<str>,
    }
    /// Of two people that a rollback needs, the first.
    RollbackRequested {
        by: CredentialId,
        /// The version to go back from, deployed when this was asked for.
        from: Digest,
        environment: EnvironmentId,
        expires_at: Timestamp,
        reason: Box<str>,
        to: Digest,
    }
    /// The expected outcomes of a version, decided on the state that it was deployed into.
    PolicyVerified {
        at: Timestamp,
        /// Who deployed it.
        by: CredentialId,
        digest: Digest,
        environment: EnvironmentId,
        passed: bool,
        results: Vec<ExpectationResult>,
    }
    /// What the source of an environment's policy holds now, as somebody with access to it says.
    PolicySourced {
        by: CredentialId,
        digest: Digest,
        environment: EnvironmentId,
        source: PolicySource,
    }
    /// Something is wrong and people are at work: rolling back then needs one person.
    IncidentOpened {
        by: CredentialId,
        /// Absent: the whole tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
        incident: Name,
        title: Box<str>,
    }
    /// What somebody who is at work on it found or did.
    IncidentNoted {
        by: CredentialId,
        incident: Name,
        text: Box<str>,
    }
    /// The reason is a summary of what happened and what was done.
    IncidentClosed {
        by: CredentialId,
        incident: Name,
        reason: Box<str>,
    }
    HaltThrown {
        by: CredentialId,
        /// Absent: the whole tenant.
        environment: Option<EnvironmentId>,
        halt: Name,
        /// Absent: everything there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<HaltTarget>,
        reason: Box<str>,
        /// How many people it takes to lift it. Absent in entries from before it was recorded: one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume_people: Option<u32>,
    }
    /// Of two people that lifting a halt takes, the first.
    HaltResumeAsked {
        by: CredentialId,
        expires_at: Timestamp,
        halt: Name,
        reason: Box<str>,
    }
    /// Every token that the selector means, of those granted before this entry, is good for nothing.
    TokensRevoked {
        by: CredentialId,
        reason: Box<str>,
        selector: TokenSelector,
        /// By then every token that it can mean has expired.
        until: Timestamp,
    }
    /// A credential that can throw one halt, once, and do nothing else.
    BreakGlassPrepared {
        by: CredentialId,
        credential: CredentialId,
        /// Of the halt; absent: every environment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environment: Option<EnvironmentId>,
        expires_at: Timestamp,
        hash: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<HaltTarget>,
    }
    /// A procedure was tried on traffic of its own.
    DrillRecorded {
        by: CredentialId,
        drill: DrillKind,
        environment: EnvironmentId,
        passed: bool,
        /// Whether everything is as it was before.
        restored: bool,
        started_at: Timestamp,
        steps: Vec<DrillStep>,
    }
    HaltResumed {
        by: CredentialId,
        halt: Name,
        reason: Box<str>,
    }
    /// From here on the ledger goes on from a copy of itself. What was recorded after the copy was made is
    /// not in it, whatever it was: so the tenant is halted, and nothing that was let through before counts.
    LedgerRestored {
        /// Older checkpoints that were known of what is lost, the smaller first: whoever keeps one of them
        /// is told that it is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also_lost: Vec<TreeAt>,
        /// When, by the clock of who restored it.
        at: Timestamp,
        by: CredentialId,
        /// The tree that was copied: of the entries before this one.
        copied: TreeAt,
        halt: Name,
        /// The newest checkpoint that was known and signs for more: so much is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<TreeAt>,
        reason: Box<str>,
        /// How many people it takes to lift the halt.
        resume_people: u32,
    }
    /// A breaker opened by hand.
    BreakerHeld {
        breaker: Name,
        by: CredentialId,
        environment: EnvironmentId,
        reason: Box<str>,
        scope: BreakerScope,
        /// Of a tool or category, a `*` at its end stands for anything. Empty for `tenant`.
        target: Box<str>,
    }
    BreakerReleased {
        breaker: Name,
        by: CredentialId,
        reason: Box<str>,
    }
    /// What opens a breaker and how it closes. Set again, it starts closed. A default one that is not
    /// active is off; any other is gone.
    BreakerSet {
        active: bool,
        breaker: Name,
        by: CredentialId,
        environment: EnvironmentId,
        on: BreakerTarget,
        rules: BreakerRules,
    }
    /// A threshold was reached, or a probe failed. Made by the runtime.
    BreakerOpened {
        at: Timestamp,
        breaker: Name,
        environment: EnvironmentId,
        measured: BreakerMeasure,
        /// When it is tried again, at the earliest.
        retry_at: Timestamp,
        /// Which one, of a breaker that watches each.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Box<str>>,
    }
    /// It was open long enough: some actions are let through. Made by the runtime.
    BreakerProbing {
        at: Timestamp,
        breaker: Name,
        environment: EnvironmentId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Box<str>>,
    }
    /// The probes succeeded. Made by the runtime.
    BreakerClosed {
        at: Timestamp,
        breaker: Name,
        environment: EnvironmentId,
        succeeded: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Box<str>>,
        /// Probes of which nobody said what came of them, in time. Of one that what comes of actions has
        /// opened there are none.
        #[serde(default, skip_serializing_if = "crate::breaker::is_none")]
        unreported: u32,
    }
    /// A new active signing key; the one before becomes the previous.
    KeyAdded {
        alg: Box<str>,
        by: CredentialId,
        environment: EnvironmentId,
        /// RFC 7517, public members only.
        jwk: Value,
        kid: Box<str>,
    }
    /// Tokens signed with this key are refused from here on.
    KeyRetired {
        by: CredentialId,
        environment: EnvironmentId,
        kid: Box<str>,
        reason: Box<str>,
    }
    /// One person's approval of one escalated intent.
    ApprovalGranted {
        approver: MemberId,
        /// When it was given, as the person's rate counts it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        by: CredentialId,
        environment: EnvironmentId,
        expires_at: Timestamp,
        intent: IntentId,
        intent_hash: Digest,
        policy: Digest,
        reason: Box<str>,
        /// Ledger position of the decision that asked for it. Who may approve is who could then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
    }
    /// An approval taken back before it was used.
    ApprovalWithdrawn {
        approver: MemberId,
        by: CredentialId,
        environment: EnvironmentId,
        intent: IntentId,
        reason: Box<str>,
    }
    /// A question about an open escalation, or an answer to one.
    ApprovalNote {
        /// Whether it answers rather than asks.
        answer: bool,
        by: CredentialId,
        environment: EnvironmentId,
        intent: IntentId,
        text: Box<str>,
    }
    TokenConsumed {
        by: CredentialId,
        /// Of the intent: who counts uses counts no self-test.
        #[serde(default, skip_serializing_if = "crate::Class::is_traffic")]
        class: crate::Class,
        environment: EnvironmentId,
        intent: IntentId,
        jti: Box<str>,
    }
    TokenRevoked {
        by: CredentialId,
        environment: EnvironmentId,
        exp: i64,
        intent: IntentId,
        jti: Box<str>,
        reason: Box<str>,
    }
    /// An open escalation or deferral ended without being allowed.
    EscalationClosed {
        /// Who closed it; absent: its time was over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<CredentialId>,
        environment: EnvironmentId,
        expires_at: Timestamp,
        intent: IntentId,
        /// Why, in the words of who closed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Box<str>>,
        reason: Code,
    }
    /// Somebody signed in. Only the SHA-256 of the session's key is here.
    SessionStarted {
        expires_at: Timestamp,
        /// The link that it was signed in with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Digest>,
        member: MemberId,
        method: SignInMethod,
        session: Digest,
    }
    SessionEnded {
        by: CredentialId,
        member: MemberId,
        reason: Box<str>,
        session: Digest,
    }
    /// What came of an action whose token was used, as its enforcement point says. Once.
    IntentOutcome {
        by: CredentialId,
        /// For people: an error's text, say. At most 500 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Box<str>>,
        /// How long the action took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u32>,
        environment: EnvironmentId,
        intent: IntentId,
        outcome: ActionOutcome,
    }
}

/// What a group of an identity provider gives its people here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderGroup {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<RoleGrant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Name>,
}

/// Why a version was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeployCause {
    #[default]
    Deploy,
    /// People went back to an earlier version.
    Rollback,
    /// The version before did not do what it was expected to.
    Reverted,
}

impl DeployCause {
    #[must_use]
    pub const fn is_deploy(&self) -> bool {
        matches!(self, Self::Deploy)
    }
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Reverted => "reverted",
        }
    }
}

/// Where a pack's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// A directory or repository, as its user names it. 1–512 characters.
    pub location: Box<str>,
    /// A commit, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Box<str>>,
}

/// One thing that was measured before deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateMeasure {
    /// What was found, for people.
    pub detail: Box<str>,
    pub gate: PolicyGate,
    pub passed: bool,
}

/// What stands between a draft and its deployment, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyGate {
    Validation,
    Tests,
    Simulation,
    Approvals,
    /// After deployment: its expected outcomes.
    Verification,
}

impl PolicyGate {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Tests => "tests",
            Self::Simulation => "simulation",
            Self::Approvals => "approvals",
            Self::Verification => "verification",
        }
    }
}

/// What replaying recorded decisions through another version came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulationSummary {
    /// Ledger positions, from inclusive, to exclusive.
    pub from_index: u64,
    pub to_index: u64,
    /// Decisions of the environment in the window.
    pub decisions: u64,
    /// Of them, how many could be replayed.
    pub replayed: u64,
    /// Of the replayed, how many come out otherwise or with another obligation.
    pub changed: u64,
    /// Of the replayed, how many a policy of the version had a say in.
    pub matched: u64,
    /// Changed among the replayed, in thousandths, rounded up: the blast radius.
    pub blast_permille: u32,
    /// Escalations that there were not, in the busiest hour of the window.
    pub new_escalations_per_hour: u32,
    /// How many seconds the window has.
    pub window_secs: u64,
}

/// One expected outcome and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectationResult {
    pub decision: crate::Outcome,
    pub expected: crate::Outcome,
    /// The reason that was expected, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_reason: Option<Code>,
    pub name: Box<str>,
    pub reason: Code,
}

impl ExpectationResult {
    #[must_use]
    pub fn as_expected(&self) -> bool {
        self.decision == self.expected && self.expected_reason.is_none_or(|r| r == self.reason)
    }
}

/// What an environment asks of a change of its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRules {
    /// People who must approve a draft; 0 lets a version be deployed without a draft.
    pub approvals: u32,
    /// The group that they must be in; absent: any member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Name>,
    /// Most recorded decisions that a version may change, in thousandths; 1000 sets no limit.
    pub max_blast_permille: u32,
    /// Most new escalations in an hour that the approvers can take; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_escalations_per_hour: Option<u32>,
    /// People that a rollback takes while no incident is open; absent: 2 in production, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_people: Option<u32>,
    /// How far back a simulation reaches.
    pub simulation_window_secs: u32,
}

impl Default for PolicyRules {
    fn default() -> Self {
        Self {
            approvals: 0,
            approvers: None,
            max_blast_permille: 1000,
            max_new_escalations_per_hour: None,
            rollback_people: None,
            simulation_window_secs: 86_400,
        }
    }
}

impl PolicyRules {
    /// People that a rollback takes while no incident is open.
    #[must_use]
    pub fn rollback_people(&self, tier: Tier) -> u32 {
        self.rollback_people.unwrap_or(if tier == Tier::Production { 2 } else { 1 })
    }
}

/// How much an environment matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    Development,
    Staging,
    Production,
}

impl Tier {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    Active,
    Paused,
    Retired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    Low,
    Medium,
    High,
    Critical,
}

impl Criticality {
    /// 0 low … 3 critical.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Medium => 1,
            Self::High => 2,
            Self::Critical => 3,
        }
    }
}

/// An environment's settings. Every number has its unit in its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    #[serde(skip_serializing_if = "ApprovalRules::is_default")]
    pub approvals: ApprovalRules,
    /// Token audience when the request names none.
    pub audience: Box<str>,
    #[serde(skip_serializing_if = "BreakerDefaults::is_default")]
    pub breakers: BreakerDefaults,
    pub budgets: Vec<Budget>,
    /// 0–100: classifications below it never allow.
    pub confidence_threshold: u8,
    #[serde(skip_serializing_if = "EmergencyRules::is_default")]
    pub emergency: EmergencyRules,
    /// How long an escalation or deferral stays open.
    pub escalation_timeout_secs: u32,
    pub hours: BusinessHours,
    pub policy: PolicyRules,
    /// 0–100, denies from here on; 101 never denies by score alone.
    pub risk_deny_at: u8,
    pub risk_weights: RiskWeights,
    /// 1–300.
    pub token_ttl_secs: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            approvals: ApprovalRules::default(),
            audience: "intended".into(),
            breakers: BreakerDefaults::default(),
            budgets: Vec::new(),
            confidence_threshold: 70,
            emergency: EmergencyRules::default(),
            escalation_timeout_secs: 3600,
            hours: BusinessHours::default(),
            policy: PolicyRules::default(),
            risk_deny_at: 90,
            risk_weights: RiskWeights::default(),
            token_ttl_secs: 60,
        }
    }
}

/// What an environment asks of those who lift halts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmergencyRules {
    /// People that lifting a halt takes; absent: 2 in production, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_people: Option<u32>,
}

impl EmergencyRules {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
    #[must_use]
    pub fn resume_people(&self, tier: Tier) -> u32 {
        self.resume_people.unwrap_or(if tier == Tier::Production { 2 } else { 1 })
    }
}

/// What an environment asks of those who approve escalated actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalRules {
    /// 0–100: what has a higher risk score is approved one at a time.
    pub bulk_max_risk: u8,
    /// Most approvals that one person gives in an hour; 0 sets no limit.
    pub max_per_person_per_hour: u32,
    /// Whether an agent's owner may approve what the agent asks for.
    pub owner_may_approve: bool,
    /// 1–300: how long the token of an approved action is good for. It waits for the agent.
    pub token_ttl_secs: u32,
}

impl Default for ApprovalRules {
    fn default() -> Self {
        Self { bulk_max_risk: 30, max_per_person_per_hour: 60, owner_may_approve: false, token_ttl_secs: 300 }
    }
}

impl ApprovalRules {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Weights of the eight factors; the score is the weighted mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskWeights {
    pub actor_trust: u16,
    pub base_action: u16,
    pub blast_radius: u16,
    pub data_sensitivity: u16,
    pub environment: u16,
    pub privilege: u16,
    pub reversibility: u16,
    pub time_of_day: u16,
}

impl Default for RiskWeights {
    fn default() -> Self {
        Self {
            actor_trust: 10,
            base_action: 20,
            blast_radius: 15,
            data_sensitivity: 15,
            environment: 15,
            privilege: 10,
            reversibility: 10,
            time_of_day: 5,
        }
    }
}

/// When people are around, at a fixed offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusinessHours {
    /// Minute of the day, inclusive.
    pub from_minute: u16,
    pub offset_minutes: i32,
    /// Minute of the day, exclusive.
    pub to_minute: u16,
    /// ISO weekdays, Monday = 1.
    pub weekdays: Vec<u8>,
}

impl Default for BusinessHours {
    fn default() -> Self {
        Self { from_minute: 8 * 60, offset_minutes: 0, to_minute: 18 * 60, weekdays: vec![1, 2, 3, 4, 5] }
    }
}

/// A bound on what may be allowed within a window. Judged again when the decision commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Only intents of this agent; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<str>>,
    /// The argument whose amount counts, in hundredths; absent: each intent counts 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Box<str>>,
    pub id: Name,
    /// Inclusive. For amounts in hundredths of the argument's unit.
    pub limit: i64,
    /// Count per agent rather than for all together.
    #[serde(default)]
    pub per_agent: bool,
    /// Only this tool; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Box<str>>,
    pub window_secs: u32,
}
