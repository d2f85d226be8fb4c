//! Agents: what their registration bounds, the order they declare, and acting for somebody.

use intended_model::decision::Outcome;
use intended_model::entry::{AgentState, WorkflowStep};
use intended_model::{Code, MemberId};
use intended_runtime::access::MemberSpec;
use intended_runtime::agents::AgentSpec;
use intended_runtime::{Decided, Submission};
use intended_testkit::{World, environment, intent};
use serde_json::{Value, json};

use crate::http_edge::{app, call};
use crate::tampering::verify;

/// A world whose policy permits everything to whoever is trusted enough, with one more agent.
async fn open_world() -> World {
    let world = World::new().await.unwrap();
    let mut pack = intended_testkit::demo_pack();
    pack.insert(
        "support.cedar".into(),
        r#"@id("trusted") permit (principal, action, resource) when { principal.trust >= 50 };"#.into(),
    );
    world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), pack).await.unwrap();
    world
}

fn registered(agent: &str) -> AgentSpec {
    AgentSpec {
        agent: agent.into(),
        categories: None,
        environments: vec![environment("production").unwrap()],
        kind: None,
        owner: None,
        purpose: None,
        state: None,
        teams: None,
        tools: None,
        trust: 70,
        workflow: None,
    }
}

fn patterns(all: &[&str]) -> Vec<Box<str>> {
    all.iter().map(|p| (*p).into()).collect()
}

async fn set(world: &World, spec: AgentSpec) {
    world.runtime.set_agent(&world.owner, spec).await.unwrap();
}

