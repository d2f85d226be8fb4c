//! Finding out what happened, operating, storing.

use super::{Area, Claim};

pub const QUERY: Claim = Claim {
    id: "query",
    area: Area::Investigate,
    title: "queries over the ledger",
    claim: "The ledger is found by time, agent, action, decision and reason.",
    probe: "finds the newest entries by their time and reads them: in order, none missing, none from before the one before it",
    docs: "docs/investigate.md#looking-it-up",
    tests: &[
        "crates/testkit/tests/it/investigate.rs::a_range_of_time_is_found_without_looking_at_anything_else",
        "crates/testkit/tests/it/watching.rs::events_come_in_order_and_go_on_where_the_client_was",
    ],
};

pub const EXPLAIN: Claim = Claim {
    id: "explain",
    area: Area::Investigate,
    title: "why, and what would have to change",
    claim: "A decision is explained: what stands in the way, and which single change would have allowed it.",
    probe: "explains the newest recorded decision; one that did not permit must have something in its way",
    docs: "docs/investigate.md#why",
    tests: &[
        "crates/testkit/tests/it/investigate.rs::an_explanation_names_what_stands_in_the_way_and_what_would_have_been_allowed",
    ],
};

pub const INCIDENTS: Claim = Claim {
    id: "incidents",
    area: Area::Investigate,
    title: "incidents",
    claim: "An incident is opened, noted and closed in the ledger, and its timeline is what the ledger says.",
    probe: "opens an incident on a copy of the live state, sees a second one of its name refused, and closes it",
    docs: "docs/investigate.md#incidents",
    tests: &[
        "crates/testkit/tests/it/investigate.rs::the_timeline_of_an_incident_is_what_the_ledger_says",
        "crates/cli/tests/process/siem.rs::an_incident_is_worked_on_from_the_command_line",
    ],
};

pub const EVIDENCE: Claim = Claim {
    id: "evidence",
    area: Area::Investigate,
    title: "evidence that holds offline",
    claim: "An incident's evidence is signed with the ledger's key and holds until anything in it is changed.",
    probe: "signs a text that is no evidence with the ledger's key, verifies it with the public one, and sees an altered one refused",
    docs: "docs/investigate.md#incidents",
    tests: &["crates/testkit/tests/it/investigate.rs::an_incidents_evidence_holds_until_anything_in_it_is_changed"],
};

pub const HEALTH: Claim = Claim {
    id: "health",
    area: Area::Operate,
    title: "health of every component",
    claim: "The health of each component is measured and says what is wrong; strangers learn nothing of any tenant.",
    probe: "runs every check of the health page and sees that each component has one",
    docs: "docs/operate.md#watching-it",
    tests: &[
        "crates/testkit/tests/it/operate.rs::every_component_says_its_version_uptime_and_checks_and_a_stranger_gets_it_once_a_second",
        "crates/testkit/tests/it/http_edge.rs::health_says_nothing_of_tenants_to_strangers",
    ],
};

pub const METRICS: Claim = Claim {
    id: "metrics",
    area: Area::Operate,
    title: "metrics",
    claim: "Metrics are an OpenMetrics page: a tenant's own by name, everyone else's in sums.",
    probe: "writes the page for the caller and reads it: it must end as the format says, with the ledger's size on it",
    docs: "docs/operate.md#watching-it",
    tests: &[
        "crates/testkit/tests/it/operate.rs::metrics_say_what_was_done_by_name_to_its_tenant_and_in_sums_to_others",
        "crates/testkit/tests/it/operate.rs::metrics_name_nothing_of_a_tenant_to_strangers_or_to_another_one",
    ],
};

pub const OPENAPI: Claim = Claim {
    id: "openapi",
    area: Area::Operate,
    title: "an OpenAPI document of every route",
    claim: "Every route is in the OpenAPI 3.1 document, with what it needs of who calls.",
    probe: "reads the document that is served and compares its routes with the table that callers are held against",
    docs: "docs/api.md",
    tests: &[
        "crates/testkit/tests/it/operate.rs::answers_and_requests_are_as_the_document_describes_them",
        "crates/testkit/tests/it/operate.rs::no_route_exists_that_the_document_does_not_describe",
    ],
};

pub const DURABLE_WRITES: Claim = Claim {
    id: "durable-writes",
    area: Area::Storage,
    title: "writes that are there after a crash",
    claim: "What was acknowledged is there after a crash.",
    probe: "writes a fact to the store, waits until it is durable, reads it back and removes it",
    docs: "docs/operate.md#when-something-fails",
    tests: &[
        "crates/cli/tests/process/kill.rs::what_was_acknowledged_survives_kill_9",
        "crates/store-sqlite/tests/faults.rs::what_was_acknowledged_is_there_after_a_power_cut_at_any_moment",
    ],
};

pub const SQLITE: Claim = Claim {
    id: "sqlite",
    area: Area::Storage,
    title: "an embedded store",
    claim: "One binary with an embedded store is all that a server takes.",
    probe: "asks the store which engine it is, and reads the beginning of the ledger from it",
    docs: "docs/operate.md",
    tests: &["crates/store-sqlite/tests/store.rs::the_suite_passes_with_the_directory_locked"],
};

pub const POSTGRES: Claim = Claim {
    id: "postgres",
    area: Area::Storage,
    title: "PostgreSQL, for programs that embed the runtime",
    claim: "The same storage contract is held by a PostgreSQL engine.",
    probe: "asks the store which engine it is, and reads the beginning of the ledger from it",
    docs: "ARCHITECTURE.md#crates-upwards",
    tests: &[
        "crates/store-postgres/tests/store.rs::the_contract_holds",
        "crates/store-postgres/tests/failures.rs::a_killed_server_comes_back_with_everything_acknowledged",
    ],
};
