//! People, keys, signing in.

use super::{Area, Claim};

pub const API_KEYS: Claim = Claim {
    id: "api-keys",
    area: Area::Access,
    title: "keys with scopes",
    claim: "A key does what its scopes and environments allow, as of now, and any other key does nothing.",
    probe: "tries a key that nobody has and one with a typing error, which must be refused by name, and looks the caller's own access up in the live state",
    docs: "docs/access.md#credentials",
    tests: &[
        "crates/testkit/tests/it/http_edge.rs::a_credential_that_has_expired_or_was_revoked_is_refused_by_name",
        "crates/testkit/tests/it/access_walk.rs::every_route_answers_every_role_as_the_table_says",
        "crates/testkit/tests/it/isolation.rs::every_id_of_every_route_with_another_tenants_credential_is_not_found",
    ],
};

pub const BOUND_KEYS: Claim = Claim {
    id: "bound-keys",
    area: Area::Access,
    title: "keys of one agent",
    claim: "A key that is bound to agents submits for no other, and can make no key that does.",
    probe: "binds a made-up key to a made-up agent on a copy of the live state and decides with it for that agent and for another, which must be denied by name",
    docs: "docs/api.md#credentials",
    tests: &["crates/testkit/tests/it/bounds.rs::a_key_that_is_for_one_agent_is_for_no_other_and_makes_none_that_is"],
};

pub const LOCKOUT: Claim = Claim {
    id: "lockout",
    area: Area::Access,
    title: "guessing that has to wait",
    claim: "Who guesses keys waits longer each time, and good keys from there go on.",
    probe: "counts failures of an address that nobody has, in a list of its own, until it has to wait",
    docs: "docs/access.md#credentials",
    tests: &[
        "crates/testkit/tests/it/credentials.rs::who_guesses_keys_waits_longer_each_time_and_good_keys_from_there_go_on",
        "crates/runtime/src/lockout.rs::twenty_failures_in_a_minute_have_to_wait_and_each_time_longer",
    ],
};

pub const PASSWORDS: Claim = Claim {
    id: "passwords",
    area: Area::Access,
    title: "passwords with Argon2id",
    claim: "People sign in with a password, kept as Argon2id, and guessing locks.",
    probe: "hashes a made-up password with the parameters of real ones, verifies it and another one, and counts the members who have a password",
    docs: "docs/sign-in.md#what-it-takes",
    tests: &[
        "crates/testkit/tests/it/sign_in.rs::a_member_signs_in_acts_as_what_their_roles_are_and_signs_out",
        "crates/testkit/tests/it/sign_in.rs::guessing_a_password_locks_and_neither_a_restart_nor_the_right_one_lifts_it",
        "crates/keyring/src/password.rs::it_is_the_argon2id_of_the_reference_implementation",
    ],
};

pub const AUTHENTICATORS: Claim = Claim {
    id: "authenticators",
    area: Area::Access,
    title: "authenticator codes",
    claim: "A code of an authenticator is asked for after the right password only, and is good once.",
    probe: "makes a secret, verifies its code of now, sees it refused the second time and a wrong one refused, and counts the members who have an authenticator",
    docs: "docs/sign-in.md#what-it-takes",
    tests: &[
        "crates/testkit/tests/it/sign_in.rs::a_code_is_asked_for_after_the_right_password_only_and_is_good_once",
        "crates/keyring/src/totp.rs::the_vectors_of_rfc_6238_hold",
    ],
};

pub const IDENTITY_PROVIDERS: Claim = Claim {
    id: "identity-providers",
    area: Area::Access,
    title: "OpenID Connect",
    claim: "People sign in with the identity provider of their organisation and are what their groups are mapped to.",
    probe: "reads the configuration of each identity provider that is set up, and unseals the client's secret",
    docs: "docs/sign-in.md#identity-providers",
    tests: &[
        "crates/testkit/tests/it/oidc.rs::a_person_of_mapped_groups_signs_in_with_every_algorithm_and_is_what_the_groups_say_each_time",
        "crates/testkit/tests/it/oidc.rs::every_lie_of_a_provider_is_refused_and_makes_nobody_a_member",
    ],
};

pub const ACCESS_REVIEW: Claim = Claim {
    id: "access-review",
    area: Area::Access,
    title: "access reviews",
    claim: "Who may do what is reviewed as of the ledger, and signed by two people.",
    probe: "looks at the newest review, and at who has signed it",
    docs: "docs/access.md#access-review",
    tests: &[
        "crates/testkit/tests/it/reviews.rs::a_review_is_signed_by_two_people_who_are_two",
        "crates/testkit/tests/it/reviews.rs::a_report_is_what_the_ledger_says_its_digest_is_and_anything_else_is_refused",
    ],
};
