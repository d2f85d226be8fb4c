//! Finding out what happened, storing.

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
    claim: "An incident's evidence is sealed with the ledger's key and holds until anything in it is changed.",
    probe: "signs a text that is no evidence with the ledger's key, verifies it with the public one, and sees an altered one refused",
    docs: "docs/investigate.md#incidents",
    tests: &["crates/testkit/tests/it/investigate.rs::an_incidents_evidence_holds_until_anything_in_it_is_changed"],
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
        "crates/store-postgres/tests/it/store.rs::the_contract_holds",
        "crates/store-postgres/tests/it/failures.rs::a_killed_server_comes_back_with_everything_acknowledged",
    ],
};

pub const RESTORE: Claim = Claim {
    id: "restore",
    area: Area::Storage,
    title: "backups that are safe to go back to",
    claim: "A ledger that goes on from an older copy is halted, and nothing from before is good for anything any more.",
    probe: "has a copy of the live state go on from a copy of the ledger, and asks it about a token from before, a decision, and what waited for approval",
    docs: "docs/backup.md#what-makes-an-old-copy-safe",
    tests: &[
        "crates/testkit/tests/it/restored.rs::nothing_from_before_a_copy_or_lost_after_it_is_good_for_anything",
        "crates/testkit/tests/it/restored.rs::what_waited_when_a_copy_was_made_is_approved_by_nobody_after_it",
        "crates/cli/tests/process/backup.rs::a_backup_under_load_is_whole_and_decisions_go_on_after_it_is_restored",
        "crates/cli/tests/process/backup.rs::a_kill_in_the_middle_leaves_nothing_that_looks_good",
    ],
};

pub const KEPT_CHECKPOINTS: Claim = Claim {
    id: "kept-checkpoints",
    area: Area::Storage,
    title: "checkpoints kept elsewhere",
    claim: "An older copy of the data that is put back is found by a checkpoint that was kept elsewhere, and not served.",
    probe: "reads the checkpoint that is kept elsewhere, holds the ledger against it, and looks at what it does not cover yet",
    docs: "docs/backup.md#keep-checkpoints-elsewhere",
    tests: &[
        "crates/testkit/tests/it/restored.rs::a_ledger_is_served_only_if_it_is_no_older_than_a_checkpoint_that_was_kept",
        "crates/cli/tests/process/backup.rs::a_data_directory_that_was_put_back_is_not_served_where_a_checkpoint_is_kept_elsewhere",
        "crates/testkit/tests/it/claimed.rs::a_checkpoint_that_is_kept_elsewhere_is_held_against_and_a_missing_or_foreign_one_said",
    ],
};
