//! The index held against the oracle, which shares neither the request's making nor the outcome's
//! rules with it: outcome, determining policies and errors, word for word. Soundness includes what
//! fails: a policy whose scope does not match never evaluates its condition, so it neither counts
//! nor fails, in the index because it is not looked at, in Cedar because the scope comes first. And the
//! index evaluates no scope, so it must look at exactly those policies whose scope matches.

use std::collections::BTreeSet;

use intended_policy::PolicyOutcome;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use crate::grammar::{Asks, Scope, Spec, asked, pack, spec, specs};
use crate::oracle::{Asked as InCedar, Oracle};
use crate::request::{Asked, version};

fn said(outcome: PolicyOutcome) -> PolicyOutcome {
    PolicyOutcome { candidates: 0, ..outcome }
}

/// What both say of each request, the index first; `None` where both refuse the request.
fn both(specs: &[Spec], requests: &[Asked]) -> Vec<Option<(PolicyOutcome, PolicyOutcome)>> {
    let (index, oracle) = (version(&pack(specs)), Oracle::new(specs));
    let ask = |asked: &Asked| {
        asked.with(|r| match (index.evaluate(r), InCedar::new(r)) {
            (Ok(index), Some(request)) => Some((index, oracle.says(&request))),
            (Err(_), None) => None,
            (index, request) => panic!("{index:?}, in Cedar {}: {asked:?}", request.is_some()),
        })
    };
    requests.iter().map(ask).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::cases(500), ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_an_independent_reading_says(
        specs in specs(12),
        requests in proptest::collection::vec(asked(), 40),
    ) {
        for (asked, outcomes) in requests.iter().zip(both(&specs, &requests)) {
            let Some((index, oracle)) = outcomes else { continue };
            prop_assert!(index.candidates <= specs.len());
            prop_assert_eq!(said(index), said(oracle), "{}\n{:?}", pack(&specs), asked);
        }
    }

    /// In a set a forbid hides which permits were satisfied, a plain permit those with obligations.
    /// Alone nothing hides a policy that was wrongly left out.
    #[test]
    fn each_policy_alone_says_what_an_independent_reading_says(
        spec in spec(),
        requests in proptest::collection::vec(asked(), 20),
    ) {
        let specs = [spec];
        for (asked, outcomes) in requests.iter().zip(both(&specs, &requests)) {
            let Some((index, oracle)) = outcomes else { continue };
            prop_assert!(index.candidates == 1 || index.code == "policy.no_permit" && index.errors.is_empty());
            prop_assert_eq!(said(index), said(oracle), "{}\n{:?}", pack(&specs), asked);
        }
        // With nothing but its scope, who is looked at is satisfied.
        let [spec] = specs;
        let bare = [Spec { conditions: Vec::new(), asks: Asks::Nothing, ..spec }];
        for (asked, outcomes) in requests.iter().zip(both(&bare, &requests)) {
            let Some((index, oracle)) = outcomes else { continue };
            let matches = oracle.determining.len();
            prop_assert_eq!(index.candidates, matches, "{}\n{:?}", pack(&bare), asked);
        }
    }

    /// So many that the scopes of anybody, and in some sets of others, are looked up and not compared one
    /// by one. Permits with nothing but their scope: all that match determine the outcome, and none hides another.
    #[test]
    fn the_scopes_of_a_large_set_match_as_an_independent_reading_says(
        specs in proptest::collection::vec((spec(), any::<bool>()), 40..80),
        requests in proptest::collection::vec(asked(), 10),
    ) {
        let bare = |(spec, anybody): (Spec, bool)| Spec {
            permit: true,
            asks: Asks::Nothing,
            principal: if anybody { Scope::Any } else { spec.principal },
            conditions: Vec::new(),
            ..spec
        };
        let specs: Vec<Spec> = specs.into_iter().map(bare).collect();
        for (asked, outcomes) in requests.iter().zip(both(&specs, &requests)) {
            let Some((index, oracle)) = outcomes else { continue };
            prop_assert_eq!(index.candidates, oracle.determining.len());
            prop_assert_eq!(said(index), said(oracle), "{}\n{:?}", pack(&specs), asked);
        }
    }
}