/// Asks for a tool as an agent, with more members of the subject and of the intent.
async fn ask(world: &World, agent: &str, tool: &str, behalf: Option<Value>, session: Option<&str>) -> Decided {
    let mut body = json!({
        "subject": {"type": "agent", "id": agent},
        "action": {"name": tool, "properties": {"amount": 1}},
        "resource": {"type": if tool.starts_with("stripe") { "charge" } else { "order" }, "id": "1"},
        "environment": "production",
    });
    if let Some(behalf) = behalf {
        body["subject"]["properties"] = json!({"on_behalf_of": behalf});
    }
    if let Some(session) = session {
        body["session"] = json!(session);
    }
    let submission = Submission { intent: intent(&body.to_string()).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

fn reason(decided: &Decided) -> Code {
    assert_eq!(decided.token.is_some(), decided.record.decision.decision.permits());
    decided.record.decision.reason
}

fn detail(decided: &Decided) -> String {
    let gates = &decided.record.decision.gates;
    gates.iter().find(|g| g.code == decided.record.decision.reason).unwrap().detail.to_string()
}

async fn member(world: &World, id: &str, active: bool) {
    let spec = MemberSpec { active, ..MemberSpec::default() };
    world.runtime.set_member(&world.owner, MemberId::new(id).unwrap(), spec).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_uses_no_tool_and_no_category_outside_its_registration() {
    let world = open_world().await;
    set(&world, AgentSpec { tools: Some(patterns(&["orders.*"])), ..registered("reader") }).await;
    assert_eq!(reason(&ask(&world, "reader", "orders.get_order", None, None).await), Code::PolicyPermit);
    let refused = ask(&world, "reader", "stripe.create_refund", None, None).await;
    assert_eq!(reason(&refused), Code::AgentTool);
    assert!(detail(&refused).contains("stripe.create_refund"));
    // A name that only begins like one that is allowed.
    let similar = ask(&world, "reader", "ordersx.get_order", None, None).await;
    assert_eq!(reason(&similar), Code::AgentTool);
    set(&world, AgentSpec { tools: Some(Vec::new()), categories: Some(patterns(&["OIL-9*"])), ..registered("reader") })
        .await;
    assert_eq!(reason(&ask(&world, "reader", "orders.get_order", None, None).await), Code::PolicyPermit);
    assert_eq!(reason(&ask(&world, "reader", "stripe.create_refund", None, None).await), Code::AgentCategory);
    // What is left out stays.
    set(&world, registered("reader")).await;
    assert_eq!(reason(&ask(&world, "reader", "stripe.create_refund", None, None).await), Code::AgentCategory);
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_declares_as_its_order_is_the_order() {
    let world = open_world().await;
    let step = |action: &str, after: &[&str], not_after: &[&str]| WorkflowStep {
        action: action.into(),
        after: patterns(after),
        not_after: patterns(not_after),
    };
    let workflow =
        vec![step("orders.get_order", &[], &["stripe.*"]), step("stripe.create_refund", &["orders.*", "crm.*"], &[])];
    set(&world, AgentSpec { workflow: Some(workflow), ..registered("clerk") }).await;
    let go = async |tool, session| reason(&ask(&world, "clerk", tool, None, session).await);
    assert_eq!(go("orders.get_order", None).await, Code::WorkflowSession, "the order is that of a session");
    assert_eq!(go("stripe.create_refund", Some("s")).await, Code::WorkflowOrder, "nothing was read before");
    assert_eq!(go("orders.cancel_order", Some("s")).await, Code::WorkflowOrder, "it is no step");
    assert_eq!(go("orders.get_order", Some("s")).await, Code::PolicyPermit);
    assert_eq!(go("stripe.create_refund", Some("t")).await, Code::WorkflowOrder, "another session did the reading");
    assert_eq!(go("stripe.create_refund", Some("s")).await, Code::PolicyPermit);
    assert_eq!(go("orders.get_order", Some("s")).await, Code::WorkflowOrder, "it does not come after a refund");
    let why = detail(&ask(&world, "clerk", "orders.get_order", None, Some("s")).await);
    assert!(why.contains("does not come after stripe.*"), "{why}");
    // What was refused does not count as done.
    let again = ask(&world, "clerk", "stripe.create_refund", None, Some("u")).await;
    assert_eq!(reason(&again), Code::WorkflowOrder);
    assert_eq!(go("stripe.create_refund", Some("u")).await, Code::WorkflowOrder);
    // A session of which not everything is known proves no order.
    let mut record = ask(&world, "clerk", "orders.get_order", None, Some("v")).await.record;
    assert_eq!(record.decision.decision, Outcome::Allow);
    record.input.session.as_mut().unwrap().overflow = true;
    let again = intended_engine::decide(&world.owner.tenant.state(), &record.input);
    assert_eq!((again.decision, again.reason), (Outcome::Deny, Code::SessionOverflow));
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_whom_is_in_the_decision_and_nested_in_the_token() {
    let world = open_world().await;
    set(&world, registered("planner")).await;
    set(&world, registered("worker")).await;
    member(&world, "ann", true).await;
    let person = json!({"type": "member", "id": "ann"});
    let decided = ask(&world, "worker", "orders.get_order", Some(person.clone()), None).await;
    assert_eq!(reason(&decided), Code::PolicyPermit);
    assert_eq!(claims(&decided)["act"], json!({"sub": "ann"}));
    let chain = json!({"type": "agent", "id": "planner", "on_behalf_of": person});
    let decided = ask(&world, "worker", "orders.get_order", Some(chain), None).await;
    assert_eq!(reason(&decided), Code::PolicyPermit);
    let claims = claims(&decided);
    assert_eq!(claims["sub"], json!("worker"));
    assert_eq!(claims["act"], json!({"sub": "planner", "act": {"sub": "ann"}}));
    let named: Vec<_> = intended_engine::delegation(&decided.record.input.intent)
        .into_iter()
        .map(|v| v.get("id").and_then(intended_model::Value::as_str).unwrap().to_owned())
        .collect();
    assert_eq!(named, ["planner", "ann"], "as recorded");
    verify(world.export().await.unwrap()).unwrap();
}

fn claims(decided: &Decided) -> Value {
    let token = decided.token.as_ref().unwrap().as_str();
    let payload = intended_token::from_base64url(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_one_in_the_chain_narrows() {
    let world = open_world().await;
    set(&world, registered("worker")).await;
    set(&world, registered("middle")).await;
    let staging = vec![environment("staging").unwrap()];
    let bounded = [
        ("tools", AgentSpec { tools: Some(patterns(&["stripe.*"])), ..registered("last") }, Code::DelegationWidens),
        (
            "category",
            AgentSpec { categories: Some(patterns(&["OIL-5*"])), ..registered("last") },
            Code::DelegationWidens,
        ),
        ("environment", AgentSpec { environments: staging, ..registered("last") }, Code::DelegationWidens),
        ("paused", AgentSpec { state: Some(AgentState::Paused), ..registered("last") }, Code::DelegationWidens),
        ("kind", AgentSpec { kind: Some("service".into()), ..registered("last") }, Code::DelegationWidens),
        ("trust", AgentSpec { trust: 49, ..registered("last") }, Code::PolicyNoPermit),
    ];
    let plain = AgentSpec {
        tools: Some(Vec::new()),
        categories: Some(Vec::new()),
        kind: Some("agent".into()),
        state: Some(AgentState::Active),
        ..registered("last")
    };
    for (what, spec, code) in bounded {
        for chain in [
            json!({"type": "agent", "id": "last"}),
            json!({"type": "agent", "id": "middle", "on_behalf_of": {"type": "agent", "id": "last"}}),
        ] {
            set(&world, plain.clone()).await;
            let before = ask(&world, "worker", "orders.get_order", Some(chain.clone()), None).await;
            assert_eq!(reason(&before), Code::PolicyPermit, "{what}");
            set(&world, spec.clone()).await;
            let after = ask(&world, "worker", "orders.get_order", Some(chain), None).await;
            assert_eq!(reason(&after), code, "{what}");
        }
    }
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_no_chain_is_refused() {
    let world = open_world().await;
    for n in 0..7 {
        set(&world, registered(&format!("a{n}"))).await;
    }
    member(&world, "ann", true).await;
    member(&world, "gone", false).await;
    let agent = |id: &str, next: Option<Value>| match next {
        Some(next) => json!({"type": "agent", "id": id, "on_behalf_of": next}),
        None => json!({"type": "agent", "id": id}),
    };
    let long = |n: usize| (1..=n).rev().fold(None, |next, n| Some(agent(&format!("a{n}"), next)));
    let ask = async |chain: Value| ask(&world, "a0", "orders.get_order", Some(chain), None).await;
    assert_eq!(reason(&ask(long(5).unwrap()).await), Code::PolicyPermit);
    for (chain, why) in [
        (long(6).unwrap(), "more than 5"),
        (agent("a0", None), "stands in it twice"),
        (agent("a1", Some(agent("a2", Some(agent("a1", None))))), "stands in it twice"),
        (agent("a1", Some(agent("a0", None))), "stands in it twice"),
        (json!({"type": "member", "id": "ann", "on_behalf_of": {"type": "agent", "id": "a1"}}), "acts for nobody"),
        (agent("nobody", None), "not an active agent"),
        (agent("a1", Some(json!({"type": "member", "id": "nobody"}))), "not an active member"),
        (json!({"type": "member", "id": "gone"}), "not an active member"),
        (json!({"id": "a1"}), "names a `type`"),
        (json!("a1"), "names a `type`"),
        (json!([agent("a1", None)]), "names a `type`"),
    ] {
        let refused = ask(chain.clone()).await;
        assert_eq!(reason(&refused), Code::DelegationWidens, "{chain}");
        assert!(detail(&refused).contains(why), "{}", detail(&refused));
    }
    verify(world.export().await.unwrap()).unwrap();
}

/// The attack: an agent that may not refund has one that may do it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_not_laundered_through_another_agent() {
    let world = open_world().await;
    set(&world, AgentSpec { tools: Some(patterns(&["stripe.*"])), ..registered("payer") }).await;
    set(&world, AgentSpec { tools: Some(patterns(&["orders.*"])), ..registered("asker") }).await;
    set(&world, registered("broker")).await;
    assert_eq!(reason(&ask(&world, "payer", "stripe.create_refund", None, None).await), Code::PolicyPermit);
    let asker = json!({"type": "agent", "id": "asker"});
    for (agent, behalf) in [
        ("payer", asker.clone()),
        ("payer", json!({"type": "agent", "id": "broker", "on_behalf_of": asker})),
        ("broker", asker),
    ] {
        let refused = ask(&world, agent, "stripe.create_refund", Some(behalf), None).await;
        assert_eq!(reason(&refused), Code::DelegationWidens);
        assert!(detail(&refused).contains("`asker` may not do this itself"), "{}", detail(&refused));
    }
    // Nor the other way round: who acts for one that may gets nothing by it.
    let payer = json!({"type": "agent", "id": "payer"});
    assert_eq!(reason(&ask(&world, "asker", "stripe.create_refund", Some(payer), None).await), Code::AgentTool);
    verify(world.export().await.unwrap()).unwrap();
}

const AGENTS: &str = "/v1/tenants/acme/agents";

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_read_back_and_a_wrong_one_named_by_pointer() {
    let (world, app, key) = app().await;
    let key = Some(key.as_str());
    member(&world, "ann", true).await;
    let body = json!({
        "environments": ["production"], "trust": 60, "owner": "ann", "purpose": "answers questions",
        "tools": ["orders.*"], "categories": ["OIL-9*"], "teams": ["support"],
        "workflow": [{"action": "orders.get_order", "not_after": ["stripe.*"]}],
    });
    let path = format!("{AGENTS}/helper");
    assert_eq!(call(&app, "PUT", &path, key, Some(&body)).await.0, 200);
    let (status, read) = call(&app, "GET", &path, key, None).await;
    assert_eq!(status, 200);
    for member in ["environments", "trust", "owner", "purpose", "tools", "categories", "teams", "workflow"] {
        assert_eq!(read[member], body[member], "{member}");
    }
    assert_eq!((&read["owner_kind"], &read["state"]), (&json!("member"), &json!("active")));
    assert!(read.get("last_used").is_none(), "it has asked for nothing: {read}");
    let (_, list) = call(&app, "GET", AGENTS, key, None).await;
    let row = list.as_array().unwrap().iter().find(|a| a["agent"] == "helper").unwrap();
    assert_eq!(*row, read);
    let other = list.as_array().unwrap().iter().find(|a| a["agent"] == "support-agent").unwrap();
    assert_eq!((&other["owner"], &other["owner_kind"]), (&json!("platform"), &json!("text")));
    let many: Vec<String> = (0..65).map(|n| format!("t.{n}")).collect();
    for (member, value, pointer) in [
        ("tools", json!(many), "/tools"),
        ("tools", json!(["orders.*", "a*b"]), "/tools/1"),
        ("categories", json!([""]), "/categories/0"),
        ("purpose", json!("p".repeat(501)), "/purpose"),
        ("workflow", json!([{"action": "x y"}]), "/workflow/0/action"),
        ("workflow", json!([{"action": "x", "after": ["ok", "é"]}]), "/workflow/0/after/1"),
        ("owner", json!("a\u{200b}b"), "/owner"),
    ] {
        let mut wrong = body.clone();
        wrong[member] = value;
        let (status, problem) = call(&app, "PUT", &path, key, Some(&wrong)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("agent.invalid")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], json!(pointer), "{problem}");
    }
    let mut unknown = body.clone();
    unknown["tool"] = json!([]);
    assert_eq!(call(&app, "PUT", &path, key, Some(&unknown)).await.1["code"], json!("request.unknown_field"));
    // Nothing of the refused was taken.
    assert_eq!(call(&app, "GET", &path, key, None).await.1, read);
    assert_eq!(call(&app, "GET", &format!("{AGENTS}/nobody"), key, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_comes_back_and_a_retired_one_does_not() {
    let (world, app, key) = app().await;
    let key = Some(key.as_str());
    let path = format!("{AGENTS}/support-agent");
    let to = |state: &str| json!({"environments": ["production", "staging"], "trust": 70, "state": state});
    let go = async || reason(&ask(&world, "support-agent", "orders.get_order", None, None).await);
    assert_eq!(go().await, Code::PolicyPermit);
    for (state, status, code) in [
        ("paused", 200, Code::AgentInactive),
        ("active", 200, Code::PolicyPermit),
        ("retired", 200, Code::AgentInactive),
        ("active", 409, Code::AgentInactive),
        ("paused", 409, Code::AgentInactive),
        ("retired", 200, Code::AgentInactive),
    ] {
        let (got, answer) = call(&app, "PUT", &path, key, Some(&to(state))).await;
        assert_eq!(got, status, "{state}: {answer}");
        assert!(status == 200 || answer["code"] == "agent.retired", "{answer}");
        assert_eq!(go().await, code, "{state}");
    }
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_agent_last_asked_is_known_also_after_a_restart() {
    let world = open_world().await;
    let used = |world: &World, agent: &str| world.runtime.agent_last_used(&world.owner.tenant, agent).unwrap();
    assert_eq!(used(&world, "support-agent"), None);
    world.clock.advance_millis(1000);
    let at = ask(&world, "support-agent", "orders.get_order", None, None).await.record.input.at;
    ask(&world, "nobody", "orders.get_order", None, None).await;
    assert_eq!(used(&world, "support-agent"), Some(at));
    let world = world.reopen().await.unwrap();
    assert_eq!(used(&world, "support-agent"), Some(at));
    assert_eq!(used(&world, "nobody"), None, "names that nobody registered are anybody's");
    // What is kept is never older than what this process knows.
    world.clock.advance_millis(120_000);
    let later = ask(&world, "support-agent", "orders.get_order", None, None).await.record.input.at;
    world.runtime.save_activity().await.unwrap();
    assert_eq!(used(&world, "support-agent"), Some(later));
    verify(world.export().await.unwrap()).unwrap();
}
