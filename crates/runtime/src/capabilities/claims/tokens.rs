//! Authority tokens.

use super::{Area, Claim};

pub const SIGNING: Claim = Claim {
    id: "token-signing",
    area: Area::Tokens,
    title: "signed authority tokens",
    claim: "Tokens are signed with the environment's key and verify with the public keys that the server hands out.",
    probe: "signs each environment's current revocation list with its active key and verifies it with the published keys",
    docs: "docs/api.md#verify-a-token",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::i1_an_allow_is_in_the_ledger_before_its_token_and_the_token_names_its_position",
        "crates/testkit/tests/it/invariants.rs::keys_rotate_the_previous_still_verifies_and_a_retired_one_is_refused_by_name",
        "crates/keyring/src/signing.rs::every_algorithm_seals_opens_and_signs",
    ],
};

pub const VERIFICATION: Claim = Claim {
    id: "token-verification",
    area: Area::Tokens,
    title: "offline verification",
    claim: "A token is good for one call, audience, environment and time, and refused by name for any other.",
    probe: "signs a token with a key of its own that is then thrown away, and verifies it: right, for another audience, environment and call, too late, altered, and against the live keys",
    docs: "docs/cli.md#tokens-offline",
    tests: &[
        "crates/token/tests/token/properties.rs::what_is_issued_is_what_verifies",
        "crates/token/tests/token/properties.rs::a_token_with_any_one_bit_of_its_text_flipped_never_verifies",
        "crates/testkit/tests/it/invariants.rs::a_token_that_no_decision_granted_is_refused_though_its_signature_holds",
    ],
};

pub const SINGLE_USE: Claim = Claim {
    id: "single-use",
    area: Area::Tokens,
    title: "single use",
    claim: "A token is consumed at most once, also by a thousand at once and after a restart.",
    probe: "consumes a made-up name in the store; the second time it must be refused",
    docs: "docs/api.md#verify-a-token",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::i4_a_token_is_consumed_once_by_a_thousand_at_once_and_not_after_a_restart",
    ],
};

pub const REVOCATION_LIST: Claim = Claim {
    id: "revocation-list",
    area: Area::Tokens,
    title: "revocation lists for offline verifiers",
    claim: "Verifiers without a connection get a signed list of what is revoked and halted, and refuse once it is too old.",
    probe: "makes each environment's list, opens it, and verifies a token of its own by it: now, and a minute later, when the list must be refused as stale",
    docs: "docs/emergency.md#verifiers-without-a-connection",
    tests: &[
        "crates/testkit/tests/it/emergency.rs::the_list_for_offline_verifiers_can_be_kept_says_as_of_when_and_goes_stale",
        "crates/token/tests/token/attacks.rs::a_stale_list_is_not_relied_on_even_if_it_names_nothing",
    ],
};

pub const KEYS_AT_REST: Claim = Claim {
    id: "keys-at-rest",
    area: Area::Tokens,
    title: "sealed keys",
    claim: "Private keys are in the store only sealed with the root key, each for its own purpose.",
    probe: "reads the sealed keys of the ledger and of each environment from the store, unseals them with the root key, and compares them with those that are signed with",
    docs: "docs/operate.md#keys",
    tests: &[
        "crates/keyring/src/root.rs::only_the_same_root_purpose_and_context_unseal",
        "crates/testkit/tests/it/sign_in_http.rs::no_secret_is_in_a_log_an_error_the_ledger_an_export_or_a_fact_in_clear",
    ],
};

pub const KEY_ROTATION: Claim = Claim {
    id: "key-rotation",
    area: Area::Tokens,
    title: "keys that are rotated",
    claim: "A signing key is rotated without breaking what is under way, and one that is older than policy has it is told.",
    probe: "compares the age of each environment's active key with the policy, and rotates one twice on a copy of the live state: the one before must still be published, and the one before that not",
    docs: "docs/keys.md#token-signing-keys",
    tests: &[
        "crates/testkit/tests/it/invariants.rs::keys_rotate_the_previous_still_verifies_and_a_retired_one_is_refused_by_name",
        "crates/testkit/tests/it/health.rs::a_key_that_is_to_be_rotated_says_since_when",
        "crates/cli/tests/process/backup.rs::signing_keys_are_listed_rotated_and_retired_from_the_command_line",
    ],
};

pub const SELF_TEST: Claim = Claim {
    id: "self-test",
    area: Area::Tokens,
    title: "a self-test that is no traffic",
    claim: "One fixed intent of the runtime's own shows that decisions, tokens and proofs work, also in production, and is counted as nothing else.",
    probe: "decides the self-test on the live state of each environment without recording it, and sees another tool and another agent by its name refused, and one with anything more in it",
    docs: "docs/token-test.md#what-it-is",
    tests: &[
        "crates/testkit/tests/it/self_test.rs::the_self_test_is_decided_recorded_signed_used_once_and_proved",
        "crates/testkit/tests/it/self_test.rs::its_token_is_refused_by_every_enforcement_point_that_did_not_ask_for_one",
        "crates/testkit/tests/it/self_test.rs::nobody_registers_its_name_in_any_spelling",
        "crates/testkit/tests/it/self_test_uncounted.rs::a_hundred_self_tests_move_no_figure_of_traffic",
        "crates/cli/tests/process/self_test.rs::every_step_of_the_self_test_is_shown_with_its_time_and_nothing_of_it_is_traffic",
    ],
};
