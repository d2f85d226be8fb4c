//! Circuit breakers.

use super::{Area, Claim};

pub const AUTOMATIC: Claim = Claim {
    id: "breakers",
    area: Area::Breakers,
    title: "circuit breakers",
    claim: "A breaker opens when a threshold of its rules is reached, denies what it watches, lets a few through after its time, and closes when they succeed.",
    probe: "takes a breaker through open, half-open and closed on a copy of the live state and decides in each, and counts those that the tenant has",
    docs: "docs/breakers.md#what-opens-it",
    tests: &[
        "crates/testkit/tests/it/breakers.rs::denial_rate_latency_velocity_and_spend_open_when_they_are_reached_and_not_before",
        "crates/testkit/tests/it/breakers.rs::half_open_lets_exactly_so_many_through_however_many_come_at_once_and_the_ledger_proves_it",
        "crates/testkit/tests/it/breakers.rs::an_unlawful_transition_is_found",
    ],
};

pub const HOLDS: Claim = Claim {
    id: "breaker-holds",
    area: Area::Breakers,
    title: "holds that only people release",
    claim: "What somebody holds stays held until somebody releases it, whatever happens by itself.",
    probe: "holds a target system on a copy of the live state, decides on it what is held and what is beside it, and releases it",
    docs: "docs/breakers.md#how-it-closes",
    tests: &[
        "crates/testkit/tests/it/breakers.rs::a_hold_survives_automatic_closing_and_a_restart_and_only_a_release_ends_it",
    ],
};
