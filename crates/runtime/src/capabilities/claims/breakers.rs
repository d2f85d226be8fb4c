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

pub const OUTCOMES: Claim = Claim {
    id: "outcomes",
    area: Area::Breakers,
    title: "outcomes only by who let it through",
    claim: "What came of an action is said once, by who consumed its token, and not by who asked for it.",
    probe: "asks who may report on an action of made-up credentials, and looks whether the newest reported outcome is by who consumed its token",
    docs: "docs/breakers.md#outcomes",
    tests: &[
        "crates/testkit/tests/it/reported.rs::only_who_let_an_action_through_says_what_came_of_it",
        "crates/testkit/tests/it/breakers.rs::an_outcome_is_said_once_of_what_was_let_through_by_who_verifies_tokens_there",
        "crates/testkit/tests/it/breakers.rs::a_forged_outcome_is_found",
    ],
};
