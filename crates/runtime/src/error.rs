//! The runtime's one error type. Every variant carries a code of the catalogue; the edge maps it to
//! a problem document once. Text for the client and text for the log are different fields.

use intended_model::Code;
use intended_model::intent::IntentError;
use intended_model::json::JsonError;
use intended_store::StoreError;

/// Why the runtime refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct RuntimeError {
    pub code: Code,
    /// For the client.
    pub detail: String,
    /// Members of the request concerned.
    pub errors: Vec<Member>,
    /// For the log only.
    pub internal: Option<String>,
    /// Of a refusal that passes: after how many seconds, where that is known.
    pub retry_after: Option<u32>,
}

/// A member of the request that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// JSON Pointer (RFC 6901).
    pub pointer: String,
    pub message: String,
    /// Where in the member's text, from 1, when it is a text with lines.
    pub position: Option<(usize, usize)>,
}

/// One step of a JSON Pointer.
#[must_use]
pub fn pointer_step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl RuntimeError {
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), internal: None, retry_after: None }
    }
    #[must_use]
    pub fn at(code: Code, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            detail: message.clone(),
            errors: vec![Member { pointer: pointer.into(), message, position: None }],
            internal: None,
            retry_after: None,
        }
    }
    /// Something failed inside; the client learns the code only.
    #[must_use]
    pub fn internal(what: impl std::fmt::Display) -> Self {
        Self { internal: Some(what.to_string()), ..Self::new(Code::Internal, "") }
    }
    #[must_use]
    pub fn with_internal(mut self, what: impl std::fmt::Display) -> Self {
        self.internal = Some(what.to_string());
        self
    }
}

impl From<Code> for RuntimeError {
    fn from(code: Code) -> Self {
        Self::new(code, "")
    }
}
impl From<JsonError> for RuntimeError {
    fn from(error: JsonError) -> Self {
        Self::new(error.kind.code(), error.to_string())
    }
}
impl From<IntentError> for RuntimeError {
    fn from(error: IntentError) -> Self {
        Self::at(error.code, error.pointer, error.message)
    }
}
impl From<StoreError> for RuntimeError {
    fn from(error: StoreError) -> Self {
        let code = error.code().parse().unwrap_or(Code::StoreUnavailable);
        Self::new(code, "").with_internal(error)
    }
}
fn policy_code(error: &intended_engine::LifecycleError) -> Code {
    use intended_engine::LifecycleError as L;
    match error {
        L::NoDraft(_) | L::NeverDeployed(_) | L::NoIncident(_) => Code::NotFound,
        L::Status { .. } | L::OtherDraft(_) | L::TooMany => Code::DraftState,
        L::Revision(_) | L::Content { .. } => Code::DraftStale,
        L::Gates(_) => Code::GateFailed,
        L::Author { .. } | L::NotEligible(_) | L::Again { .. } | L::Approvals { .. } => Code::DraftApproval,
        L::Superseded { .. } => Code::DeploymentSuperseded,
        L::DraftNeeded(_) => Code::DraftNeeded,
        L::RollbackPeople { .. } => Code::RollbackPeople,
        L::Note => Code::RequestInvalid,
        L::Results(_) | L::Already(_) | L::NotReverting | L::IncidentExists(_) => Code::Conflict,
    }
}

const fn breaker_code(error: &intended_engine::BreakerError) -> Code {
    use intended_engine::BreakerError as B;
    match error {
        B::Unknown(_) | B::NotHeld(_) => Code::BreakerUnknown,
        B::Held(_) | B::Transition { .. } | B::TooMany => Code::Conflict,
        B::Reserved(_) | B::Rules(_) | B::Target(..) => Code::BreakerInvalid,
        B::CoversNothing { .. } => Code::BreakerTarget,
    }
}

impl From<intended_engine::FoldError> for RuntimeError {
    fn from(error: intended_engine::FoldError) -> Self {
        use intended_engine::FoldError as F;
        let code = match &error {
            F::NoEnvironment(_) => Code::EnvironmentUnknown,
            F::NoVersion(_) | F::NoCredential(_) | F::NoKey(_) | F::NoMember(_) => Code::NotFound,
            F::NoWebhook(_) | F::NoApproval(_) => Code::NotFound,
            F::Suspended(_) | F::NotSuspended(_) | F::ReviewExists(_) | F::Subject(_) => Code::Conflict,
            F::SignInMethod(_) | F::Linked => Code::RequestInvalid,
            F::Reserved(_) | F::Pattern(_) | F::Network(_) | F::Grants => Code::RequestInvalid,
            F::NoReview(_) => Code::ReviewStale,
            F::ReviewAgain { .. } => Code::ReviewAgain,
            F::Agent(wrong) => return Self::at(Code::AgentInvalid, wrong.pointer.as_str(), wrong.message.as_str()),
            F::AgentRetired(_) => Code::AgentRetired,
            F::NotEligible => Code::ApprovalIneligible,
            F::ApprovedAgain(_) => Code::ApprovalAgain,
            F::NoHalt(_) => Code::HaltUnknown,
            F::CredentialExists(_) | F::HaltExists(_) | F::KeyExists(_) => Code::Conflict,
            F::Version(_) | F::VersionDigest { .. } | F::VersionName { .. } => Code::PackInvalid,
            F::Catalogue(_) | F::CatalogueDigest { .. } | F::NoCatalogue(_) => Code::CatalogueInvalid,
            F::Settings(_) => Code::SettingsInvalid,
            F::NothingLost { .. } | F::LostOrder => Code::RequestInvalid,
            F::Breaker(error) => breaker_code(error),
            F::Policy(error) => policy_code(error),
            F::Emergency(error) => emergency_code(error),
            F::NoGenesis | F::SecondGenesis | F::NotControl(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

/// Why an entry about an emergency is refused.
const fn emergency_code(error: &intended_engine::EmergencyError) -> Code {
    use intended_engine::EmergencyError as E;
    match error {
        E::Target(_) => Code::HaltInvalid,
        // It was thrown by another rule than stands now: made anew, it is by that one.
        E::People { .. } | E::Alone(_) => Code::Conflict,
        E::ResumePeople { .. } => Code::ResumePeople,
        E::GlassScope(_) => Code::GlassScope,
        E::GlassSpent(_) => Code::CredentialSpent,
        E::Selector => Code::SelectorEmpty,
        E::Drill => Code::DrillRefused,
    }
}
