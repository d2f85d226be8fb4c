//! The index and the direct evaluation, held against Cedar's authorizer over the whole set: outcome,
//! determining policies, errors.

use intended_policy::compiled::Said;
use intended_policy::missing::Missing;
use intended_policy::{PolicyDecision, PolicyOutcome};
use proptest::prelude::*;

use crate::request::{Asked, asked, usual, version};

const PRINCIPALS: &[&str] = &[
    "principal",
    r#"principal == Agent::"a0""#,
    r#"principal == Agent::"a1""#,
    r#"principal == Team::"t0""#,
    r#"principal in Team::"t0""#,
    r#"principal in Team::"t2""#,
    r#"principal in Agent::"a2""#,
    "principal is Agent",
    "principal is Team",
    r#"principal is Agent in Team::"t1""#,
    r#"principal is Team in Team::"t1""#,
    r#"principal in Other::"a0""#,
];
const ACTIONS: &[&str] = &[
    "action",
    r#"action == Action::"m.x""#,
    r#"action == Action::"OIL-101""#,
    r#"action in Action::"OIL-101""#,
    r#"action in Action::"OIL-100""#,
    r#"action in Action::"op:delete""#,
    r#"action in [Action::"m.y", Action::"op:read"]"#,
    r#"action in [Action::"m.x", Action::"OIL-101", Action::"OIL-200", Action::"op:read"]"#,
    "action in []",
    r#"action in Other::Action::"m.x""#,
];
const RESOURCES: &[&str] = &[
    "resource",
    r#"resource == Resource::"order/1""#,
    r#"resource == Resource::"page/2""#,
    r#"resource == Capability::"c0""#,
    r#"resource in Capability::"c0""#,
    r#"resource in Resource::"order/2""#,
    "resource is Resource",
    r#"resource is Resource in Capability::"c1""#,
    "resource is Capability",
];
/// True, false, either, and failing: an attribute or tag that is not there, an overflow, a wrong type.
const CONDITIONS: &[&str] = &[
    "",
    "when { true }",
    "when { false }",
    "unless { context.risk > 50 }",
    "when { context.risk < 30 && context.riskFactors.timeOfDay < 20 }",
    r#"when { context.text.hasTag("to") && context.text.getTag("to") == "x" }"#,
    r#"when { context.text.getTag("to") == "x" }"#,
    r#"when { context.text.hasTag("to.name") }"#,
    r#"when { context.number.getTag("amount").lessThan(decimal("10.0")) }"#,
    r#"when { context.number.hasTag("cc.length") && context.number.getTag("cc.length") == decimal("2.0") }"#,
    r#"when { context.list.hasTag("cc") && context.list.getTag("cc").contains("x") }"#,
    r#"when { context.flag.getTag("f") }"#,
    "when { principal.trust + 9223372036854775807 > 0 }",
    "when { principal.nope == 1 }",
    "when { principal has nope && principal.nope == 1 }",
    "when { context.risk == \"high\" }",
    "when { context.risk }",
    "when { resource.criticality >= 2 || resource.known }",
    r#"when { resource in Capability::"c1" }"#,
    r#"when { principal in Team::"t1" }"#,
    r#"when { action in Action::"op:read" }"#,
    r#"when { action in Action::"OIL-200" }"#,
    r#"when { context.session.tools.containsAny(["bulk", "financial"]) }"#,
    r#"when { context.indicators.contains("financial") } unless { context.goal.declared }"#,
    "when { context.session.intents > 40 }",
    r#"when { context.budgets.getTag("b") > 4 }"#,
    r#"when { context.goal == {declared: true, mentions: []} }"#,
    "when { context == context && context.time.hour < 12 }",
    r#"when { if context.risk > 50 then principal.id == "a0" else resource.kind like "ord*" }"#,
    r#"when { {"a": principal}.a.owner == "platform" }"#,
    r#"when { context has session.tools && context has risk }"#,
    r#"when { (if context.goal.declared then principal else Agent::"a9").trust > 1 }"#,
    r#"when { Agent::"a0".trust > 1 && Agent::"a1" in Team::"t1" }"#,
    r#"when { Resource::"order/2" has criticality }"#,
    r#"when { principal has trust && resource has owner && resource.owner == principal.owner }"#,
    r#"when { Action::"OIL-101" in Action::"OIL-100" || Action::"OIL-200" in Action::"OIL-100" }"#,
    r#"when { Text::"arguments".hasTag("to") || Counter::"arguments".getTag("b") > 4 }"#,
    r#"when { resource.hasTag("to") }"#,
    r#"when { [principal, resource].contains(principal) && principal == resource }"#,
];
const OBLIGATIONS: &[&str] = &[
    "",
    "",
    r#"@escalate("1 of owners")"#,
    r#"@escalate("2 of owners")"#,
    r#"@defer("a ticket")"#,
    r#"@modify("set draft = true")"#,
    r#"@modify("set draft = false")"#,
];

fn policy() -> impl Strategy<Value = String> {
    let one = proptest::sample::select::<&'static str>;
    (any::<bool>(), one(PRINCIPALS), one(ACTIONS), one(RESOURCES), one(CONDITIONS), one(OBLIGATIONS)).prop_map(
        |(permit, principal, action, resource, condition, obligation)| {
            let (effect, obligation) = if permit { ("permit", obligation) } else { ("forbid", "") };
            format!("{obligation} {effect} ({principal}, {action}, {resource}) {condition};")
        },
    )
}

