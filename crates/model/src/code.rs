//! The catalogue of stable codes: why a gate said what it said, and why a request was refused.
//! A code never changes its meaning; clients and policies may rely on it. The page
//! `docs/errors/README.md` is generated from this table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[$meta:meta])* $variant:ident = $text:literal, $status:literal, $retryable:literal, $title:literal, $hint:literal;)+) => {
        /// A stable code. `as_str` is what goes over the wire and into the ledger.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$meta])* #[doc = $title] $variant,)+ }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }
            /// The HTTP status of a refusal with this code; for reasons of a decision, the status
            /// of the decision's answer.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status,)+ } }
            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Self::$variant => $retryable,)+ } }
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title,)+ } }
            /// What to do about it.
            #[must_use]
            pub const fn hint(self) -> &'static str { match self { $(Self::$variant => $hint,)+ } }
        }

        impl FromStr for Code {
            type Err = UnknownCode;
            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(UnknownCode) }
            }
        }
    };
}

/// The text is not a code of this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown code")]
pub struct UnknownCode;

codes! {
    // Gates: passing.
    GatePass = "gate.pass", 200, false, "the gate passed", "";
    GateSkipped = "gate.skipped", 200, false, "the gate could not be evaluated because an earlier one failed", "Look at the first gate that denied.";
    // Gate 3: emergency.
    HaltTenant = "halt.tenant", 403, true, "the tenant is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    HaltEnvironment = "halt.environment", 403, true, "the environment is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    HaltAgent = "halt.agent", 403, true, "the agent is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    HaltConnector = "halt.connector", 403, true, "the target system is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    HaltTool = "halt.tool", 403, true, "the tool is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    HaltCategory = "halt.category", 403, true, "the category of action is halted", "See `intended emergency status`; a halt is lifted with `intended emergency resume`.";
    TenantSuspended = "access.tenant_suspended", 403, true, "the tenant is suspended", "Ask who operates the server.";
    EnvironmentSuspended = "access.environment_suspended", 403, true, "the environment is suspended", "Whoever administers the tenant reinstates it.";
    // Gate 4: breaker.
    BreakerOpen = "breaker.open", 403, true, "a circuit breaker is open or held for this agent, tool, category or connector", "The gate's detail says what opened it and when it is tried again, or who holds it and why; a hold is released by a person: `intended breaker list`.";
    // Gate 5: identity.
    AgentUnknown = "identity.agent_unknown", 403, false, "the agent is not registered", "Register it: `PUT /v1/tenants/{tenant}/agents/{agent}`.";
    AgentInactive = "identity.agent_inactive", 403, false, "the agent is paused or retired", "Set its state to `active` or use another agent.";
    AgentEnvironment = "identity.agent_environment", 403, false, "the agent may not act in this environment", "Add the environment to the agent's registration.";
    AgentKind = "identity.agent_kind", 403, false, "the subject's type is not the registered one", "Use the subject type the agent is registered with.";
    DelegationWidens = "identity.delegation_widens", 403, false, "the delegation names someone this agent may not act for", "Delegation only narrows; name a registered agent or member the agent acts for.";
    AgentTool = "identity.agent_tool", 403, false, "the agent may not use this tool", "Add the tool to the agent's registration, or use an agent that has it.";
    AgentCategory = "identity.agent_category", 403, false, "the agent may not act in this category", "Add the category to the agent's registration, or use an agent that has it.";
    NameReserved = "identity.name_reserved", 403, false, "the name is kept for the self-test, or would be taken for it", "Give the agent or the tool another name; the self-test itself is `intended token test`.";
    SyntheticShape = "identity.synthetic_shape", 403, false, "this is not the self-test as it has to be", "The self-test takes no arguments and says nothing else either: `intended token test`.";
    // Gate 6: classify.
    ToolUnknown = "classify.tool_unknown", 403, false, "the tool is not in the catalogue", "Add the tool to the tenant's catalogue; an unknown tool is never allowed.";
    ToolAmbiguous = "classify.tool_ambiguous", 403, false, "the catalogue classifies the tool in two ways", "Make one of the matching catalogue patterns more specific.";
    ConfidenceLow = "classify.confidence_low", 403, false, "the classification is below the confidence threshold", "Name the tool exactly in the tenant's catalogue.";
    // Gate 7: capability.
    CapabilityUnknown = "capability.unknown", 403, false, "the target is not in the registry of capabilities", "Register what the target is: owner, criticality, data class.";
    CapabilityAmbiguous = "capability.ambiguous", 403, false, "two equally specific capabilities match the target", "Make one of the patterns more specific.";
    CapabilityEnvironment = "capability.environment", 403, false, "the target belongs to another environment", "Submit the intent to the target's environment.";
    // Gate 8: context.
    BudgetExceeded = "context.budget_exceeded", 403, true, "a budget or velocity limit would be exceeded", "Wait for the budget's window to end, or have its limit raised.";
    BudgetUnreadable = "context.budget_unreadable", 403, false, "an argument that a budget counts is missing or not a number", "Send the argument as a JSON number with at most two decimals.";
    ContextUnrepresentable = "context.unrepresentable", 403, false, "an argument cannot be given to the policy exactly", "Numbers need at most four decimals; at most 256 values; nothing is silently dropped.";
    SessionOverflow = "context.session_overflow", 403, false, "the session has grown beyond what is tracked", "Start a new session.";
    WorkflowOrder = "context.workflow_order", 403, false, "the agent's declared workflow has another order", "Do what the workflow puts before it, or change the agent's registration.";
    WorkflowSession = "context.workflow_session", 403, false, "the agent declares a workflow and the intent names no session", "Send `session`: the order of actions is that of a session.";
    SessionWaiting = "context.session_waiting", 202, true, "the session waits for context that an earlier action needs", "It is decided when that is; see the earlier action.";
    SessionWaitingFull = "context.session_waiting_full", 403, true, "too many actions of the session wait already", "Resolve the deferred action first.";
    // Gate 9: risk.
    RiskAboveLimit = "risk.above_limit", 403, false, "the risk score reaches the environment's limit", "See the risk breakdown; the limit is a setting of the environment.";
    // Gate 10: policy.
    PolicyPermit = "policy.permit", 200, false, "a policy permits it", "";
    PolicyForbid = "policy.forbid", 403, false, "a policy forbids it", "See the determining policies.";
    PolicyNoPermit = "policy.no_permit", 403, false, "no policy permits it", "Whatever is not permitted is denied; write a permit for it.";
    PolicyError = "policy.error", 403, false, "a policy failed while it was evaluated", "An evaluation error in any policy denies; see which in the detail.";
    PolicyNone = "policy.none", 403, false, "no policy version is deployed in this environment", "Deploy one: `intended policy deploy <directory> -e <environment>`.";
    PolicyStale = "policy.stale", 403, false, "the policy names a team, capability or action that is no longer there", "Make it again, or deploy a version that does not name it: `intended policy list --status stale`.";
    PolicyAmbiguous = "policy.ambiguous", 403, false, "policies ask for contradicting changes", "Two @modify obligations change one argument in different ways.";
    PolicyModify = "policy.modify", 200, false, "allowed with transformed arguments", "Use the transformed arguments: the token is bound to them.";
    PolicyModifyFailed = "policy.modify_failed", 403, false, "the arguments cannot be transformed as the policy asks", "The argument to cap is missing or not a number.";
    PolicyEscalate = "policy.escalate", 202, false, "a person must approve", "Wait for the approval, or for its timeout, which denies.";
    PolicyDefer = "policy.defer", 202, true, "context is missing", "Submit it again with what the policy asks for.";
    // Gate 11: approval.
    ApprovalMissing = "approval.missing", 202, false, "approvals are still missing", "Wait for the approval, or for its timeout, which denies.";
    ApprovalMet = "approval.met", 200, false, "the approvals asked for are there", "";
    ApprovalNotRequired = "approval.not_required", 200, false, "no approval is asked for", "";
    EscalationTimedOut = "escalation.timed_out", 403, false, "nobody approved in time", "A timeout denies; submit the intent again if it is still wanted.";
    EscalationDenied = "escalation.denied", 403, false, "a person denied it", "See who and why in the evidence; submit another intent if it is still wanted.";
    EscalationCancelled = "escalation.cancelled", 403, false, "whoever asked for it wants it no more", "Submit another intent if it is still wanted.";
    // Runtime, after the gates.
    ConflictExhausted = "commit.conflict", 503, true, "the state kept changing while this was decided", "Retry; nothing was decided.";
    StateStale = "state.stale", 503, true, "this node cannot confirm that its state is current", "Retry; nothing was decided.";
    DecisionLate = "decision.late", 503, true, "the decision took longer than its deadline", "Retry; nothing was allowed.";
    // Requests.
    JsonMalformed = "json.malformed", 400, false, "the body is not JSON", "Send one JSON document in UTF-8 without a byte order mark.";
    JsonDuplicateKey = "json.duplicate_key", 400, false, "a member stands twice", "Each member of an object may stand once.";
    JsonReservedName = "json.reserved_name", 400, false, "a member name is reserved", "No member may be named `$serde_json…`: programs that read JSON with that library would see another document.";
    JsonTooDeep = "json.too_deep", 400, false, "the body is nested too deeply", "At most 32 levels.";
    JsonLoneSurrogate = "json.lone_surrogate", 400, false, "a string holds half a character", "Send well-formed Unicode.";
    JsonNumberRange = "json.number_range", 400, false, "a number is too large", "Integers lie within ±(2^53 − 1); send larger ones as strings.";
    JsonNumberPrecision = "json.number_precision", 400, false, "a number cannot be kept exactly", "Send at most 15 significant digits, and no negative zero.";
    RequestInvalid = "request.invalid", 400, false, "the request has the wrong shape", "See `errors` for the members concerned.";
    RequestTooLarge = "request.too_large", 413, false, "the body is too large", "At most 64 KiB; 1 MiB for packs and catalogues.";
    RequestUnknownField = "request.unknown_field", 400, false, "a member is unknown", "Check its spelling; unknown members are refused where a typo would be dangerous.";
    RequestMediaType = "request.media_type", 415, false, "the body is not declared as JSON", "Send `content-type: application/json`.";
    TextUnsafe = "request.text_unsafe", 400, false, "a name holds characters that are not allowed", "Names are printable ASCII; look-alike, invisible and bidirectional characters are refused, never normalised.";
    NotFound = "not_found", 404, false, "there is no such thing here", "Check the id and the tenant in the path.";
    MethodNotAllowed = "method_not_allowed", 405, false, "this resource does not take that method", "See the OpenAPI document.";
    Conflict = "conflict", 409, false, "it exists already or has changed", "Read it again and decide anew.";
    IdempotencyMismatch = "idempotency.mismatch", 409, false, "this idempotency key was used with another body", "Use a fresh key for a different request.";
    IdempotencyKeyInvalid = "idempotency.invalid", 400, false, "the idempotency key is not usable", "1 to 128 printable ASCII characters.";
    RateLimited = "rate_limited", 429, true, "too many requests", "Wait for the time in `Retry-After`.";
    Overloaded = "overloaded", 503, true, "the server has more work than it can queue", "Retry with a delay.";
    NotReady = "not_ready", 503, true, "the server is not ready", "See `/readyz?verbose`.";
    Internal = "internal", 500, true, "something failed inside", "The request id finds it in the server's log.";
    // Credentials.
    CredentialMissing = "credential.missing", 401, false, "no credential was sent", "Send `authorization: Bearer <api key>`.";
    CredentialMalformed = "credential.malformed", 401, false, "the credential is not an API key of this product", "Keys start with `int_live_`, `int_test_` or `int_ops_`; this one has a typing error.";
    CredentialUnknown = "credential.unknown", 401, false, "the credential is unknown", "Check that it belongs to this server.";
    CredentialExpired = "credential.expired", 401, false, "the credential has expired", "Create a new one.";
    CredentialRevoked = "credential.revoked", 401, false, "the credential was revoked", "Create a new one.";
    ScopeMissing = "credential.scope", 403, false, "the credential lacks the scope for this", "See `detail` for the scope.";
    EnvironmentForbidden = "credential.environment", 403, false, "the credential is not for this environment", "Use a credential of that environment.";
    EnvironmentUnknown = "environment.unknown", 404, false, "there is no such environment", "See the tenant's environments.";
    CredentialAgent = "credential.agent", 403, false, "the credential is not for this agent", "Use the credential that was made for it.";
    CredentialAction = "credential.action", 403, false, "the credential is not for this action", "Use a credential whose action patterns cover it.";
    CredentialNetwork = "credential.network", 403, false, "the credential is not for this network", "Use it from one of its allowed networks.";
    CredentialKind = "credential.test", 403, false, "a test credential is never good for production", "Use a live credential there.";
    CredentialSpent = "credential.spent", 401, false, "the break-glass credential was used", "It threw its halt: see `intended emergency status`. Prepare another one.";
    GlassScope = "credential.glass_scope", 403, false, "the break-glass credential is for another halt", "It throws the halt that it was prepared for: `intended emergency inspect` shows which.";
    MemberInactive = "credential.member_inactive", 401, false, "the person behind the credential is not an active member", "Whoever administers the tenant can make them one again.";
    OperatorOnly = "credential.operator", 403, false, "this takes the server operator's key", "Use the key that `intended init` printed for the operator.";
    AccessWider = "access.wider", 403, false, "nobody gives what they do not have", "See `detail` for what is missing.";
    AccessOwn = "access.own", 403, false, "nobody changes what they may do themselves", "Another person does it.";
    AccessLastOwner = "access.last_owner", 409, false, "nobody would be left who could give access", "Make another owner first.";
    // Signing in.
    SignInFailed = "sign_in.failed", 401, false, "signing in failed", "Check the member's name, password and code; or ask for a link.";
    SignInLocked = "sign_in.locked", 429, true, "too many attempts failed", "Wait for the time in `Retry-After`.";
    SignInSecondFactor = "sign_in.second_factor", 401, false, "a code is needed as well", "Send `code` with the six digits that the authenticator shows.";
    SignInWeak = "sign_in.weak", 422, false, "the password is not good enough", "12 to 128 characters, not one of the common ones, and not the member's name.";
    SignInProvider = "sign_in.provider", 502, true, "the identity provider did not confirm who this is", "See `detail`; try again from the start.";
    SignInState = "sign_in.state", 400, false, "this sign-in was not begun here, or too long ago", "Begin it again.";
    SessionNeeded = "sign_in.session_needed", 403, false, "this takes a person who is signed in", "Sign in: `intended login`.";
    ReviewStale = "review.stale", 409, false, "the review is not the one that is open", "Read it again: `intended access review show`.";
    ReviewAgain = "review.again", 409, false, "this person has signed the review", "Another person signs it.";
    // Agents.
    AgentInvalid = "agent.invalid", 422, false, "the agent's registration is not valid", "See `errors` for the members concerned.";
    AgentRetired = "agent.retired", 409, false, "a retired agent stays retired", "Register another agent, under another name.";
    // Approvals.
    ApprovalStale = "approval.stale", 412, false, "what waits has changed since it was read", "Read it again and decide anew.";
    ApprovalUnconditional = "approval.unconditional", 428, false, "what is approved is not named", "Send `if-match` with the approval's entity tag.";
    ApprovalIneligible = "approval.not_eligible", 403, false, "this person cannot approve this", "See who can in `eligible`: members of the group since before it was asked for, signed in by their own means.";
    ApprovalOwn = "approval.own", 403, false, "nobody approves what they asked for", "Another person approves it.";
    ApprovalAgain = "approval.again", 409, false, "this person has approved it", "Each person counts once.";
    ApprovalClosed = "approval.closed", 409, false, "it does not wait for anybody any more", "See the intent.";
    ApprovalRate = "approval.rate", 429, true, "this person has approved as much as they may in an hour", "Another person approves it, or wait.";
    ApprovalBulkRisk = "approval.bulk_risk", 422, false, "the risk is too high to be approved with others", "Approve it by itself.";
    WebhookUrl = "webhook.url", 422, false, "nothing is sent to this address", "An https URL of a public host, without a user name.";
    // Policy, catalogue, settings.
    DraftState = "draft.state", 409, false, "the draft is not in the state that this takes", "See where it stands: `intended policy list`.";
    DraftStale = "draft.stale", 412, false, "the draft has changed since it was read", "Read it again and decide anew.";
    DraftUnconditional = "draft.unconditional", 428, false, "the revision that is meant is not named", "Send `if-match` with the draft's entity tag.";
    DraftApproval = "draft.approval", 403, false, "this person cannot approve this", "Drafts are approved by active members of the environment's approvers, never by an author, each once.";
    DraftNeeded = "draft.needed", 409, false, "this environment takes approved drafts only", "Submit a draft and have it approved: `intended policy submit <directory> -e <environment>`.";
    GateFailed = "gate.failed", 422, false, "a gate before deployment was not passed", "See `errors` for the gate and what it measured.";
    VerificationFailed = "policy.verification_failed", 409, false, "the deployed version did not do what it was expected to and was taken back", "See `errors` for the expectations; what was deployed before decides again.";
    DeploymentSuperseded = "deployment.superseded", 409, false, "another version was deployed meanwhile", "Read what is deployed now, and decide anew.";
    RollbackPeople = "rollback.people", 202, false, "the rollback waits for a second person", "Another person gives the same command, or an incident is opened.";
    SelectorEmpty = "revocation.selector", 422, false, "it is not said which tokens are meant", "Name an agent, credential, person, intent, policy version, environment or time range.";
    DrillRefused = "drill.refused", 409, false, "the drill cannot be held here", "See `detail`. Drills are held outside production, by who may throw and lift a halt there alone.";
    PackInvalid = "pack.invalid", 422, false, "the policy pack is not valid", "See `errors` for file, line and column.";
    CatalogueInvalid = "catalogue.invalid", 422, false, "the tool catalogue is not valid", "See `errors`.";
    SettingsInvalid = "settings.invalid", 422, false, "the settings are not valid", "See `errors`.";
    HaltInvalid = "emergency.target", 422, false, "the halt could cover nothing", "An agent or a connector by its name; a tool or a category by its name or a pattern that ends in `*`.";
    ResumePeople = "resume.people", 409, false, "lifting the halt waits for a second person", "Another person, with means of their own, gives the same command.";
    HaltUnknown = "halt.unknown", 404, false, "there is no such halt", "See `intended emergency status`.";
    BreakerUnknown = "breaker.unknown", 404, false, "there is no such breaker, or nobody holds it", "See `intended breaker list`.";
    BreakerInvalid = "breaker.invalid", 422, false, "the breaker's name, target or rules are not valid", "The detail says which.";
    BreakerTarget = "breaker.target", 422, false, "the breaker or hold would cover nothing", "Name an agent that is registered, a tool, system or category that the catalogue has, or a pattern that ends in `*`.";
    BreakerPerson = "breaker.person", 403, false, "only a person releases a hold", "Sign in, or use a key that is a member's own.";
    OutcomeNotPermitted = "outcome.not_permitted", 409, false, "the intent was not permitted: nothing can have come of it", "Report outcomes of actions that were allowed and carried out.";
    OutcomeUnused = "outcome.token_unused", 409, false, "the token of the action was not used: nobody was let through", "Consume the token before acting, then report what came of it.";
    OutcomeNotYours = "outcome.not_yours", 403, false, "the action was let through by another credential", "Whoever used the token says what came of the action, with the same credential.";
    OutcomeReported = "outcome.reported", 409, false, "what came of the action was reported before", "An outcome is reported once.";
    OutcomeLate = "outcome.late", 409, false, "the action's token ended more than a day ago", "Report outcomes when they are known; `unknown` if they are not.";
    // Tokens. What verification refuses it answers with 200, `active: false` and the code in `refusal`.
    TokenMalformed = "token.malformed", 200, false, "the token is not a strict compact JWS", "Send the token as it was issued.";
    TokenType = "token.type", 200, false, "the token's type is not `authority+jwt`", "Send an authority token, not another JWT.";
    TokenAlgorithm = "token.algorithm", 200, false, "the token's algorithm is not the one of its key", "Do not trust whoever sent it.";
    TokenHeader = "token.header", 200, false, "the token's header has a member that is not accepted", "Send the token as it was issued.";
    TokenKeyUnknown = "token.key_unknown", 200, false, "the token's key is unknown", "Offline: fetch the keys again. Otherwise it was not issued here.";
    TokenKeyRetired = "token.key_retired", 200, false, "the token's key is retired", "Submit the intent again for a token with the active key.";
    TokenSignature = "token.signature", 200, false, "the signature is not valid", "Do not trust whoever sent it.";
    TokenClaims = "token.claims", 200, false, "the token's claims are not those of an authority token", "Send an authority token as it was issued.";
    TokenTimes = "token.times", 200, false, "the token's times are not valid", "Do not trust whoever issued it.";
    TokenNotYetValid = "token.not_yet_valid", 200, true, "the token is not valid yet", "Compare the clocks.";
    TokenExpired = "token.expired", 200, false, "the token has expired", "Submit the intent again; tokens live for seconds.";
    TokenIssuer = "token.issuer", 200, false, "the token is of another issuer", "Verify it where it was issued.";
    TokenAudience = "token.audience", 200, false, "the token is for another audience", "Name the audience when the intent is submitted.";
    TokenTenant = "token.tenant", 200, false, "the token is of another tenant", "Verify it for the tenant that it was issued for.";
    TokenEnvironment = "token.environment", 200, false, "the token is of another environment", "Verify it for the environment that it was issued for.";
    TokenClass = "token.class", 200, false, "the token is a self-test's, or is none where one is asked for", "A self-test's token is good for no call: submit the intent of the call itself.";
    TokenRevoked = "token.revoked", 200, false, "the token is revoked", "Submit the intent again if it is still wanted.";
    TokenRevocationsStale = "token.revocations_stale", 200, true, "the revocation list is too old to rely on", "Fetch it again.";
    TokenBinding = "token.binding", 200, false, "the token is for another call", "Make the call that was allowed: agent, tool, resource and arguments.";
    TokenConsumed = "token.consumed", 200, false, "the token was used before", "A token is good for one call; submit the intent again.";
    TokenNotGranted = "token.not_granted", 200, false, "no recorded decision granted the token", "Its signature holds and nothing granted it: a key may have leaked. Rotate and retire it.";
    TokenHalted = "token.halted", 200, true, "a halt covers what the token would do", "See `intended emergency status`.";
    TokenSuspended = "token.suspended", 200, true, "the tenant or the environment is suspended", "Whoever administers the tenant, or operates the server, reinstates it.";
    TokenUnknown = "token.unknown", 404, false, "no token with this id was issued", "Check the `jti`.";
    // The AuthZEN Access Request and Approval Profile. Problems with these have its URNs as `type`.
    RequestBinding = "access_request.invalid_denial_binding", 400, false, "the access request is not about the denial that it names", "Send subject, action, resource and context as they were denied, and `denial` as it was answered.";
    RequestExpired = "access_request.expired_denial", 400, false, "the time to ask for access is over", "Evaluate again: a new denial says whether and until when access can be asked for.";
    RequestUnknown = "access_request.unknown_task", 404, false, "there is no such access request", "Check the address that was answered.";
    RequestDuplicate = "access_request.duplicate_request", 409, false, "this idempotency key was used for another access request", "Use a fresh key for a different request.";
    RequestCancelled = "access_request.invalid_state", 409, false, "the access request is settled and cannot be cancelled", "See its status.";
    // Store.
    StoreFull = "store.full", 507, true, "the disk is full: nothing was recorded, so nothing was allowed", "Make room; the server recovers by itself.";
    StoreReadOnly = "store.read_only", 503, true, "the store cannot be written", "Check the file system and its permissions.";
    StoreStopped = "store.stopped", 503, false, "the store stopped after a failed write", "Restart the server: it recovers from the log. Nothing is retried blindly.";
    StoreCorrupt = "store.corrupt", 503, false, "the store's data is damaged", "Stop, keep the files, run `intended verify`, restore a backup.";
    LedgerTakenBack = "ledger.taken_back", 503, false, "the ledger is older than a checkpoint of it that was kept elsewhere", "An older copy was put in its place. What came after it is unknown here: used tokens, halts, revocations. Put the newest copy in its place, or restore this one: `intended restore`, which halts the tenants first.";
    LedgerUnkept = "ledger.checkpoint_missing", 503, false, "no checkpoint of the ledger is where the config file says that one is kept", "Is the disk mounted? Without the checkpoint nobody can tell whether this is the newest state. Put it back; or, where none was ever kept there, say so once: `intended serve --first-checkpoint`.";
    LedgerForked = "ledger.forked", 503, false, "the ledger is not the one that a checkpoint of it that was kept elsewhere signs for", "Its history was changed, or it is another one that was signed with the same key. Stop, keep the files and the checkpoint, and see docs/incident-response.md.";
    StoreUnavailable = "store.unavailable", 503, true, "the store does not answer", "Retry; see `intended health check`.";
    KeySealed = "key.sealed", 503, false, "a signing key cannot be unsealed with this root key", "Give the server the root key that sealed it.";
    KeyMissing = "key.missing", 503, false, "the environment has no active signing key", "Rotate: `POST /v1/tenants/{tenant}/keys/rotate`.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::json::from_text(deserializer, |text| text.parse().map_err(|_| format!("unknown code `{text}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_spelling_and_reads_back() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} stands twice");
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(!code.title().is_empty());
        }
    }
}
