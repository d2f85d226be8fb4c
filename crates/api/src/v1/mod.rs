//! `/v1/tenants/{tenant}/…`

use utoipa_axum::router::OpenApiRouter;

use crate::App;

pub mod access;
pub mod agents;
pub mod approvals;
pub mod breakers;
pub mod capabilities;
pub mod deployments;
pub mod drafts;
pub mod drills;
pub mod emergency;
pub mod incidents;
pub mod intents;
pub mod keys;
pub mod ledger;
pub mod nodes;
pub mod policy;
pub mod readiness;
pub mod reviews;
pub mod roles;
pub mod siem;
pub mod sign_in;
pub mod simulations;
pub mod status;
pub mod tenants;
pub mod token_test;
pub mod tokens;
pub mod watched;
pub mod webhooks;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(intents::router())
        .merge(tokens::router())
        .merge(token_test::router())
        .merge(keys::router())
        .merge(ledger::router())
        .merge(access::router())
        .merge(agents::router())
        .merge(reviews::router())
        .merge(roles::router())
        .merge(tenants::router())
        .merge(policy::router())
        .merge(drafts::router())
        .merge(deployments::router())
        .merge(simulations::router())
        .merge(siem::router())
        .merge(nodes::router())
        .merge(status::router())
        .merge(incidents::router())
        .merge(emergency::router())
        .merge(breakers::router())
        .merge(webhooks::router())
        .merge(sign_in::router())
        .merge(approvals::router())
        .merge(drills::router())
        .merge(readiness::router())
        .merge(capabilities::router())
}
