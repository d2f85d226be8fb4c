//! What each route needs of who calls it. This is the only place that says so: it is held before
//! anything of a body is read ([`crate::auth::before_body`]), it stands in the OpenAPI document as
//! `x-required-scope`, and `docs/access-table.md` is made of it. A route without a line is refused to
//! everybody, and fails a test.
//!
//! What a line asks for is the least: a caller who has the scope nowhere. In which environment, and
//! whether for the whole tenant, is asked where the request is understood.
//!
//! This file names nothing but the model: the page is made of it without the rest of this crate.

use std::collections::HashMap;
use std::sync::LazyLock;

use intended_model::entry::Scope;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: whoever asks is answered.
    Public,
    /// Nothing; who brings a credential is told more, and needs this scope for it.
    Told(Scope),
    /// Any credential of the tenant.
    Credential,
    /// Any credential for what is the caller's own; for what is another's, this scope.
    Own(Scope),
    /// All of these.
    Scopes(&'static [Scope]),
    /// One of these.
    Any(&'static [Scope]),
    /// The key of who operates the server.
    Operator,
    /// Any credential, or the operator's key.
    CredentialOrOperator,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub method: &'static str,
    /// As the OpenAPI document has it.
    pub path: &'static str,
    pub need: Need,
}

const fn line(method: &'static str, path: &'static str, need: Need) -> Line {
    Line { method, path, need }
}

use Need::{Any, Credential, CredentialOrOperator, Operator, Own, Public, Scopes, Told};

macro_rules! under_tenant {
    ($path:literal) => {
        concat!("/v1/tenants/{tenant}/", $path)
    };
}
macro_rules! table {
    ($($method:ident $path:literal: $($scope:ident)&+;)+) => {
        &[$(line(stringify!($method), under_tenant!($path), Scopes(&[$(Scope::$scope),+])),)+]
    };
}

/// Those that are no area of a tenant's, or need no scope.
const OTHERS: &[Line] = &[
    line("GET", "/livez", Public),
    line("GET", "/readyz", Public),
    line("GET", "/healthz", Told(Scope::StatusRead)),
    line("GET", "/metrics", Told(Scope::StatusRead)),
    line("GET", "/openapi.json", Public),
    line("GET", "/.well-known/authzen-configuration", Public),
    line("POST", "/access/v1/evaluation", Scopes(&[Scope::IntentSubmit])),
    line("POST", "/access/v1/evaluations", Scopes(&[Scope::IntentSubmit])),
    line("POST", "/access/v1/requests", Scopes(&[Scope::IntentSubmit])),
    line("GET", "/access/v1/requests/{id}", Scopes(&[Scope::IntentSubmit])),
    line("POST", "/access/v1/requests/{id}/cancel", Scopes(&[Scope::IntentSubmit])),
    line("POST", "/v1/tenants", Operator),
    line("GET", "/v1/tenants", CredentialOrOperator),
    line("POST", under_tenant!("suspend"), Operator),
    line("POST", under_tenant!("reinstate"), Operator),
    line("GET", under_tenant!("roles"), Credential),
    line("GET", under_tenant!("jwks.json"), Credential),
    // Whoever asked waits for the answer, whether or not they read others'.
    line("GET", under_tenant!("intents/{id}"), Any(&[Scope::IntentRead, Scope::IntentSubmit])),
    // Of a self-test, the scope that is good for nothing else.
    line("POST", under_tenant!("tokens/verify"), Any(&[Scope::TokenVerify, Scope::TokenTest])),
    // A scope for that alone, or the one for all of an emergency.
    line("POST", under_tenant!("emergency/halts"), Any(&[Scope::EmergencyHalt, Scope::EmergencyWrite])),
    // Whoever signs in is nobody yet.
    line("POST", under_tenant!("sessions"), Public),
    line("POST", under_tenant!("identity-providers/{provider}/begin"), Public),
    line("POST", under_tenant!("identity-providers/{provider}/finish"), Public),
    line("DELETE", under_tenant!("sessions/current"), Credential),
    line("GET", under_tenant!("session"), Credential),
    line("GET", under_tenant!("members/{member}/sessions"), Own(Scope::AccessRead)),
    line("DELETE", under_tenant!("members/{member}/sessions/{session}"), Own(Scope::AccessWrite)),
    line("PUT", under_tenant!("members/{member}/password"), Credential),
    line("POST", under_tenant!("members/{member}/totp"), Credential),
    line("PUT", under_tenant!("members/{member}/totp"), Credential),
    line("DELETE", under_tenant!("members/{member}/totp"), Own(Scope::AccessWrite)),
];

/// The areas of a tenant.
const AREAS: &[Line] = table! {
    POST "intents": IntentSubmit;
    GET "intents": IntentRead;
    GET "intents/{id}/explain": IntentRead;
    GET "intents/{id}/receipt": IntentRead;
    GET "intents/{id}/evidence": IntentRead;
    GET "intents/{id}/policies": IntentRead & PolicyRead;
    POST "intents/{id}/replay": IntentRead;
    POST "intents/{id}/context": IntentSubmit;
    GET "approvals": ApprovalRead;
    POST "approvals/bulk": ApprovalDecide;
    GET "approvals/{id}": ApprovalRead;
    POST "approvals/{id}/approve": ApprovalDecide;
    POST "approvals/{id}/deny": ApprovalDecide;
    POST "approvals/{id}/withdraw": ApprovalDecide;
    POST "approvals/{id}/ask": ApprovalDecide;
    POST "approvals/{id}/answer": IntentSubmit;
    POST "tokens/test": TokenTest;
    POST "tokens/{jti}/revoke": TokenRevoke;
    GET "revocations": TokenVerify;
    GET "keys": StatusRead;
    POST "keys/rotate": KeyWrite;
    POST "keys/{kid}/retire": KeyWrite;
    GET "audit": AuditRead;
    GET "audit/checkpoint": AuditRead;
    GET "audit/proof": AuditRead;
    GET "audit/consistency": AuditRead;
    POST "audit/exports": AuditRead;
    GET "audit/verification": AuditRead;
    POST "audit/verification": AuditRead;
    GET "events": AuditRead;
    POST "credentials": AccessWrite;
    GET "credentials": AccessRead;
    POST "credentials/{credential}/revoke": AccessWrite;
    POST "credentials/{credential}/rotate": AccessWrite;
    GET "members": AccessRead;
    GET "members/{member}": AccessRead;
    PUT "members/{member}": AccessWrite;
    POST "members/{member}/links": AccessWrite;
    PUT "members/{member}/oidc": AccessWrite;
    GET "identity-providers": AccessRead;
    PUT "identity-providers/{provider}": AccessWrite;
    GET "agents": AccessRead;
    GET "agents/{agent}": AccessRead;
    PUT "agents/{agent}": AccessWrite;
    POST "access-reviews": ReviewSign;
    GET "access-reviews": AccessRead;
    GET "access-reviews/{review}": AccessRead;
    GET "access-reviews/{review}/changes": AccessRead;
    POST "access-reviews/{review}/sign": ReviewSign;
    GET "capabilities-registry": AccessRead;
    PUT "capabilities-registry/{capability}": AccessWrite;
    GET "environments": StatusRead;
    PUT "environments/{environment}": AccessWrite;
    POST "environments/{environment}/suspend": AccessWrite;
    POST "environments/{environment}/reinstate": AccessWrite;
    GET "policies": PolicyRead;
    GET "packs": PolicyRead;
    GET "packs/{pack}/versions": PolicyRead;
    GET "packs/{pack}/versions/{digest}": PolicyRead;
    POST "validations": PolicyRead;
    POST "policy-sources": PolicyWrite;
    PUT "catalogue": PolicyWrite;
    GET "policy-schema": PolicyRead;
    POST "drafts": PolicyWrite;
    GET "drafts": PolicyRead;
    GET "drafts/{draft}": PolicyRead;
    PUT "drafts/{draft}": PolicyWrite;
    POST "drafts/{draft}/test": PolicyRead;
    POST "drafts/{draft}/validate": PolicyRead;
    POST "drafts/{draft}/submit": PolicyWrite;
    POST "drafts/{draft}/approve": PolicyApprove;
    POST "drafts/{draft}/reject": PolicyApprove;
    POST "deployments": PolicyWrite;
    GET "deployments": PolicyRead;
    GET "deployment-history": PolicyRead;
    POST "deployments/{deployment}/rollback": PolicyWrite;
    POST "simulations": PolicyRead & IntentRead;
    GET "simulations/{simulation}": PolicyRead & IntentRead;
    DELETE "simulations/{simulation}": PolicyRead & IntentRead;
    GET "decision-drift": PolicyRead & IntentRead;
    GET "emergency": EmergencyRead;
    GET "emergency/blast-radius": EmergencyRead;
    POST "emergency/halts/{halt}/resume": EmergencyWrite;
    POST "emergency/break-glass": AccessWrite & EmergencyWrite;
    POST "revocations": TokenRevoke;
    POST "drills": EmergencyWrite & AccessWrite & IntentSubmit & TokenVerify;
    GET "drills": EmergencyRead;
    GET "breakers": EmergencyRead;
    PUT "breakers/{breaker}": EmergencyWrite;
    POST "breakers/{breaker}/hold": EmergencyWrite;
    POST "breakers/{breaker}/release": EmergencyWrite;
    POST "intents/{id}/outcome": TokenVerify;
    POST "incidents": EmergencyWrite;
    GET "incidents": EmergencyRead;
    GET "incidents/{incident}": EmergencyRead;
    GET "incidents/{incident}/timeline": EmergencyRead;
    GET "incidents/{incident}/evidence": EmergencyRead & AuditRead;
    POST "incidents/{incident}/notes": EmergencyWrite;
    POST "incidents/{incident}/close": EmergencyWrite;
    GET "nodes": StatusRead;
    POST "readiness": StatusRead;
    GET "readiness": StatusRead;
    GET "siem": StatusRead;
    GET "status": StatusRead;
    GET "capabilities": StatusRead;
    POST "siem/{sink}/test": AccessWrite;
    GET "webhooks": AccessRead;
    PUT "webhooks/{webhook}": AccessWrite;
    DELETE "webhooks/{webhook}": AccessWrite;
    POST "webhooks/{webhook}/rotate": AccessWrite;
    POST "webhooks/{webhook}/test": AccessWrite;
};

/// Every route.
pub fn lines() -> impl Iterator<Item = &'static Line> {
    OTHERS.iter().chain(AREAS)
}

/// What a route needs; `None` of one that has no line.
#[must_use]
pub fn of(method: &str, path: &str) -> Option<Need> {
    static TABLE: LazyLock<HashMap<&str, Vec<(&str, Need)>>> = LazyLock::new(|| {
        let mut table: HashMap<&str, Vec<(&str, Need)>> = HashMap::new();
        lines().for_each(|l| table.entry(l.path).or_default().push((l.method, l.need)));
        table
    });
    // Whoever may read a thing may ask whether it is there.
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.get(path)?.iter().find(|(m, _)| *m == method).map(|(_, need)| *need)
}

impl Need {
    /// As the document has it.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Public => "public".to_owned(),
            Self::Told(scope) => format!("public, more with {}", scope.as_str()),
            Self::Credential => "any".to_owned(),
            Self::Own(scope) => format!("any for one's own, else {}", scope.as_str()),
            Self::Scopes(scopes) => scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" "),
            Self::Any(scopes) => scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(" or "),
            Self::Operator => "operator".to_owned(),
            Self::CredentialOrOperator => "any, or operator".to_owned(),
        }
    }
}
