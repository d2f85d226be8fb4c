//! Watching it.

use super::{Area, Claim};

pub const HEALTH: Claim = Claim {
    id: "health",
    area: Area::Operate,
    title: "health of every component",
    claim: "The health of each of six components is measured and says what is wrong and what to do; strangers learn nothing of any tenant.",
    probe: "runs every check of the health page, sees that each component has one, and counts how they answered",
    docs: "docs/health.md",
    tests: &[
        "crates/testkit/tests/it/health.rs::every_check_is_listed_and_has_its_section_and_a_whole_world_is_well",
        "crates/testkit/tests/it/health.rs::a_store_that_takes_no_writes_says_why_and_the_node_is_not_ready",
        "crates/testkit/tests/it/health.rs::a_key_that_does_not_unseal_any_more_is_named_while_the_one_in_memory_still_signs",
        "crates/testkit/tests/it/http_edge.rs::health_says_nothing_of_tenants_to_strangers",
    ],
};

pub const NODES: Claim = Claim {
    id: "nodes",
    area: Area::Operate,
    title: "every node that serves",
    claim: "Each node says that it is there and how it is, and one that is gone is missed.",
    probe: "reads what every node of the tenant last said of itself, and whether it is late",
    docs: "docs/health.md#nodes",
    tests: &[
        "crates/testkit/tests/it/nodes.rs::each_node_sees_the_others_and_misses_one_that_is_gone",
        "crates/testkit/tests/it/nodes.rs::two_processes_of_one_name_are_told_and_one_that_was_restarted_is_not",
    ],
};

pub const READINESS: Claim = Claim {
    id: "readiness",
    area: Area::Operate,
    title: "readiness against thresholds",
    claim: "Whether it works well enough to be relied on is measured against thresholds, kept, and disturbs no live traffic.",
    probe: "reads the newest kept run that is the caller's to see: its age and its verdict",
    docs: "docs/readiness.md#what-is-measured",
    tests: &[
        "crates/testkit/tests/it/readiness.rs::what_works_passes_all_five_and_each_figure_stands_beside_its_threshold",
        "crates/testkit/tests/it/readiness.rs::a_run_is_no_traffic_nothing_is_recorded_or_counted",
        "crates/testkit/tests/it/readiness_faults.rs::connectivity_fails_when_the_store_takes_nothing_gives_nothing_or_does_not_answer",
    ],
};

pub const STATUS: Claim = Claim {
    id: "status",
    area: Area::Operate,
    title: "how it stands, on one screen",
    claim: "How the tenant stands is one answer of one moment, with what is wrong first and what to do next.",
    probe: "gathers the answer for the caller and compares its environments, its ledger and its control version with the live state",
    docs: "docs/operate.md#watching-it",
    tests: &[
        "crates/testkit/tests/it/status.rs::one_answer_has_all_that_is_halted_open_waiting_and_revoked",
        "crates/testkit/tests/it/status.rs::who_may_see_less_is_told_less_and_what_it_is",
        "crates/cli/tests/process/status.rs::status_says_what_is_wrong_first_and_ends_as_it_stands",
    ],
};

pub const METRICS: Claim = Claim {
    id: "metrics",
    area: Area::Operate,
    title: "metrics",
    claim: "Metrics are an OpenMetrics page: a tenant's own by name, everyone else's in sums.",
    probe: "writes the page for the caller and reads it: it must end as the format says, with the ledger's size and every documented family on it",
    docs: "docs/operate.md#watching-it",
    tests: &[
        "crates/testkit/tests/it/operate.rs::metrics_say_what_was_done_by_name_to_its_tenant_and_in_sums_to_others",
        "crates/testkit/tests/it/operate.rs::metrics_name_nothing_of_a_tenant_to_strangers_or_to_another_one",
    ],
};

pub const ALERTS: Claim = Claim {
    id: "alerts",
    area: Area::Operate,
    title: "alert rules with a page each",
    claim: "The alert rules that are shipped go by figures that are on the page, and each has its page of what to do.",
    probe: "looks for every figure of the shipped rules on the caller's page, and when somebody has last read that page or everyone's",
    docs: "docs/alerts.md",
    tests: &[
        "crates/cli/tests/process/prometheus.rs::every_alert_has_its_page_its_severity_and_tests_in_which_it_fires_and_does_not",
        "crates/cli/tests/process/prometheus.rs::promtool_finds_nothing_wrong_with_rules_example_and_their_tests",
        "crates/cli/tests/process/prometheus.rs::a_real_prometheus_sees_alerts_fire_and_clear_and_reads_every_query_of_the_dashboard",
        "crates/testkit/tests/it/claimed.rs::the_figures_of_the_shipped_alert_rules_are_those_that_are_looked_for",
    ],
};

pub const LOGS: Claim = Claim {
    id: "logs",
    area: Area::Operate,
    title: "logs for machines",
    claim: "The log has a line for what goes wrong, and where it is asked for one for each request with its ids; no secret is in any.",
    probe: "asks the log whether it takes a warning, and whether it takes a line for each request",
    docs: "docs/logs-and-traces.md#the-log",
    tests: &[
        "crates/testkit/tests/it/logs.rs::each_request_has_one_line_that_names_its_route_its_decision_and_its_ids",
        "crates/testkit/tests/it/logs.rs::no_secret_gets_into_a_line_of_json_or_a_span_along_any_route",
        "crates/testkit/tests/it/logs.rs::a_line_of_text_is_one_line_whatever_is_in_it",
    ],
};

pub const TRACES: Claim = Claim {
    id: "traces",
    area: Area::Operate,
    title: "traces over OTLP",
    claim: "A decision is a span with its phases, in the trace of who asked; a collector that is slow or gone holds nobody up.",
    probe: "reads how many spans the collector has taken, and how many were dropped",
    docs: "docs/logs-and-traces.md#traces",
    tests: &[
        "crates/testkit/tests/it/traces.rs::a_decision_is_a_span_with_its_phases_in_the_trace_that_came_with_the_request",
        "crates/testkit/tests/it/traces.rs::decisions_go_on_while_the_collector_is_down_and_what_is_lost_is_counted",
        "crates/cli/tests/process/telemetry.rs::the_spans_of_a_decision_reach_a_collector_with_the_trace_of_who_asked",
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