/// Without this the properties above could hold because nothing ever happens.
#[test]
fn every_form_of_scope_is_reached_matching_and_not_and_fails_only_where_it_matches() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut reached, mut evaluations, mut refused) = (BTreeSet::new(), 0, 0);
    let mut wanted = BTreeSet::new();
    for side in ["principal", "action", "resource"] {
        let forms: &[&str] =
            if side == "action" { &["any", "==", "in", "in [..]"] } else { &["any", "==", "in", "is", "is in"] };
        let all = forms.iter().flat_map(|form| [true, false].map(|permit| (permit, side, *form)));
        let whats = ["left out", "failed", "satisfied", "not satisfied"];
        wanted.extend(all.flat_map(|(permit, side, form)| whats.map(|what| (permit, side, form, what))));
    }
    for turn in 0..40_000 {
        if turn >= 3_000 && wanted.is_subset(&reached) {
            break;
        }
        let specs = [spec().new_tree(&mut runner).unwrap().current()];
        let requests: Vec<Asked> = (0..4).map(|_| asked().new_tree(&mut runner).unwrap().current()).collect();
        for outcomes in both(&specs, &requests) {
            let Some((index, oracle)) = outcomes else {
                refused += 1;
                continue;
            };
            evaluations += 1;
            assert_eq!(said(index.clone()), said(oracle));
            let what = match (index.candidates, index.errors.is_empty(), index.determining.is_empty()) {
                (0, true, true) => "left out",
                (1, false, _) => "failed",
                (1, true, false) => "satisfied",
                (1, true, true) => "not satisfied",
                other => panic!("{other:?}"),
            };
            let [spec] = &specs;
            for (side, scope) in
                [("principal", &spec.principal), ("action", &spec.action), ("resource", &spec.resource)]
            {
                reached.insert((spec.permit, side, scope.form(), what));
            }
        }
    }
    assert!(wanted.is_subset(&reached), "{:?}", wanted.difference(&reached).collect::<Vec<_>>());
    assert!(evaluations > 10_000 && refused > 100, "{evaluations} evaluated, {refused} refused");
}

#[test]
fn the_generated_sets_reach_every_outcome() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..600 {
        // Few, so that obligations are not always hidden by a plain permit.
        let specs = specs(5).new_tree(&mut runner).unwrap().current();
        let requests: Vec<Asked> = (0..10).map(|_| asked().new_tree(&mut runner).unwrap().current()).collect();
        seen.extend(both(&specs, &requests).into_iter().flatten().map(|(index, _)| index.code));
    }
    let all = ["ambiguous", "defer", "error", "escalate", "forbid", "modify", "no_permit", "permit"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all.map(|code| format!("policy.{code}")));
}

/// An entity that a scope names, alone or with a type, keeps the policy from everyone else's requests, and
/// so does a type that nobody's request has there.
#[test]
fn a_scope_that_names_an_entity_keeps_the_policy_from_other_requests() {
    let looked_at = |scope: &str| {
        let asked = crate::request::usual();
        asked.with(|r| version(&format!("@id(\"p\") permit ({scope});")).evaluate(r).unwrap().candidates)
    };
    for (own, other) in [
        (r#"principal == Agent::"a0", action, resource"#, r#"principal == Agent::"a1", action, resource"#),
        (r#"principal in Team::"t0", action, resource"#, r#"principal in Team::"t1", action, resource"#),
        (
            r#"principal is Agent in Team::"t0", action, resource"#,
            r#"principal is Agent in Team::"t1", action, resource"#,
        ),
        (r#"principal, action == Action::"m.x", resource"#, r#"principal, action == Action::"m.y", resource"#),
        (r#"principal, action in Action::"OIL-100", resource"#, r#"principal, action in Action::"OIL-200", resource"#),
        (
            r#"principal, action in [Action::"m.y", Action::"op:read"], resource"#,
            r#"principal, action in [Action::"m.y", Action::"op:delete"], resource"#,
        ),
        (
            r#"principal, action, resource == Resource::"order/1""#,
            r#"principal, action, resource == Resource::"order/2""#,
        ),
        (r#"principal, action, resource in Capability::"c0""#, r#"principal, action, resource in Capability::"c1""#),
        (
            r#"principal, action, resource is Resource in Capability::"c0""#,
            r#"principal, action, resource is Resource in Capability::"c1""#,
        ),
        ("principal is Agent, action, resource", "principal, action in [], resource"),
        ("principal, action, resource is Resource", "principal, action, resource is Capability"),
        (r#"principal in Agent::"a0", action, resource"#, r#"principal == Team::"t0", action, resource"#),
        (r#"principal, action in Action::"op:read", resource"#, r#"principal, action == Action::"op:read", resource"#),
        (r#"principal, action, resource in Resource::"order/1""#, r#"principal, action, resource == Capability::"c0""#),
    ] {
        assert_eq!((looked_at(own), looked_at(other)), (1, 0), "{own} | {other}");
    }
}
