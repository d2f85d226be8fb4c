//! What holds and breakers cover, and who ends them: a hold stops what a halt of the same words stops,
//! one that would stop nothing is refused, and a person releases it.

use intended_engine::decide;
use intended_model::decision::{GateName, GateOutcome, Outcome};
use intended_model::emergency::{HaltScope, HaltTarget};
use intended_model::entry::{BreakerDefaults, Scope, Settings, Tier};
use intended_model::{Code, Intent};
use intended_runtime::breakers::HoldSpec;
use intended_testkit::{World, environment, intent};
use intended_verify::Check;
use serde_json::json;

use crate::breakers::{denied_by_breaker, holds, key, named, on, person, set, small, standing, submit};
use crate::http_edge::GOOD;
use crate::tampering::{Forge, verify};

const OWN: &str = r#"
"forge/create_issue" = { category = "OIL-103", operation = "create" }
"CRM.lookup" = { category = "OIL-103", operation = "read" }
"mcp:wiki.read" = { category = "OIL-103", operation = "read" }
"desk*" = { category = "OIL-103", operation = "read" }
"plain" = { category = "OIL-103", operation = "read" }
"#;

async fn world() -> World {
    let world = World::new().await.unwrap();
    world.runtime.set_catalogue(&world.owner, OWN).await.unwrap();
    let mut pack = intended_testkit::demo_pack();
    pack.insert("support.cedar".into(), r#"@id("all") permit (principal, action, resource);"#.into());
    world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), pack).await.unwrap();
    world
}

