//! Deciding.

use super::{Area, Claim};

pub const GATES: Claim = Claim {
    id: "gates",
    area: Area::Decide,
    title: "nine gates",
    claim: "Every intent passes nine gates, and what is not provably allowed is denied, by name.",
    probe: "decides made-up intents on the live state of each environment: of an unknown agent, with an unknown tool; each must be denied by name, with all nine gates in its trace",
    docs: "docs/api.md#submit-an-intent",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::i8_whatever_is_unknown_denies_by_name",
        "crates/testkit/tests/it/http_edge.rs::a_decision_answers_with_its_whole_trace_a_token_and_a_receipt_that_holds",
        "crates/engine/tests/model.rs::the_generated_histories_reach_every_gate",
    ],
};

pub const CATALOGUE: Claim = Claim {
    id: "catalogue",
    area: Area::Decide,
    title: "a catalogue of tools",
    claim: "A tool is what the catalogue says it is; what only looks like one is unknown, and denied.",
    probe: "classifies every tool of the tenant's catalogue, and look-alikes of some of them, which must be unknown",
    docs: "docs/policy.md#the-catalogue",
    tests: &[
        "crates/intents/tests/intents.rs::a_look_alike_never_reaches_the_catalogue",
        "crates/intents/tests/intents.rs::no_name_makes_the_classifier_fail_or_guess",
    ],
};

pub const FENCE: Claim = Claim {
    id: "fence",
    area: Area::Decide,
    title: "decisions fenced by what they relied on",
    claim: "A decision commits only if nothing it relied on has changed.",
    probe: "hands the store a commit without content that relied on an older state, which it must refuse",
    docs: "ARCHITECTURE.md#one-decision",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::i2_no_allow_follows_a_halt_under_load",
        "crates/store/src/conformance/commits.rs::a_conflict_leaves_nothing",
    ],
};

pub const IDEMPOTENCY: Claim = Claim {
    id: "idempotency",
    area: Area::Decide,
    title: "idempotency keys",
    claim: "The same idempotency key gives the same answer and does nothing a second time.",
    probe: "records an answer under a made-up key, reads it again, and sees a second one under that key refused",
    docs: "docs/api.md#requests",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::the_same_idempotency_key_gives_the_same_token_and_another_body_is_refused",
        "crates/testkit/tests/it/once.rs::every_post_that_creates_is_done_once_under_one_idempotency_key",
    ],
};

pub const BUDGETS: Claim = Claim {
    id: "budgets",
    area: Area::Decide,
    title: "budgets",
    claim: "A budget holds, however many spend at once.",
    probe: "asks the store to add more to a made-up counter than its bound, which it must refuse",
    docs: "docs/policy.md#the-vocabulary",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::a_budget_holds_when_many_spend_at_once",
        "crates/testkit/tests/it/forged.rs::a_budget_is_bounded_whatever_each_decision_saw_of_it",
    ],
};

pub const RATE_LIMIT: Claim = Claim {
    id: "rate-limit",
    area: Area::Decide,
    title: "rate limits",
    claim: "A credential that asks too often is told when to come back.",
    probe: "empties a bucket of its own with the server's limit, or with 1,000 of a larger one; the next one must be refused",
    docs: "docs/api.md#requests",
    tests: &["crates/testkit/tests/it/http_edge.rs::a_credential_that_asks_too_often_is_told_when_to_come_back"],
};

pub const AUTHZEN: Claim = Claim {
    id: "authzen",
    area: Area::Decide,
    title: "AuthZEN 1.0",
    claim: "Any AuthZEN 1.0 client can ask for decisions.",
    probe: "reads a request of the standard's form, decides it on the live state without recording it, and checks the endpoints that the metadata names",
    docs: "docs/api.md#authzen-10",
    tests: &[
        "crates/testkit/tests/it/authzen.rs::batches_merge_defaults_and_stop_as_asked",
        "crates/testkit/tests/it/access_request.rs::the_metadata_says_where_access_is_asked_for",
    ],
};

pub const CLOCK: Claim = Claim {
    id: "clock",
    area: Area::Decide,
    title: "time that does not go back",
    claim: "A clock that is set back revives nothing: time goes on from the ledger's.",
    probe: "compares the time that is decided by with the ledger's newest and with the system's clock",
    docs: "docs/operate.md#when-something-fails",
    tests: &[
        "crates/testkit/tests/it/time.rs::a_clock_that_was_set_back_revives_no_token_and_leaves_a_ledger_that_verifies",
        "crates/runtime/src/ports.rs::a_clock_behind_the_ledger_goes_on_from_the_ledgers_time",
    ],
};
