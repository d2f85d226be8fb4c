//! `/v1/tenants/{tenant}/…`

use utoipa_axum::router::OpenApiRouter;

use crate::App;

pub mod access;
pub mod emergency;
pub mod intents;
pub mod ledger;
pub mod policy;
pub mod tokens;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(intents::router())
        .merge(tokens::router())
        .merge(ledger::router())
        .merge(access::router())
        .merge(policy::router())
        .merge(emergency::router())
}