fn asks(tool: &str, behalf: &str) -> Intent {
    let behalf = if behalf.is_empty() {
        String::new()
    } else {
        format!(r#","properties":{{"on_behalf_of":{{"type":"agent","id":"{behalf}"}}}}"#)
    };
    intent(&format!(
        r#"{{"subject":{{"type":"agent","id":"support-agent"{behalf}}},"action":{{"name":"{tool}"}},"resource":{{"type":"order","id":"7"}},"environment":"production"}}"#
    ))
    .unwrap()
}

async fn hold(world: &World, name: &str, scope: &str, target: &str) -> Result<(), (Code, String)> {
    let spec = HoldSpec {
        environment: Some(environment("production").unwrap()),
        on: Some(on(json!({"scope": scope, "target": target}))),
        reason: "look".into(),
    };
    let held = world.runtime.hold_breaker(&world.owner, named(name), spec).await;
    held.map(drop).map_err(|e| (e.code, e.detail.to_string()))
}

/// A tool, and whom it is asked for on behalf of.
type Asked = (&'static str, &'static str);
/// What is held or halted, and what of it all that is to cover.
const CASES: [(&str, &str, &[Asked]); 9] = [
    ("connector", "forge", &[("forge/create_issue", ""), ("desk", ""), ("plain", "")]),
    ("connector", "Forge", &[("forge/create_issue", ""), ("desk", ""), ("plain", "")]),
    ("connector", "crm", &[("CRM.lookup", ""), ("desk", ""), ("plain", "")]),
    ("connector", "mcp", &[("mcp:wiki.read", ""), ("desk", ""), ("plain", "")]),
    ("connector", "desk", &[("desk:open", ""), ("desk/x.y", ""), ("desk", ""), ("plain", "")]),
    ("category", "OIL-100", &ALL),
    ("category", "OIL-10*", &ALL),
    ("agent", "release-agent", &[("plain", "release-agent")]),
    ("tool", "desk*", &[("desk:open", ""), ("desk/x.y", ""), ("desk", "")]),
];
const ALL: [(&str, &str); 8] = [
    ("forge/create_issue", ""),
    ("CRM.lookup", ""),
    ("mcp:wiki.read", ""),
    ("desk:open", ""),
    ("desk/x.y", ""),
    ("desk", ""),
    ("plain", ""),
    ("plain", "release-agent"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_covers_what_a_halt_of_the_same_words_covers() {
    let world = world().await;
    let ana = person(&world, "ana").await;
    let is = |tool: &str, of: &[(&str, &str)], behalf: &str| {
        of.contains(&(tool, behalf)) || of.contains(&(tool, "")) && !behalf.is_empty()
    };
    for (scope, target, covered) in CASES {
        hold(&world, "it", scope, target).await.unwrap_or_else(|e| panic!("{scope} {target}: {e:?}"));
        for (tool, behalf) in ALL {
            let decided = submit(&world, asks(tool, behalf)).await;
            let reason = decided.record.decision.reason;
            assert_eq!(
                reason == Code::BreakerOpen,
                is(tool, covered, behalf),
                "hold on {scope} {target}: {tool} {behalf}"
            );
        }
        world.runtime.release_breaker(&ana, named("it"), "over").await.unwrap();
        let halted = HaltScope {
            environment: Some(environment("production").unwrap()),
            on: Some(HaltTarget::of(scope, target).unwrap()),
        };
        let thrown = world.runtime.throw(&world.owner, halted, "look").await.unwrap();
        for (tool, behalf) in ALL {
            let decision = submit(&world, asks(tool, behalf)).await.record.decision;
            let halt = decision.gates.iter().any(|g| g.gate == GateName::Emergency && g.outcome == GateOutcome::Deny);
            assert_eq!(halt, is(tool, covered, behalf), "halt on {scope} {target}: {tool} {behalf}");
        }
        world.runtime.resume(&world.owner, thrown.halt, "over").await.unwrap();
        assert_eq!(submit(&world, asks("plain", "")).await.record.decision.decision, Outcome::Allow);
    }
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_on_a_system_or_a_domain_measures_and_denies_all_of_it_and_nothing_else() {
    for (scope, target, counted, other) in [
        ("connector", Some("Forge"), "forge/create_issue", "plain"),
        ("connector", None, "CRM.lookup", "plain"),
        ("connector", Some("mcp"), "mcp:wiki.read", "forge/create_issue"),
        ("category", Some("OIL-100"), "plain", "stripe.create_refund"),
    ] {
        let world = world().await;
        let mut target_of = json!({"scope": scope});
        if let Some(target) = target {
            target_of["target"] = json!(target);
        }
        set(&world, "it", target_of, json!({"velocity": 2, "minimum_calls": 1})).await;
        for _ in 0..2 {
            submit(&world, asks(other, "")).await;
            assert!(submit(&world, asks(counted, "")).await.token.is_some(), "{scope} {target:?}");
        }
        assert_eq!(standing(&world, "it"), Some("open"), "{scope} {target:?}");
        denied_by_breaker(&submit(&world, asks(counted, "")).await);
        assert_ne!(
            submit(&world, asks(other, "")).await.record.decision.reason,
            Code::BreakerOpen,
            "{scope} {target:?}"
        );
        let rows = world.runtime.breakers(&world.owner).unwrap();
        let row = rows.iter().find(|r| r.breaker.as_str() == "it").unwrap();
        if target.is_none() {
            assert_eq!(row.instances[0].target.as_deref(), Some("crm"), "one name, in any case");
        }
        holds(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_cover_nothing_is_refused_by_name_and_with_what_there_is() {
    let world = world().await;
    for (scope, target, says) in [
        ("connector", "mcp:wiki", "what stands before the first"),
        ("connector", "slakc", "`slack`"),
        ("connector", "nowhere", "no tool of the catalogue is of this system"),
        ("agent", "suport-agent", "no agent is registered"),
        ("tool", "stripe.refund", "no such tool"),
        ("tool", "nothing.*", "no such tool"),
        ("category", "OIL-199", "there is `OIL-101`"),
        ("category", "stuff", "no such code"),
    ] {
        let (code, detail) = hold(&world, "it", scope, target).await.unwrap_err();
        assert_eq!(code, Code::BreakerTarget, "{scope} {target}");
        assert!(detail.contains(&format!("{scope} `{target}` covers nothing")) && detail.contains(says), "{detail}");
        let spec = intended_runtime::breakers::BreakerSpec {
            active: true,
            environment: Some(environment("production").unwrap()),
            on: Some(on(json!({"scope": scope, "target": target}))),
            rules: crate::breakers::rules(json!({"velocity": 50})),
        };
        let refused = world.runtime.set_breaker(&world.owner, named("it"), spec).await.unwrap_err();
        assert_eq!(refused.code, Code::BreakerTarget, "{scope} {target}");
    }
    for (at, (scope, target)) in [
        ("connector", "STRIPE"),
        ("connector", "desktop"),
        ("tool", "stripe.*"),
        ("tool", "desktop.open"),
        ("tool", "*"),
        ("category", "OIL-1500"),
        ("agent", "release-agent"),
    ]
    .into_iter()
    .enumerate()
    {
        hold(&world, &format!("it-{at}"), scope, target).await.unwrap_or_else(|e| panic!("{scope} {target}: {e:?}"));
    }
}

/// What was decided stays what it was, also where it was not what people meant.
#[tokio::test(flavor = "multi_thread")]
async fn the_procedures_before_look_at_holds_as_they_did() {
    let world = world().await;
    for (scope, target) in
        [("connector", "forge"), ("connector", "crm"), ("category", "OIL-100"), ("agent", "release-agent")]
    {
        hold(&world, &format!("{scope}-{}", target.to_lowercase()), scope, target).await.unwrap();
    }
    let state = world.owner.tenant.state();
    for (tool, behalf) in [("forge/create_issue", ""), ("CRM.lookup", ""), ("plain", "release-agent")] {
        let now = submit(&world, asks(tool, behalf)).await;
        denied_by_breaker(&now);
        for procedure in [1, 2] {
            let classification = state.catalogue.classify_by(procedure, tool);
            assert_eq!(classification.system.as_deref(), tool.split_once('.').map(|(s, _)| s), "as its entry begins");
            let input = intended_model::decision::Input { procedure, classification, ..now.record.input.clone() };
            let then = decide(&state, &input);
            assert_eq!(then.decision, Outcome::Allow, "{tool} {behalf} by procedure {procedure}: {then:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_releases_a_hold() {
    let world = World::new().await.unwrap();
    let robot = key(&world, "robot", None, &[Scope::EmergencyWrite]).await;
    let ana = person(&world, "ana").await;
    // Whoever may stop things may hold.
    let spec = HoldSpec {
        environment: Some(environment("production").unwrap()),
        on: Some(on(json!({"scope": "connector", "target": "stripe"}))),
        reason: "their incident".into(),
    };
    world.runtime.hold_breaker(&robot, named("stripe-down"), spec).await.unwrap();
    for by in [&robot, &world.owner] {
        let refused = world.runtime.release_breaker(by, named("stripe-down"), "over").await.unwrap_err();
        assert_eq!(refused.code, Code::BreakerPerson);
    }
    denied_by_breaker(&small(&world).await);
    world.runtime.release_breaker(&ana, named("stripe-down"), "over").await.unwrap();
    assert!(small(&world).await.token.is_some());
    holds(&world).await;
    // Nor in a ledger.
    let honest = Forge::of(&world.export().await.unwrap().1);
    let at = honest.position("breaker.released", 0);
    let mut forge = Forge(honest.0.clone());
    forge.edit(at, |b| b["by"] = json!("robot"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
    assert!(failure.what.contains("only a person releases"), "{failure}");
    // One from before holds by what held then: nothing in it was decided by this procedure.
    let world = World::new().await.unwrap();
    key(&world, "robot", None, &[Scope::EmergencyWrite]).await;
    let ana = person(&world, "ana").await;
    let spec = HoldSpec {
        environment: Some(environment("production").unwrap()),
        on: Some(on(json!({"scope": "connector", "target": "stripe"}))),
        reason: "their incident".into(),
    };
    world.runtime.hold_breaker(&ana, named("stripe-down"), spec).await.unwrap();
    world.runtime.release_breaker(&ana, named("stripe-down"), "over").await.unwrap();
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let at = forge.position("breaker.released", 0);
    forge.edit(at, |b| b["by"] = json!("robot"));
    verify(forge.rebuild()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environments_own_breakers_are_taken_away_by_who_may_open_and_close_them() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let admin = key(&world, "admin", None, &[Scope::AccessWrite]).await;
    let with = |breakers: BreakerDefaults| {
        move |now: &Settings| {
            let mut settings = now.clone();
            settings.breakers = breakers;
            Ok(settings)
        }
    };
    let unknown = intent(&GOOD.replace("stripe.create_refund", "no.such_tool")).unwrap();
    for _ in 0..20 {
        submit(&world, unknown.clone()).await;
    }
    assert_eq!(standing(&world, "production.agents"), Some("open"));
    let none = with(BreakerDefaults::None);
    let refused = world.runtime.set_environment(&admin, production.clone(), Tier::Production, none).await.unwrap_err();
    assert_eq!(refused.code, Code::ScopeMissing);
    denied_by_breaker(&small(&world).await);
    // Everything else of it is theirs to set.
    let audience = |now: &Settings| Ok(Settings { audience: "elsewhere".into(), ..now.clone() });
    world.runtime.set_environment(&admin, production.clone(), Tier::Production, audience).await.unwrap();
    let none = with(BreakerDefaults::None);
    world.runtime.set_environment(&world.owner, production, Tier::Production, none).await.unwrap();
    assert!(small(&world).await.token.is_some());
    holds(&world).await;
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let at = forge.0.iter().rposition(|(_, kind, _)| kind == "environment.set").unwrap();
    forge.edit(at, |b| b["by"] = json!("admin"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
    assert!(failure.what.contains("without `emergency:write`"), "{failure}");
}
