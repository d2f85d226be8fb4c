//! Every capability that the product claims: what is claimed, where it is described, what its live
//! probe does, and which tests hold it. `docs/capabilities.md` and the list in the README are made of
//! this, and so is what `intended capabilities` shows.
//!
//! A capability is a variant of one closed enum. What probes it is a match over that enum (`probes`),
//! so a claim without a probe does not compile.
//!
//! These files name nothing but themselves: the page is made of them without the rest of this crate.

mod access;
mod approvals;
mod breakers;
mod decide;
mod emergency;
mod ledger;
mod operate;
mod policy;
mod send;
mod tokens;
mod watching;

/// What somebody looks a capability up under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    Decide,
    Tokens,
    Ledger,
    Policy,
    Approvals,
    Emergency,
    Breakers,
    Access,
    Investigate,
    Webhooks,
    Siem,
    Operate,
    Storage,
}

impl Area {
    pub const ALL: &'static [Self] = &[
        Self::Decide,
        Self::Tokens,
        Self::Ledger,
        Self::Policy,
        Self::Approvals,
        Self::Emergency,
        Self::Breakers,
        Self::Access,
        Self::Investigate,
        Self::Webhooks,
        Self::Siem,
        Self::Operate,
        Self::Storage,
    ];
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Tokens => "tokens",
            Self::Ledger => "ledger",
            Self::Policy => "policy",
            Self::Approvals => "approvals",
            Self::Emergency => "emergency",
            Self::Breakers => "breakers",
            Self::Access => "access",
            Self::Investigate => "investigate",
            Self::Webhooks => "webhooks",
            Self::Siem => "siem",
            Self::Operate => "operate",
            Self::Storage => "storage",
        }
    }
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.as_str() == text)
    }
}

/// One claim.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Stable; what scripts go by.
    pub id: &'static str,
    pub area: Area,
    /// A few words, for lists.
    pub title: &'static str,
    /// One sentence, as the documents make it.
    pub claim: &'static str,
    /// What the live probe does, on the server that is asked.
    pub probe: &'static str,
    /// Page and heading, from the root of the repository.
    pub docs: &'static str,
    /// `file::function`, from the root of the repository.
    pub tests: &'static [&'static str],
}

macro_rules! capabilities {
    ($($variant:ident = $claim:path,)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Capability { $($variant,)+ }

        impl Capability {
            /// All of them, by area.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[must_use]
            pub const fn claim(self) -> &'static Claim { match self { $(Self::$variant => &$claim,)+ } }
        }
    };
}

capabilities! {
    Gates = decide::GATES,
    Catalogue = decide::CATALOGUE,
    Fence = decide::FENCE,
    Idempotency = decide::IDEMPOTENCY,
    Budgets = decide::BUDGETS,
    RateLimit = decide::RATE_LIMIT,
    AuthZen = decide::AUTHZEN,
    Clock = decide::CLOCK,
    Signing = tokens::SIGNING,
    Verification = tokens::VERIFICATION,
    SingleUse = tokens::SINGLE_USE,
    RevocationList = tokens::REVOCATION_LIST,
    KeysAtRest = tokens::KEYS_AT_REST,
    KeyRotation = tokens::KEY_ROTATION,
    SelfTest = tokens::SELF_TEST,
    Inclusion = ledger::INCLUSION,
    Consistency = ledger::CONSISTENCY,
    Receipts = ledger::RECEIPTS,
    Replay = ledger::REPLAY,
    OfflineVerify = ledger::OFFLINE_VERIFY,
    Deployed = policy::DEPLOYED,
    Index = policy::INDEX,
    PolicyTests = policy::TESTS,
    Lifecycle = policy::LIFECYCLE,
    Rollback = policy::ROLLBACK,
    Quorum = approvals::QUORUM,
    Approvers = approvals::APPROVERS,
    Timeouts = approvals::TIMEOUTS,
    Halts = emergency::HALTS,
    HaltedTokens = emergency::HALTED_TOKENS,
    HaltOffline = emergency::HALT_OFFLINE,
    HaltReach = emergency::HALT_REACH,
    Resume = emergency::RESUME,
    BulkRevocation = emergency::BULK_REVOCATION,
    BreakGlass = emergency::BREAK_GLASS,
    Drills = emergency::DRILLS,
    Breakers = breakers::AUTOMATIC,
    Holds = breakers::HOLDS,
    Outcomes = breakers::OUTCOMES,
    ApiKeys = access::API_KEYS,
    BoundKeys = access::BOUND_KEYS,
    Lockout = access::LOCKOUT,
    Passwords = access::PASSWORDS,
    Authenticators = access::AUTHENTICATORS,
    IdentityProviders = access::IDENTITY_PROVIDERS,
    AccessReview = access::ACCESS_REVIEW,
    Query = operate::QUERY,
    Explain = operate::EXPLAIN,
    Incidents = operate::INCIDENTS,
    Evidence = operate::EVIDENCE,
    Webhooks = send::WEBHOOKS,
    Siem = send::SIEM,
    SiemFormats = send::SIEM_FORMATS,
    Health = watching::HEALTH,
    Nodes = watching::NODES,
    Readiness = watching::READINESS,
    Status = watching::STATUS,
    Metrics = watching::METRICS,
    Alerts = watching::ALERTS,
    Logs = watching::LOGS,
    Traces = watching::TRACES,
    OpenApi = watching::OPENAPI,
    DurableWrites = operate::DURABLE_WRITES,
    Sqlite = operate::SQLITE,
    Postgres = operate::POSTGRES,
    Restore = operate::RESTORE,
    KeptCheckpoints = operate::KEPT_CHECKPOINTS,
}

impl Capability {
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.claim().id
    }
}