fn said(outcome: PolicyOutcome) -> PolicyOutcome {
    // How many were looked at is the one thing in which the two are to differ.
    PolicyOutcome { candidates: 0, ..outcome }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::cases(600), ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_cedar_says_of_the_whole_set(
        policies in proptest::collection::vec(policy(), 1..14),
        requests in proptest::collection::vec(asked(), 40),
    ) {
        let text: String = policies.iter().enumerate().map(|(n, p)| format!("@id(\"p{n}\") {p}\n")).collect();
        let version = version(&text);
        let full = version.full().unwrap();
        for asked in &requests {
            let (sliced, whole) = asked.with(|r| (version.evaluate(r).unwrap(), full.evaluate(&version, r).unwrap()));
            prop_assert!(sliced.candidates <= whole.candidates);
            prop_assert_eq!(said(sliced), said(whole), "{}\n{:?}", text, asked);
        }
    }
}

/// Without this the property above could hold because nothing ever happens.
#[test]
fn the_generated_cases_reach_every_outcome() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let mut sliced_away = 0;
    for _ in 0..300 {
        let policies = proptest::collection::vec(policy(), 1..14).new_tree(&mut runner).unwrap().current();
        let text: String = policies.iter().enumerate().map(|(n, p)| format!("@id(\"p{n}\") {p}\n")).collect();
        let version = version(&text);
        for _ in 0..10 {
            let asked: Asked = asked().new_tree(&mut runner).unwrap().current();
            let outcome = asked.with(|r| version.evaluate(r).unwrap());
            sliced_away += version.len() - outcome.candidates;
            seen.insert(outcome.code);
        }
    }
    for code in ["defer", "error", "escalate", "forbid", "modify", "no_permit", "permit"] {
        assert!(seen.contains(format!("policy.{code}").as_str()), "{code} is not among {seen:?}");
    }
    assert!(sliced_away > 1_000);
}

/// The last scope of those of anybody is the first one of the next principal's.
#[test]
fn the_many_policies_of_anybody_end_where_the_next_principal_begins() {
    let anybody = (10..50).map(|n| format!("@id(\"p{n}\") permit (principal, action, resource);\n"));
    let another = "@id(\"q\") permit (principal == Agent::\"another\", action, resource);\n".to_owned();
    let text: String = anybody.chain([another]).collect();
    let outcome = usual().with(|r| version(&text).evaluate(r).unwrap());
    assert_eq!((outcome.candidates, outcome.determining.len()), (40, 40));
    assert!(outcome.determining.iter().all(|id| **id != *"q"), "{:?}", outcome.determining);
}

/// However many policies a team has, few or many, and whoever's stand before and after them.
#[test]
fn a_forbid_among_the_policies_of_a_team_is_found() {
    let many = |id: &str, who: &str, count: usize| -> String {
        (0..count)
            .map(|n| format!("@id(\"{id}{n}\") permit ({who}, action == Action::\"other.{n}\", resource);\n"))
            .collect()
    };
    let forbid = |id: &str, who: &str| {
        let actions = r#"action in [Action::"OIL-101", Action::"OIL-102"]"#;
        format!("@id(\"{id}\") forbid ({who}, {actions}, resource);\n")
    };
    let (team, another) = (r#"principal in Team::"t0""#, r#"principal in Team::"t9""#);
    for count in 0..30 {
        let before = many("anybody", "principal", 20);
        let text = [before, many("team", team, count), forbid("forbid", team), forbid("next", another)].concat();
        let (version, missing) = (version(&text), Missing::default());
        let (outcome, trace) = usual().with(|r| (version.evaluate(r).unwrap(), version.trace(r, &missing).unwrap()));
        assert_eq!((outcome.candidates, outcome.code), (1, "policy.forbid"), "{count}");
        assert_eq!(outcome.determining, ["forbid".into()]);
        let traced: Vec<_> = trace.iter().map(|t| (&*t.id, &t.said)).collect();
        assert_eq!(traced, [("forbid", &Said::Satisfied)], "{count}");
    }
}

/// Cedar's evaluator gives up when the stack of its thread runs out. What a policy may be is bounded
/// so far from there that the same is decided on any thread.
#[test]
fn the_deepest_policy_is_decided_alike_on_a_small_and_on_a_large_stack() {
    // The scope and the comparison are some levels too.
    let deepest = (1..200)
        .rev()
        .map(|n| format!("@id(\"deep\") permit (principal, action, resource) when {{ 1{} > 0 }};", "+1".repeat(n)))
        .find(|text| crate::request::pack(text).is_ok())
        .unwrap();
    assert!(deepest.len() > 200);
    let decide = move || usual().with(|r| version(&deepest).evaluate(r).unwrap());
    for stack in [256 << 10, 2 << 20, 64 << 20] {
        let thread = std::thread::Builder::new().stack_size(stack).spawn(decide.clone()).unwrap();
        assert_eq!(thread.join().unwrap().outcome, PolicyDecision::Allow, "{stack}");
    }
}
