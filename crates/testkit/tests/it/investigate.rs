//! Looking into what happened: queries, why something was decided as it was and what would have
//! changed it, decisions made again elsewhere, incidents with their timeline and their evidence.

use std::collections::BTreeMap;

use intended_model::decision::{DecisionRecord, Outcome};
use intended_model::entry::{BODY_VERSION, BreakerHeld, BreakerScope, IncidentNoted, MemberSet, Role, RoleGrant};
use intended_model::{Code, Event, Kind, MemberId, Name};
use intended_runtime::Submission;
use intended_runtime::audit::{Query, WhatIf};
use intended_testkit::{World, demo_pack, environment, intent, refund};
use intended_verify::incident::verify;
use serde_json::{Value, json};

use crate::http_edge::{app, call};

async fn submit(world: &World, amount: i64, session: Option<&str>) -> (DecisionRecord, u64) {
    let submission = Submission { intent: refund(amount, session).unwrap(), idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    (decided.record, decided.index)
}

async fn explained(world: &World, (record, index): &(DecisionRecord, u64)) -> (Vec<String>, Vec<String>) {
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let why = world.runtime.explain(&world.owner, record, *index).await.unwrap();
    let after = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    assert_eq!(size, after, "nothing is recorded");
    assert!(why.tried < 400, "bounded: {}", why.tried);
    (
        why.obstacles.into_iter().map(|o| format!("{}: {}", o.gate.as_str(), o.what)).collect(),
        why.would_allow.into_iter().map(|c| c.change).collect(),
    )
}

async fn lead(world: &World) {
    let member = MemberSet {
        active: true,
        by: world.owner.credential.clone(),
        email: None,
        grants: vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Approver, whole: true }],
        groups: vec![Name::new("support-leads").unwrap()],
        member: MemberId::new("ada").unwrap(),
        name: None,
        v: BODY_VERSION,
    };
    world.control(Event::MemberSet(member)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_time_is_found_without_looking_at_anything_else() {
    let world = World::new().await.unwrap();
    let mut at = Vec::new();
    for n in 0..90 {
        world.clock.advance_millis(60_000);
        at.push((world.clock_now(), submit(&world, n % 40 + 1, Some(if n % 2 == 0 { "even" } else { "odd" })).await));
    }
    let query = |since: usize, until: usize| Query {
        since: Some(at[since].0),
        until: Some(at[until].0),
        limit: 500,
        ..Query::default()
    };
    for (since, until) in [(0, 5), (40, 45), (80, 89), (10, 10)] {
        let page = world.runtime.query(&world.owner, &query(since, until)).await.unwrap();
        let found: Vec<u64> = page.entries.iter().map(|(e, _)| e.index).collect();
        let wanted: Vec<u64> = at[since..until].iter().rev().map(|(_, (_, index))| *index).collect();
        assert_eq!((found, page.before), (wanted, None));
        assert_eq!(page.scanned, until - since, "of {} entries", at.len());
    }
    // A cursor goes on within the range and not beyond it.
    let page = world.runtime.query(&world.owner, &Query { limit: 3, ..query(40, 45) }).await.unwrap();
    let rest = Query { before: page.before, ..query(40, 45) };
    let rest = world.runtime.query(&world.owner, &rest).await.unwrap();
    assert_eq!((page.entries.len(), rest.entries.len(), rest.before), (3, 2, None));

    let odd = Query { session: Some("odd".to_owned()), limit: 500, ..Query::default() };
    assert_eq!(world.runtime.query(&world.owner, &odd).await.unwrap().entries.len(), 45);
    let (_, (record, index)) = &at[7];
    let one = Query { intent: Some(record.input.id), limit: 500, ..Query::default() };
    let page = world.runtime.query(&world.owner, &one).await.unwrap();
    assert_eq!((page.entries.iter().map(|(e, _)| e.index).collect::<Vec<_>>(), page.scanned), (vec![*index], 1));
    let nobody = Query { credential: Some("nobody".to_owned()), limit: 500, ..Query::default() };
    assert!(world.runtime.query(&world.owner, &nobody).await.unwrap().entries.is_empty());
    let owners =
        Query { credential: Some("owner".to_owned()), kind: Some(Kind::Decision), limit: 500, ..Query::default() };
    assert_eq!(world.runtime.query(&world.owner, &owners).await.unwrap().entries.len(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_names_what_stands_in_the_way_and_what_would_have_been_allowed() {
    let world = World::new().await.unwrap();
    lead(&world).await;
    let escalated = submit(&world, 400, None).await;
    let (obstacles, instead) = explained(&world, &escalated).await;
    let policy = obstacles.iter().find(|o| o.starts_with("policy: ")).unwrap();
    let line = 1 + demo_pack()["support.cedar"].lines().position(|l| l.contains("support.refund-large")).unwrap();
    assert!(policy.contains(&format!("`support.refund-large` (support.cedar:{line})")), "{policy}");
    assert!(obstacles.iter().any(|o| o.contains("1 of support-leads (`ada`), until ")), "{obstacles:?}");
    assert!(instead.contains(&"with `amount` 100".to_owned()), "the cap: {instead:?}");
    assert!(instead.contains(&"with the approvals that it waits for".to_owned()), "{instead:?}");
    assert!(!instead.iter().any(|c| c.contains("by agent")), "the release agent refunds nothing: {instead:?}");

    // Nobody is there who could approve.
    let alone = World::new().await.unwrap();
    let (obstacles, instead) = explained(&alone, &submit(&alone, 400, None).await).await;
    assert!(obstacles.iter().any(|o| o.contains("support-leads (nobody)")), "{obstacles:?}");
    assert_eq!(instead, ["with `amount` 100"]);

    // A budget: how much is left, and when it is free again. 1,000.00 a day.
    for _ in 0..10 {
        assert_eq!(submit(&world, 95, None).await.0.decision.decision, Outcome::Allow);
    }
    let over = submit(&world, 80, None).await;
    assert_eq!(over.0.decision.reason, Code::BudgetExceeded);
    let (obstacles, instead) = explained(&world, &over).await;
    assert!(
        obstacles.iter().any(|o| o.contains("budget `refunds` has 5000 of 100000 left and this takes 8000")),
        "{obstacles:?}"
    );
    assert!(instead.contains(&"with `amount` 50".to_owned()), "{instead:?}");
    assert!(instead.iter().any(|c| c.ends_with("when the budgets' windows have ended")), "{instead:?}");
    assert!(instead.contains(&"in `staging`".to_owned()), "{instead:?}");

    // A halt: whose, why, and who lifts it. Nothing else helps.
    world.runtime.halt(&world.owner, Some(environment("production").unwrap()), "agent loops").await.unwrap();
    let halted = submit(&world, 40, None).await;
    let (obstacles, instead) = explained(&world, &halted).await;
    assert!(
        obstacles[0].contains("thrown by `owner` because: agent loops. It can be lifted by `owner`"),
        "{obstacles:?}"
    );
    assert!(instead.iter().any(|c| c.starts_with("halt `halt-") && c.ends_with("lifted")), "{instead:?}");
    assert!(instead.contains(&"in `staging`".to_owned()), "{instead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gate_is_explained_by_what_is_missing() {
    let world = World::new().await.unwrap();
    let deny = async |text: &str| {
        let submission = Submission { intent: intent(text).unwrap(), idempotency_key: None, audience: None };
        let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
        explained(&world, &(decided.record, decided.index)).await
    };
    let of = |agent: &str, tool: &str, kind: &str| {
        format!(
            r#"{{"subject":{{"type":"agent","id":"{agent}"}},"action":{{"name":"{tool}"}},"resource":{{"type":"{kind}","id":"x"}},"environment":"production"}}"#
        )
    };
    let (why, _) = deny(&of("nobody", "orders.get_order", "order")).await;
    assert!(why[0].contains("agent `nobody` is not registered"), "{why:?}");
    let (why, instead) = deny(&of("release-agent", "orders.get_order", "order")).await;
    assert!(why.iter().any(|w| w.contains("no permit")), "{why:?}");
    assert!(instead.contains(&"by agent `support-agent`".to_owned()), "{instead:?}");
    let (why, _) = deny(&of("support-agent", "no.such_tool", "order")).await;
    assert!(why.iter().any(|w| w.contains("the catalogue has no entry for `no.such_tool`")), "{why:?}");
    let (why, _) = deny(&of("support-agent", "orders.get_order", "planet")).await;
    assert!(why.iter().any(|w| w.contains("nothing in the registry says what planet `x` is")), "{why:?}");
    let (why, instead) = deny(&of("support-agent", "crm.delete_customer", "customer")).await;
    assert!(why.iter().any(|w| w.contains("forbidden by `never.delete-customers` (support.cedar:")), "{why:?}");
    assert!(instead.is_empty(), "{instead:?}");
    // The factors by what they add, the largest first.
    let settings =
        |s: &intended_model::entry::Settings| Ok(intended_model::entry::Settings { risk_deny_at: 20, ..s.clone() });
    let production = environment("production").unwrap();
    world
        .runtime
        .set_environment(&world.owner, production.clone(), intended_model::entry::Tier::Production, settings)
        .await
        .unwrap();
    let (why, _) = deny(&of("support-agent", "orders.get_order", "order")).await;
    let risk = why.iter().find(|w| w.starts_with("risk: ")).unwrap();
    assert!(
        risk.contains("reaches the limit 20 of `production`: environment 100 of 100 with weight 15 adds 15.0"),
        "{risk}"
    );
    let held = BreakerHeld {
        breaker: Name::new("slow").unwrap(),
        by: world.owner.credential.clone(),
        environment: production,
        reason: "too slow".into(),
        scope: BreakerScope::Tool,
        target: "orders.get_order".into(),
        v: BODY_VERSION,
    };
    world.control(Event::BreakerHeld(held)).await.unwrap();
    let (why, _) = deny(&of("support-agent", "orders.get_order", "order")).await;
    assert!(why[0].contains("breaker `slow` is held on `orders.get_order` by `owner` because: too slow"), "{why:?}");
    // Every reason there is has words.
    assert!(Code::ALL.iter().all(|c| !c.title().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_made_again_on_the_state_of_another_time_or_with_another_policy() {
    let (world, app, key) = app().await;
    world.clock.advance_millis(60_000);
    let decided_at = world.clock_now();
    let (record, index) = submit(&world, 40, None).await;
    world.clock.advance_millis(60_000);
    world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    let head = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let path = format!("/v1/tenants/acme/intents/{}/replay", record.input.id);
    let replay = async |body: Value| {
        let (status, answer) = call(&app, "POST", &path, Some(&key), Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let same = replay(json!({})).await;
    assert_eq!((&same["same"], &same["at"], &same["differences"]), (&json!(true), &json!(index), &json!([])));
    let now = replay(json!({"at": head})).await;
    assert_eq!((&now["same"], &now["again"]["reason"]), (&json!(false), &json!("halt.tenant")));
    assert_eq!(now["differences"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&now["differences"][0]["gate"], &now["differences"][0]["recorded"]["outcome"]),
        (&json!("emergency"), &json!("pass"))
    );
    // By time: what had been recorded before then.
    assert_eq!(replay(json!({"at_time": decided_at})).await["same"], true);
    assert_eq!(replay(json!({"at_time": decided_at + 120_000})).await["again"]["reason"], "halt.tenant");
    // Before anything was there.
    let early = replay(json!({"at": 3})).await;
    assert_eq!(early["again"]["decision"], "deny");
    assert!(early["differences"].as_array().unwrap().len() > 2, "{early}");
    // With another policy: one that forbids it.
    let mut files = demo_pack();
    files.insert(
        "more.cedar".to_owned(),
        "@id(\"never.refund\") forbid (principal, action == Action::\"stripe.create_refund\", resource);\n".to_owned(),
    );
    let other = replay(json!({"files": files})).await;
    assert_eq!(other["again"]["reason"], "policy.forbid");
    assert_eq!(other["differences"][0]["gate"], "policy");
    let digest = record.decision.policy.as_ref().unwrap().digest.to_string();
    assert_eq!(replay(json!({"policy": digest})).await["same"], true);
    for (body, pointer) in [(json!({"at": head + 1}), "/at"), (json!({"at": 0}), "/at")] {
        let (status, problem) = call(&app, "POST", &path, Some(&key), Some(&body)).await;
        assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (400, Some(pointer)), "{problem}");
    }
    // Of what is not there nothing is said, whatever is asked of it.
    let nothing = path.replace(&record.input.id.to_string(), "0192f0c1-7b1e-7fff-bfff-ffffffffffff");
    assert_eq!(call(&app, "POST", &nothing, Some(&key), Some(&json!({"no": "member"}))).await.0, 404);
    // Who may not read policy makes no use of it.
    let narrow = json!({"credential": "reader", "environments": ["production"], "scopes": ["intent:read"]});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&narrow)).await;
    let refused = call(&app, "POST", &path, made["key"].as_str(), Some(&json!({"policy": digest}))).await;
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("credential.scope")));
    assert_eq!(call(&app, "POST", &path, made["key"].as_str(), Some(&json!({"at": index}))).await.0, 200);
    let after = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    assert_eq!(after, head + 1, "the credential alone was recorded");
    let what_if = WhatIf { at: Some(index), policy: None };
    assert!(world.runtime.replay(&world.owner, &record, index, what_if).await.unwrap().same);
}

/// An incident in which a policy was deployed, an agent looped, and somebody pulled the switch.
async fn incident(world: &World) -> Name {
    // A usual hour: one denial in a minute.
    for _ in 0..5 {
        submit(world, 5_000, None).await;
        world.clock.advance_millis(60_000);
    }
    world.clock.advance_millis(600_000);
    for _ in 0..12 {
        submit(world, 5_000, None).await;
    }
    let production = environment("production").unwrap();
    let opened =
        world.runtime.open_incident(&world.owner, Some(production.clone()), "refunds\u{1b}[31m loop").await.unwrap();
    world.clock.advance_millis(1_000);
    let (halt, _) = world.runtime.halt(&world.owner, Some(production), "loop").await.unwrap();
    // Somewhere else, and so not of it.
    world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "drill").await.unwrap();
    world.runtime.note_incident(&world.owner, opened.answer.clone(), "the gateway retries").await.unwrap();
    world.clock.advance_millis(60_000);
    world.runtime.resume(&world.owner, halt, "fixed").await.unwrap();
    opened.answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_of_an_incident_is_what_the_ledger_says() {
    let (world, app, key) = app().await;
    let incident = incident(&world).await;
    let get = async |path: &str| {
        let (status, body) = call(&app, "GET", &format!("/v1/tenants/acme/{path}"), Some(&key), None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    let kinds = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().unwrap().iter();
        items.map(|i| i["kind"].as_str().unwrap().to_owned()).filter(|k| k != "decision").collect()
    };
    let body = get(&format!("incidents/{incident}/timeline?before_secs=60")).await;
    assert_eq!(kinds(&body), ["denial.spike", "incident.opened", "halt.thrown", "incident.noted", "halt.resumed"]);
    let spike = &body["items"][0];
    assert!(
        spike.get("index").is_none() && spike["what"].as_str().unwrap().starts_with("12 denials in 1 min"),
        "{spike}"
    );
    assert_eq!(
        body["items"].as_array().unwrap().iter().filter(|i| i["kind"] == "decision").count(),
        5,
        "some of the denials"
    );
    assert_eq!((&body["spike"]["at_least"], &body["unseen"]), (&json!(10), &json!(0)));
    // A longer time before holds what set the world up.
    let long = get(&format!("incidents/{incident}/timeline?before_secs=86400")).await;
    assert!(kinds(&long).contains(&"policy.deployed".to_owned()) && kinds(&long).contains(&"key.added".to_owned()));
    assert_eq!(
        call(
            &app,
            "GET",
            &format!("/v1/tenants/acme/incidents/{incident}/timeline?before_secs=86401"),
            Some(&key),
            None
        )
        .await
        .0,
        400
    );

    let shown = get(&format!("incidents/{incident}")).await;
    assert_eq!((&shown["state"], &shown["notes"]), (&json!("open"), &json!(1)));
    let post = async |path: &str, body: Value| {
        call(&app, "POST", &format!("/v1/tenants/acme/incidents/{incident}/{path}"), Some(&key), Some(&body)).await
    };
    for summary in ["", "  "] {
        let (status, problem) = post("close", json!({"summary": summary})).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/summary")), "{problem}");
    }
    assert_eq!(post("notes", json!({"text": ""})).await.0, 400);
    assert_eq!(post("close", json!({"summary": "retries without end"})).await.0, 200);
    let shown = get(&format!("incidents/{incident}")).await;
    assert_eq!((&shown["state"], &shown["summary"]), (&json!("closed"), &json!("retries without end")));
    // It is over: nothing is added to it, and what comes later is not of it.
    assert_eq!(post("notes", json!({"text": "late"})).await.0, 404);
    let late = IncidentNoted {
        by: world.owner.credential.clone(),
        incident: incident.clone(),
        text: "late".into(),
        v: BODY_VERSION,
    };
    assert_eq!(
        world.control(Event::IncidentNoted(late)).await.unwrap_err().code,
        Code::NotFound,
        "the fold refuses it"
    );
    world.clock.advance_millis(60_000);
    world.runtime.halt(&world.owner, None, "later").await.unwrap();
    let body = get(&format!("incidents/{incident}/timeline?before_secs=60")).await;
    assert_eq!(kinds(&body).last().unwrap(), "incident.closed");

    // Who is responsible for another environment does not see it.
    let narrow =
        json!({"credential": "watcher", "environments": ["staging"], "scopes": ["emergency:read", "audit:read"]});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&narrow)).await;
    for part in ["", "/timeline", "/evidence"] {
        let path = format!("/v1/tenants/acme/incidents/{incident}{part}");
        assert_eq!(call(&app, "GET", &path, made["key"].as_str(), None).await.0, 404, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incidents_evidence_holds_until_anything_in_it_is_changed() {
    let world = World::new().await.unwrap();
    let incident = incident(&world).await;
    let case = world.runtime.incident(&world.owner, &incident).await.unwrap();
    world.runtime.close_incident(&world.owner, incident.clone(), "over").await.unwrap();
    let case = world.runtime.incident(&world.owner, &case.incident).await.unwrap();
    let text = world.runtime.incident_evidence(&world.owner, &case, 60).await.unwrap();
    let vkey = world.owner.tenant.state().vkey.to_string();
    let evidence = verify(&text, Some(&vkey)).unwrap();
    assert_eq!(
        (evidence.header.incident.as_str(), evidence.title.as_str()),
        (incident.as_str(), "refunds\u{1b}[31m loop")
    );
    assert!(evidence.closed_at.is_some() && evidence.spikes.len() == 1);
    assert_eq!(evidence.proven + 1, evidence.items.len(), "all but the spike are entries");

    let other = World::new().await.unwrap();
    // Seeded alike, its key is the same: a real other one.
    let stranger = vkey.replace("acme", "acmo");
    assert!(verify(&text, Some(&stranger)).is_err());
    drop(other);
    for (from, to) in [
        ("the gateway retries", "all is well"),
        ("\"loop\"", "\"drill\""),
        ("12 denials", "13 denials"),
        ("\"denials\":12", "\"denials\":13"),
        ("halt.thrown", "halt.resumed"),
        ("incident-", "incident-0"),
        ("\"end\":true", "\"end\":false"),
        ("\"unseen\":0", "\"unseen\":0,\"x\":1"),
        ("intended.so/incident-evidence/1", "intended.so/incident-evidence/2"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(verify(&text.replace(from, to), Some(&vkey)).is_err(), "{from} -> {to}");
    }
    // Any line left out, doubled, or moved behind the end.
    let lines: Vec<&str> = text.lines().collect();
    for n in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(n);
        assert!(verify(&less.join("\n"), Some(&vkey)).is_err(), "without line {n}: {}", lines[n]);
        let mut more = lines.clone();
        more.insert(n, lines[n]);
        assert!(verify(&more.join("\n"), Some(&vkey)).is_err(), "line {n} twice");
    }
    // Also when the trailer is made to fit.
    let trailer = lines.len() - 1;
    for n in 1..trailer {
        let mut less = lines.clone();
        less.remove(n);
        let fitting =
            lines[trailer].replace(&format!("\"lines\":{}", trailer - 1), &format!("\"lines\":{}", trailer - 2));
        assert_ne!(fitting, lines[trailer]);
        *less.last_mut().unwrap() = &fitting;
        assert!(verify(&less.join("\n"), Some(&vkey)).is_err(), "without line {n}, and the count made to fit");
    }
    // Nor an entry with its line and its proof, which nothing else would miss.
    let about = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let line = value.pointer("/item/index").or(value.pointer("/receipt/index")).cloned();
        line.and_then(|index| index.as_u64())
    };
    let entries: std::collections::BTreeSet<u64> = lines.iter().filter_map(|l| about(l)).collect();
    assert!(entries.len() > 3);
    for index in entries {
        let mut less: Vec<&str> = lines.iter().filter(|l| about(l) != Some(index)).copied().collect();
        assert_eq!(less.len(), lines.len() - 2, "entry {index} has a line and a proof");
        let fitting =
            lines[trailer].replace(&format!("\"lines\":{}", trailer - 1), &format!("\"lines\":{}", trailer - 3));
        *less.last_mut().unwrap() = &fitting;
        assert_eq!(
            verify(&format!("{}\n", less.join("\n")), Some(&vkey)).unwrap_err().to_string().split(':').next(),
            Some("the seal does not fit")
        );
    }
    // Nor is a line added, or an entry not looked at denied.
    let spike = lines.iter().find(|l| l.starts_with("{\"spike\"")).unwrap();
    assert!(verify(&text.replace(spike, &format!("{spike}\n{spike}")), Some(&vkey)).is_err());
    assert!(verify(&text.replace("\"unseen\":0", "\"unseen\":7"), Some(&vkey)).is_err());
    // The ledger itself holds with notes in it.
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, Some(&vkey)).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_has_a_word_on_every_kind_of_entry() {
    let concerned: BTreeMap<&str, bool> =
        Kind::ALL.iter().map(|k| (k.as_str(), intended_verify::timeline::concerns(*k))).collect();
    for kind in ["halt.thrown", "halt.resumed", "breaker.held", "breaker.released", "policy.deployed", "key.added"] {
        assert!(concerned[kind], "{kind}");
    }
    assert!(!concerned["decision"] && !concerned["session.started"]);
}
