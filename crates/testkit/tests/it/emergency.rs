//! Halts of every scope, what they kill, who lifts them; revocation in bulk; break-glass; drills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use intended_ledger::Leaf;
use intended_model::decision::Outcome;
use intended_model::emergency::{DrillKind, HaltScope, HaltTarget, TokenSelector};
use intended_model::entry::{Role, RoleGrant, Scope, Settings, Tier};
use intended_model::{Code, CredentialId, Digest, EnvironmentId, Intent, MemberId, Name, Timestamp};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::drills::DrillReport;
use intended_runtime::emergency::{GlassFile, Resumed};
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Principal, RuntimeError, Submission};
use intended_testkit::{NOON, World, demo_pack, environment, intent, refund};
use intended_token::verify::Known;
use intended_token::{Binding, Expectations, KeySet, Refusal, RevocationList, Verifier};
use intended_verify::Check;
use serde_json::{Value, json};

use crate::http_edge::{INTENTS, app, call};
use crate::tampering::{Forge, verify};

fn on(kind: &str, text: &str) -> Option<HaltTarget> {
    HaltTarget::of(kind, text)
}
fn within(e: Option<&str>, on: Option<HaltTarget>) -> HaltScope {
    HaltScope { environment: e.map(|e| environment(e).unwrap()), on }
}

/// An order looked up by the support agent.
fn lookup(e: &str) -> Intent {
    intent(&format!(
        r#"{{"subject":{{"type":"agent","id":"support-agent"}},"action":{{"name":"orders.get_order"}},"resource":{{"type":"order","id":"1"}},"environment":"{e}"}}"#
    ))
    .unwrap()
}

async fn submit_as(world: &World, by: &Principal, intent: Intent, key: Option<&str>) -> Result<Decided, RuntimeError> {
    let submission = Submission { intent, idempotency_key: key.map(Into::into), audience: None };
    world.runtime.submit(by, submission).await
}
async fn submit(world: &World, intent: Intent) -> Decided {
    submit_as(world, &world.owner, intent, None).await.unwrap()
}

async fn online(world: &World, decided: &Decided, consume: bool) -> Result<(), Refusal> {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    let e = &decided.record.input.intent.environment;
    match world.runtime.verify_token(&world.owner, token, "intended", e, &binding, consume).await.unwrap() {
        Verification::Accepted(_) => Ok(()),
        Verification::Refused(refusal) => Err(refusal),
    }
}

/// What a verifier says that has the keys, and the list of revocations as of now.
async fn offline(world: &World, decided: &Decided) -> Result<(Known, Known), Refusal> {
    let e = &decided.record.input.intent.environment;
    let text = world.runtime.revocation_list(&world.owner, e).await.unwrap().text;
    with_list(world, decided, &text, 60, world.runtime.now())
}
fn with_list(
    world: &World,
    decided: &Decided,
    list: &str,
    at_most: i64,
    now: Timestamp,
) -> Result<(Known, Known), Refusal> {
    let e = &decided.record.input.intent.environment;
    let keys =
        KeySet::from_jwks(&intended_runtime::Runtime::key_set(&world.owner.tenant.state(), Some(e)).unwrap()).unwrap();
    let list = RevocationList::open(list, "http://intended.test", &keys)?.not_older_than(at_most);
    let verifier = Verifier {
        keys: &keys,
        expect: Expectations {
            issuer: "http://intended.test".into(),
            audience: "intended".into(),
            tenant: "acme".into(),
            environment: e.to_string(),
        },
        revocations: Some(&list),
    };
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    verifier.verify(decided.token.as_ref().unwrap().as_str(), &binding, now).map(|a| (a.revocations, a.halts))
}

/// Every path that looks at a token refuses it with this.
async fn dead(world: &World, decided: &Decided, with: Refusal) {
    assert_eq!(online(world, decided, false).await, Err(with));
    assert_eq!(online(world, decided, true).await, Err(with));
    assert_eq!(offline(world, decided).await, Err(with));
}

async fn holds(world: &World) -> intended_verify::Report {
    verify(world.export().await.unwrap()).unwrap()
}

async fn person(world: &World, id: &str) -> Principal {
    let member = MemberId::new(id).unwrap();
    let owner = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true };
    let spec = MemberSpec { active: true, grants: vec![owner], ..MemberSpec::default() };
    world.runtime.set_member(&world.owner, member.clone(), spec).await.unwrap();
    key(world, &format!("{id}-key"), Some(member), Scope::ALL, &[]).await
}

async fn key(
    world: &World,
    name: &str,
    member: Option<MemberId>,
    scopes: &[Scope],
    environments: &[&str],
) -> Principal {
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new(name).unwrap(),
        environments: environments.iter().map(|e| environment(e).unwrap()).collect(),
        scopes: scopes.to_vec(),
        expires_at: None,
        live: true,
        member,
        whole: environments.is_empty(),
    };
    let made = world.runtime.create_credential(&world.owner, spec).await.unwrap();
    world.runtime.authenticate(&made.key).unwrap()
}

async fn people(world: &World, needed: Option<u32>) {
    let settings = |now: &Settings| {
        let mut settings = now.clone();
        settings.emergency.resume_people = needed;
        Ok(settings)
    };
    let production = environment("production").unwrap();
    world.runtime.set_environment(&world.owner, production, Tier::Production, settings).await.unwrap();
}

/// Each scope that covers a lookup in production, one that does not, and the reason that is given.
fn scopes() -> Vec<(HaltScope, HaltScope, Code)> {
    let p = Some("production");
    vec![
        (within(None, None), within(Some("staging"), None), Code::HaltTenant),
        (within(p, None), within(Some("staging"), None), Code::HaltEnvironment),
        (within(p, on("agent", "support-agent")), within(p, on("agent", "support")), Code::HaltAgent),
        (within(None, on("agent", "support-agent")), within(None, on("agent", "release-agent")), Code::HaltAgent),
        (within(p, on("connector", "orders")), within(p, on("connector", "order")), Code::HaltConnector),
        (within(p, on("tool", "orders.get_order")), within(p, on("tool", "orders.get")), Code::HaltTool),
        (within(p, on("tool", "orders.*")), within(Some("staging"), on("tool", "orders.*")), Code::HaltTool),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_of_each_scope_stops_what_it_covers_kills_its_tokens_for_good_and_nothing_else() {
    let world = World::new().await.unwrap();
    let category = submit(&world, lookup("production")).await.record.input.classification.category.unwrap();
    let number: u32 = category.strip_prefix("OIL-").unwrap().parse().unwrap();
    let domain = format!("OIL-{}", number / 100 * 100);
    let p = Some("production");
    let mut all = scopes();
    for pattern in [&*category, &domain, "OIL-*"] {
        all.push((within(p, on("category", pattern)), within(p, on("category", "OIL-9999")), Code::HaltCategory));
    }
    for (n, (covering, other, code)) in all.into_iter().enumerate() {
        let again = format!("key-{n}");
        let before = submit_as(&world, &world.owner, lookup("production"), Some(&again)).await.unwrap();
        let elsewhere = world.runtime.throw(&world.owner, other.clone(), "elsewhere").await.unwrap();
        assert_eq!(online(&world, &before, false).await, Ok(()), "{other} covers nothing here");
        assert!(submit(&world, lookup("production")).await.token.is_some(), "{other}");
        let thrown = world.runtime.throw(&world.owner, covering.clone(), "stop").await.unwrap();
        assert!(thrown.refused.is_some(), "{covering}");
        let under = submit(&world, lookup("production")).await;
        assert_eq!((under.record.decision.decision, under.record.decision.reason), (Outcome::Deny, code), "{covering}");
        let refused = submit_as(&world, &world.owner, lookup("production"), Some(&again)).await.unwrap_err();
        assert_eq!(refused.code, code);
        dead(&world, &before, Refusal::Halted).await;
        world.runtime.resume(&world.owner, thrown.halt, "go on").await.unwrap();
        // It stays dead: what it was granted for was thought through before the halt.
        dead(&world, &before, Refusal::Halted).await;
        let replayed = submit_as(&world, &world.owner, lookup("production"), Some(&again)).await.unwrap();
        assert!(replayed.replayed && replayed.token.is_none());
        let after = submit(&world, lookup("production")).await;
        assert_eq!(online(&world, &after, true).await, Ok(()), "{covering}");
        assert!(offline(&world, &after).await.is_ok(), "{covering}");
        world.runtime.resume(&world.owner, elsewhere.halt, "go on").await.unwrap();
        world.clock.advance_millis(1_000);
    }
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_apart_is_covered() {
    let world = World::new().await.unwrap();
    let unknown = |tool: &str| {
        let mut intent = lookup("production");
        intent.action.name = tool.into();
        intent
    };
    let reason = async |tool| submit(&world, unknown(tool)).await.record.decision.reason;
    assert_eq!(reason("alone").await, Code::ToolUnknown);
    let p = Some("production");
    for (scope, code) in [
        (within(p, on("category", "OIL-104")), Code::HaltCategory),
        (within(p, on("connector", "github")), Code::HaltConnector),
    ] {
        let (halt, _) = {
            let thrown = world.runtime.throw(&world.owner, scope, "stop").await.unwrap();
            (thrown.halt, thrown.index)
        };
        assert_eq!(reason("alone").await, code);
        world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
    }
    // Whoever acts for a halted agent is halted as well.
    let behalf = r#"{"subject":{"type":"agent","id":"support-agent","properties":{"on_behalf_of":{"type":"agent","id":"release-agent"}}},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"1"},"environment":"production"}"#;
    let scope = within(p, on("agent", "release-agent"));
    world.runtime.throw(&world.owner, scope, "stop").await.unwrap();
    assert_eq!(submit(&world, intent(behalf).unwrap()).await.record.decision.reason, Code::HaltAgent);
    assert!(submit(&world, lookup("production")).await.token.is_some());
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_that_could_cover_nothing_is_refused() {
    let world = World::new().await.unwrap();
    for (kind, text) in [("agent", "support-*"), ("connector", "github.create"), ("tool", "a*b"), ("category", "")] {
        let error = world.runtime.throw(&world.owner, within(None, on(kind, text)), "x").await.unwrap_err();
        assert_eq!(error.code, Code::HaltInvalid, "{kind}={text}");
    }
    let nowhere = within(Some("nowhere"), None);
    assert_eq!(world.runtime.throw(&world.owner, nowhere, "x").await.unwrap_err().code, Code::EnvironmentForbidden);
}

/// What a ledger proves of halts, by a reader of its own: JSON, in order.
fn proof(leaves: &[Vec<u8>]) -> (usize, usize) {
    struct Halt {
        index: u64,
        environment: Option<String>,
        on: Option<(String, String)>,
    }
    let covers = |halt: &Halt, about: &Value| {
        let tool = about["tool"].as_str().unwrap();
        halt.environment.as_deref().is_none_or(|e| e == about["environment"])
            && halt.on.as_ref().is_none_or(|(kind, text)| {
                let fits = |value: &str| text.strip_suffix('*').map_or(text == value, |p| value.starts_with(p));
                match kind.as_str() {
                    "agent" => text == about["agent"].as_str().unwrap(),
                    "connector" => Some(&**text) == tool.split('.').next(),
                    "tool" => fits(tool),
                    _ => fits(about["category"].as_str().unwrap()),
                }
            })
    };
    let (mut ever, mut force, mut granted) =
        (Vec::<Halt>::new(), std::collections::HashMap::new(), std::collections::HashMap::new());
    let (mut allowed, mut consumed) = (0, 0);
    for leaf in leaves {
        let leaf = Leaf::parse(leaf).unwrap();
        let body: Value = serde_json::from_str(leaf.body).unwrap();
        let text = |v: &Value| v.as_str().map(str::to_owned);
        match leaf.kind {
            "halt.thrown" => {
                let on = body["on"].as_object().map(|o| {
                    let (kind, text) = o.iter().next().unwrap();
                    (kind.clone(), text.as_str().unwrap().to_owned())
                });
                force.insert(text(&body["halt"]).unwrap(), ever.len());
                ever.push(Halt { index: leaf.index, environment: text(&body["environment"]), on });
            }
            "halt.resumed" => drop(force.remove(body["halt"].as_str().unwrap()).unwrap()),
            "decision" if body["decision"]["decision"] == "allow" => {
                let intent = &body["input"]["intent"];
                let about = json!({
                    "environment": intent["environment"], "agent": intent["subject"]["id"],
                    "tool": intent["action"]["name"], "category": body["input"]["classification"]["category"],
                });
                let under = force.values().find(|n| covers(&ever[**n], &about));
                assert!(under.is_none(), "entry {} allows under a halt", leaf.index);
                granted.insert(text(&body["grant"]["jti"]).unwrap(), (leaf.index, about));
                allowed += 1;
            }
            "token.consumed" => {
                let (at, about) = &granted[body["jti"].as_str().unwrap()];
                let killed = ever.iter().any(|h| h.index > *at && covers(h, about));
                let under = force.values().any(|n| covers(&ever[*n], about));
                assert!(!killed && !under, "entry {} uses what a halt killed", leaf.index);
                consumed += 1;
            }
            _ => {}
        }
    }
    (allowed, consumed)
}

/// 32 clients submit and use tokens, over HTTP and in process, while halts of every scope are thrown
/// and lifted: what was committed proves that nothing covered followed any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i2_no_covered_allow_and_no_covered_use_follows_a_halt_of_any_scope_under_full_load() {
    let (world, app, owner_key) = app().await;
    let world = Arc::new(world);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for n in 0..32_usize {
        let (world, app, key, stop, done) =
            (Arc::clone(&world), app.clone(), owner_key.clone(), Arc::clone(&stop), Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            let (mut allowed, mut used) = (0_usize, 0_usize);
            let e = ["production", "staging"][n % 2];
            while !stop.load(Ordering::Relaxed) {
                let wanted = if n % 4 < 2 { lookup(e) } else { refund_in(e) };
                done.fetch_add(1, Ordering::Relaxed);
                if n % 8 < 4 {
                    let Ok(decided) = submit_as(&world, &world.owner, wanted, None).await else { continue };
                    if decided.token.is_some() {
                        allowed += 1;
                        used += usize::from(n % 3 == 0 && online(&world, &decided, true).await.is_ok());
                    }
                } else {
                    let body = serde_json::to_value(&wanted).unwrap();
                    let (_, decided) = call(&app, "POST", INTENTS, Some(&key), Some(&body)).await;
                    if let Some(token) = decided["token"].as_str() {
                        allowed += 1;
                        let body = json!({"token": token, "environment": e, "intent_hash": decided["intent_hash"], "consume": true});
                        let path = "/v1/tenants/acme/tokens/verify";
                        let (_, verdict) = call(&app, "POST", path, Some(&key), Some(&body)).await;
                        used += usize::from(verdict["active"] == true);
                    }
                }
            }
            (allowed, used)
        }));
    }
    let category = submit(&world, lookup("production")).await.record.input.classification.category.unwrap();
    let mut all: Vec<HaltScope> = scopes().into_iter().map(|(covering, _, _)| covering).collect();
    all.push(within(Some("production"), on("category", &category)));
    all.push(within(None, on("tool", "stripe.*")));
    let mut thrown_in_all = 0;
    for _ in 0..4 {
        for scope in &all {
            // Each client does something between two halts.
            let before = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < before + 64 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let thrown = world.runtime.throw(&world.owner, scope.clone(), "load").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            world.runtime.resume(&world.owner, thrown.halt, "load").await.unwrap();
            thrown_in_all += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (mut allowed, mut used) = (1, 0);
    for client in clients {
        let (a, u) = client.await.unwrap();
        (allowed, used) = (allowed + a, used + u);
    }
    let (header, leaves) = world.export().await.unwrap();
    let (in_ledger, consumed) = proof(&leaves);
    assert!(thrown_in_all == 36 && allowed > 200 && used > 50, "{thrown_in_all} {allowed} {used}");
    // An allow that a halt overtook is in the ledger and was handed out to nobody.
    assert!(in_ledger >= allowed && consumed == used, "{in_ledger} {allowed} {consumed} {used}");
    verify((header, leaves)).unwrap();
}

fn refund_in(e: &str) -> Intent {
    let mut intent = refund(1, None).unwrap();
    intent.action.properties = intended_model::json::parse(br#"{"amount":0.01}"#).unwrap();
    intent.environment = environment(e).unwrap();
    intent
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_a_halt_is_lifted_by_two_people_who_are_two() {
    let world = World::new().await.unwrap();
    people(&world, None).await;
    let (ana, ben) = (person(&world, "ana").await, person(&world, "ben").await);
    let anas_other = key(&world, "ana-2", Some(MemberId::new("ana").unwrap()), Scope::ALL, &[]).await;
    let robot = key(&world, "robot", None, Scope::ALL, &[]).await;
    let (halt, _) = world.runtime.halt(&robot, Some(environment("production").unwrap()), "stop").await.unwrap();
    let code = |r: Result<Resumed, RuntimeError>| r.map_or_else(|e| e.code, |_| Code::GatePass);
    let resume = async |by: &Principal| world.runtime.resume(by, halt.clone(), "fixed").await;
    assert_eq!(code(resume(&robot).await), Code::ResumePeople, "a service is nobody");
    let asked = resume(&ana).await.unwrap();
    assert!(matches!(asked, Resumed::Waiting { .. }), "{asked:?}");
    for same in [&ana, &anas_other, &robot] {
        assert_eq!(code(resume(same).await), Code::ResumePeople, "{}", same.credential);
    }
    assert_eq!(submit(&world, lookup("production")).await.record.decision.reason, Code::HaltEnvironment);
    // After an hour her word is none; another's begins it anew.
    world.clock.advance_millis(3_600_000);
    assert!(matches!(resume(&ben).await.unwrap(), Resumed::Waiting { .. }));
    assert!(matches!(resume(&ana).await.unwrap(), Resumed::Lifted { .. }));
    assert!(submit(&world, lookup("production")).await.token.is_some());
    // What lifting takes was written when it was thrown.
    let (halt, _) = world.runtime.halt(&ana, None, "stop").await.unwrap();
    people(&world, Some(1)).await;
    let asked = world.runtime.resume(&ana, halt.clone(), "fixed").await.unwrap();
    assert!(matches!(asked, Resumed::Waiting { .. }));
    assert!(matches!(world.runtime.resume(&ben, halt, "fixed").await.unwrap(), Resumed::Lifted { .. }));
    let (halt, _) = world.runtime.halt(&ana, None, "stop").await.unwrap();
    assert!(matches!(world.runtime.resume(&ana, halt, "fixed").await.unwrap(), Resumed::Lifted { .. }));
    // Staging takes one.
    let (halt, _) = world.runtime.halt(&robot, Some(environment("staging").unwrap()), "stop").await.unwrap();
    assert!(matches!(world.runtime.resume(&robot, halt, "fixed").await.unwrap(), Resumed::Lifted { .. }));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_their_say_meanwhile_does_not_count_towards_lifting_a_halt() {
    let world = World::new().await.unwrap();
    people(&world, None).await;
    let (ana, ben) = (person(&world, "ana").await, person(&world, "ben").await);
    let (halt, _) = world.runtime.halt(&ana, Some(environment("production").unwrap()), "stop").await.unwrap();
    let resume = async |by: &Principal| world.runtime.resume(by, halt.clone(), "fixed").await.unwrap();
    assert!(matches!(resume(&ana).await, Resumed::Waiting { .. }));
    world.runtime.revoke_credential(&world.owner, ana.credential.clone(), "stolen").await.unwrap();
    // It was stolen, say. The next to ask is the first again.
    assert!(matches!(resume(&ben).await, Resumed::Waiting { .. }));
    assert_eq!(submit(&world, lookup("production")).await.record.decision.reason, Code::HaltEnvironment);
    let anew = key(&world, "ana-anew", Some(MemberId::new("ana").unwrap()), Scope::ALL, &[]).await;
    assert!(matches!(resume(&anew).await, Resumed::Lifted { .. }));
    // The verifier holds it too: the second word put before the first one's key was taken away, or after.
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let last = forge.0.len() - 1;
    forge.0.remove(last - 1);
    verify(Forge(forge.0.clone()).rebuild()).unwrap_err();
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let (revoked, lifted) = (forge.position("credential.revoked", 0), forge.position("halt.resumed", 0));
    let mut late = forge.0[lifted].clone();
    late.0 = forge.0[revoked].0;
    forge.0.truncate(revoked + 1);
    forge.0.push(late);
    forge.edit(revoked + 1, |b| b["by"] = json!("ben-key"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!(failure.index, Some(revoked as u64 + 1), "{failure}");
    assert!(failure.to_string().contains("had no say in it any more"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_that_was_lifted_is_not_said_to_be_in_force_under_its_old_key() {
    let (world, app, key) = app().await;
    let world = &world;
    let halt = async || {
        let body = json!({"environment": "staging", "reason": "stop"});
        let request = http::Request::post("/v1/tenants/acme/emergency/halts")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "incident-7");
        let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
        let answer = tower::ServiceExt::oneshot(app.clone(), request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let (status, thrown) = halt().await;
    assert_eq!(status, 201, "{thrown}");
    assert_eq!(halt().await, (201, thrown.clone()), "the same halt, and it is in force");
    let name = Name::new(thrown["halt"].as_str().unwrap()).unwrap();
    assert!(matches!(world.runtime.resume(&world.owner, name, "fixed").await.unwrap(), Resumed::Lifted { .. }));
    let (status, refused) = halt().await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().starts_with("NOT HALTED"), "{refused}");
    assert!(submit(world, lookup("staging")).await.token.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_people_lift_a_halt_is_the_whole_tenants_to_say() {
    let world = World::new().await.unwrap();
    let local = key(&world, "local", None, Scope::ALL, &["production"]).await;
    let settings = |now: &Settings| {
        let mut settings = now.clone();
        settings.emergency.resume_people = Some(2);
        Ok(settings)
    };
    let production = environment("production").unwrap();
    let set = world.runtime.set_environment(&local, production, Tier::Production, settings).await;
    assert_eq!(set.unwrap_err().code, Code::EnvironmentForbidden);
    people(&world, Some(2)).await;
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let last = forge.0.len() - 1;
    forge.edit(last, |b| b["by"] = json!("local"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(last as u64)), "{failure}");
}

async fn glass(world: &World, scope: HaltScope, days: i64) -> GlassFile {
    let until = world.runtime.now().plus_secs(days * 86_400);
    world.runtime.prepare_glass(&world.owner, scope, until).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_glass_credential_throws_its_halt_once_and_does_nothing_else() {
    let (world, app, key) = app().await;
    let scope = within(Some("production"), on("agent", "support-agent"));
    let file = glass(&world, scope.clone(), 90).await;
    let vkey = world.owner.tenant.state().vkey.to_string();
    // Whoever finds it can check what it is, offline; and nobody can make it say something else.
    let terms = file.open(&vkey).unwrap();
    assert_eq!((&terms.scope, terms.tenant.as_str()), (&scope, "acme"));
    for (what, note, secret) in [
        ("other terms", file.note.replace("support-agent", "release-agent"), file.key.clone()),
        ("another key", file.note.clone(), key.clone()),
    ] {
        let forged = GlassFile { key: secret, note, vkey: vkey.clone() };
        assert!(forged.open(&vkey).is_err(), "{what}");
    }
    let post = async |path: &str, body: Value| {
        let path = format!("/v1/tenants/acme/{path}");
        call(&app, "POST", &path, Some(&file.key), Some(&body)).await
    };
    let get = async |path: &str| call(&app, "GET", &format!("/v1/tenants/acme/{path}"), Some(&file.key), None).await;
    for path in
        ["emergency", "emergency/blast-radius?environment=production", "agents", "audit", "drills", "credentials"]
    {
        assert_eq!(get(path).await.0, 403, "{path}");
    }
    assert_eq!(
        call(&app, "POST", INTENTS, Some(&file.key), Some(&serde_json::to_value(lookup("production")).unwrap()))
            .await
            .0,
        403
    );
    for beyond in [
        json!({"reason": "x"}),
        json!({"reason": "x", "environment": "production"}),
        json!({"reason": "x", "environment": "staging", "on": {"agent": "support-agent"}}),
        json!({"reason": "x", "environment": "production", "on": {"agent": "release-agent"}}),
    ] {
        let (status, problem) = post("emergency/halts", beyond.clone()).await;
        assert_eq!(status, 403, "{beyond}: {problem}");
    }
    let right = json!({"reason": "on fire", "environment": "production", "on": {"agent": "support-agent"}});
    let (status, thrown) = post("emergency/halts", right.clone()).await;
    assert_eq!(status, 201, "{thrown}");
    assert_eq!(submit(&world, lookup("production")).await.record.decision.reason, Code::HaltAgent);
    let resume = format!("emergency/halts/{}/resume", thrown["halt"].as_str().unwrap());
    for (path, body) in [("emergency/halts", right), (&*resume, json!({"reason": "x"}))] {
        let (status, problem) = post(path, body).await;
        assert_eq!((status, problem["code"].as_str()), (401, Some("credential.spent")), "{path}");
    }
    // Another one that nobody needed: over in time.
    let file = glass(&world, within(None, None), 1).await;
    world.clock.advance_millis(86_400_000);
    assert_eq!(world.runtime.authenticate(&file.key).unwrap_err().code, Code::CredentialExpired);
    let never =
        world.runtime.prepare_glass(&world.owner, within(None, None), world.runtime.now().plus_secs(500 * 86_400));
    assert_eq!(never.await.unwrap_err().code, Code::RequestInvalid);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_halt_or_give_access_prepares_no_glass() {
    let world = World::new().await.unwrap();
    let until = world.runtime.now().plus_secs(3_600);
    for scopes in [&[Scope::AccessWrite][..], &[Scope::EmergencyWrite], &[Scope::EmergencyHalt]] {
        let by = key(&world, &format!("k-{}", scopes[0].as_str().replace(':', "-")), None, scopes, &[]).await;
        let refused = world.runtime.prepare_glass(&by, within(None, None), until).await;
        assert_eq!(refused.unwrap_err().code, Code::ScopeMissing, "{scopes:?}");
    }
    let local = key(&world, "local", None, &[Scope::AccessWrite, Scope::EmergencyWrite], &["staging"]).await;
    world.runtime.prepare_glass(&local, within(Some("staging"), None), until).await.unwrap();
    for scope in [within(None, None), within(Some("production"), None)] {
        let refused = world.runtime.prepare_glass(&local, scope, until).await;
        assert_eq!(refused.unwrap_err().code, Code::EnvironmentForbidden);
    }
    // What throws halts alone is a scope that can be given.
    let only = key(&world, "only", None, &[Scope::EmergencyHalt], &["staging"]).await;
    let staging = within(Some("staging"), None);
    let thrown = world.runtime.throw(&only, staging, "stop").await.unwrap();
    assert_eq!(world.runtime.resume(&only, thrown.halt, "on").await.unwrap_err().code, Code::ScopeMissing);
    assert!(world.runtime.throw(&only, within(Some("production"), None), "stop").await.is_err());
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bulk_revocation_means_is_dead_on_every_path_and_nothing_else_is() {
    let world = World::new().await.unwrap();
    let ana = person(&world, "ana").await;
    let policy =
        world.owner.tenant.state().environments[&environment("production").unwrap()].deployed.as_ref().unwrap().digest;
    let agent = || TokenSelector { agent: Some("support-agent".into()), ..TokenSelector::default() };
    type Make = Box<dyn Fn(&Decided) -> TokenSelector>;
    let cases: Vec<(&str, bool, Make)> = vec![
        ("agent", true, Box::new(move |_| agent())),
        (
            "another agent",
            false,
            Box::new(|_| TokenSelector { agent: Some("release-agent".into()), ..Default::default() }),
        ),
        (
            "credential",
            true,
            Box::new(|d| TokenSelector { credential: Some(d.record.input.credential.clone()), ..Default::default() }),
        ),
        (
            "another credential",
            false,
            Box::new(|_| TokenSelector { credential: Some(CredentialId::new("owner").unwrap()), ..Default::default() }),
        ),
        (
            "person",
            true,
            Box::new(|_| TokenSelector { member: Some(MemberId::new("ana").unwrap()), ..Default::default() }),
        ),
        (
            "another person",
            false,
            Box::new(|_| TokenSelector { member: Some(MemberId::new("ben").unwrap()), ..Default::default() }),
        ),
        ("intent", true, Box::new(|d| TokenSelector { intent: Some(d.record.input.id), ..Default::default() })),
        ("policy", true, Box::new(move |_| TokenSelector { policy: Some(policy), ..Default::default() })),
        ("another policy", false, Box::new(|_| TokenSelector { policy: Some(Digest::of(b"x")), ..Default::default() })),
        (
            "environment",
            true,
            Box::new(|_| TokenSelector { environment: Some(environment("production").unwrap()), ..Default::default() }),
        ),
        (
            "another environment",
            false,
            Box::new(|_| TokenSelector { environment: Some(environment("staging").unwrap()), ..Default::default() }),
        ),
        (
            "a time range",
            true,
            Box::new(|d| TokenSelector {
                from: Some(d.record.input.at),
                to: Some(d.record.input.at.plus_millis(1)),
                ..Default::default()
            }),
        ),
        (
            "a later range",
            false,
            Box::new(|d| TokenSelector { from: Some(d.record.input.at.plus_millis(1_000)), ..Default::default() }),
        ),
        ("an earlier range", false, Box::new(|d| TokenSelector { to: Some(d.record.input.at), ..Default::default() })),
        (
            "agent elsewhere",
            false,
            Box::new(|_| TokenSelector {
                agent: Some("support-agent".into()),
                environment: Some(environment("staging").unwrap()),
                ..Default::default()
            }),
        ),
    ];
    for (n, (what, means, make)) in cases.into_iter().enumerate() {
        world.clock.advance_millis(61_000);
        let again = format!("key-{n}");
        let before = submit_as(&world, &ana, lookup("production"), Some(&again)).await.unwrap();
        let used = submit_as(&world, &ana, lookup("production"), None).await.unwrap();
        online(&world, &used, true).await.unwrap();
        let selector = make(&before);
        let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
        let counted = world.runtime.tokens_meant(&world.owner, &selector).await.unwrap();
        assert_eq!((counted.tokens, counted.at_least), (u64::from(means), false), "{what}: what was used is not live");
        assert_eq!(
            world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size,
            size,
            "counting writes nothing"
        );
        let (done, _) = world.runtime.revoke_tokens(&world.owner, selector, "leak").await.unwrap();
        assert_eq!(done, Some(counted), "what was alive before it");
        if means {
            assert_eq!(online(&world, &before, false).await, Err(Refusal::Revoked), "{what}");
            dead(&world, &before, Refusal::Revoked).await;
            let replayed = submit_as(&world, &ana, lookup("production"), Some(&again)).await.unwrap();
            assert!(replayed.replayed && replayed.token.is_none(), "{what}");
        } else {
            assert_eq!(online(&world, &before, true).await, Ok(()), "{what}");
        }
        let after = submit_as(&world, &ana, lookup("production"), None).await.unwrap();
        assert_eq!(online(&world, &after, true).await, Ok(()), "{what}: what is granted later is not meant");
    }
    // What cannot concern a living token any more is forgotten.
    assert!(world.owner.tenant.state().emergency.revocations().len() < 8);
    let none = world.runtime.revoke_tokens(&world.owner, TokenSelector::default(), "all").await;
    assert_eq!(none.unwrap_err().code, Code::SelectorEmpty);
    let local = key(&world, "local", None, &[Scope::TokenRevoke], &["staging"]).await;
    let refused =
        world.runtime.revoke_tokens(&local, TokenSelector { agent: Some("a".into()), ..Default::default() }, "x");
    assert_eq!(refused.await.unwrap_err().code, Code::EnvironmentForbidden);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_for_offline_verifiers_can_be_kept_says_as_of_when_and_goes_stale() {
    let (world, app, owner_key) = app().await;
    let token = submit(&world, lookup("production")).await;
    let get = async |tag: Option<&str>| {
        use tower::ServiceExt as _;
        let mut request = http::Request::builder()
            .uri("/v1/tenants/acme/revocations?environment=production")
            .header("authorization", format!("Bearer {owner_key}"));
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        let header = |n: &str| response.headers().get(n).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let (status, tag, cache) = (response.status().as_u16(), header("etag"), header("cache-control"));
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, tag, cache, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (status, tag, cache, list) = get(None).await;
    assert_eq!((status, cache.as_str()), (200, "private, max-age=10"));
    assert_eq!(get(Some(&tag)).await.0, 304);
    // A decision is nothing that it says; a halt is.
    submit(&world, lookup("production")).await;
    assert_eq!(get(Some(&tag)).await.0, 304);
    let thrown = world.runtime.throw(&world.owner, within(None, on("tool", "orders.*")), "stop").await.unwrap();
    let (status, other, ..) = get(Some(&tag)).await;
    assert!(status == 200 && other != tag);
    world.runtime.resume(&world.owner, thrown.halt, "on").await.unwrap();
    // From before the halt: it does not know, and says as of when it knows.
    let now = world.runtime.now();
    let known = Known::AsOf(NOON / 1000);
    assert_eq!(with_list(&world, &token, &list, 60, now), Ok((known, known)));
    assert_eq!(known.to_string(), format!("as of {}", Timestamp::from_millis(NOON)));
    let later = |secs| Timestamp::from_millis(NOON).plus_secs(secs);
    assert_eq!(with_list(&world, &token, &list, 5, later(4)), Ok((known, known)));
    assert_eq!(
        with_list(&world, &token, &list, 5, later(5)),
        Err(Refusal::RevocationsStale),
        "older than the verifier takes"
    );
    assert_eq!(with_list(&world, &token, &list, 3_600, later(59)), Ok((known, known)));
    assert_eq!(with_list(&world, &token, &list, 0, later(0)), Err(Refusal::RevocationsStale));
    // Another environment's list says nothing about this one.
    let staging = world.runtime.revocation_list(&world.owner, &environment("staging").unwrap()).await.unwrap().text;
    let refused = with_list(&world, &token, &staging, 60, now);
    assert!(matches!(refused, Err(Refusal::KeyUnknown)), "signed with the environment's own key: {refused:?}");
    // When no token from before can be alive, the list forgets the halt.
    world.clock.advance_millis(311_000);
    let empty = world.runtime.revocation_list(&world.owner, &environment("production").unwrap()).await.unwrap().text;
    let fresh = submit(&world, lookup("production")).await;
    assert!(with_list(&world, &fresh, &empty, 60, world.runtime.now()).is_ok());
    let payload = intended_token::from_base64url(empty.split('.').nth(1).unwrap()).unwrap();
    assert!(!String::from_utf8(payload).unwrap().contains("orders"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_halts_and_revoked_tokens_make_a_list_that_can_still_be_opened() {
    let world = World::new().await.unwrap();
    let token = submit(&world, lookup("production")).await;
    for _ in 0..1_000 {
        let other = submit(&world, lookup("production")).await;
        let (jti, intent) = (other.record.grant.as_ref().unwrap().jti.clone(), other.record.input.id);
        world.runtime.revoke_token(&world.owner, &intent.to_string(), &jti, "x").await.unwrap();
    }
    for n in 0..1_000 {
        let scope = within(Some("production"), on("agent", &format!("agent-{n}")));
        let thrown = world.runtime.throw(&world.owner, scope, "x").await.unwrap();
        if n % 2 == 0 {
            world.runtime.resume(&world.owner, thrown.halt, "x").await.unwrap();
        }
    }
    assert!(offline(&world, &token).await.is_ok());
    assert_eq!(online(&world, &token, true).await, Ok(()), "none of them is about it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_halt_would_stop_is_counted_before_it_is_thrown() {
    let (world, app, key) = app().await;
    for _ in 0..5 {
        submit(&world, lookup("production")).await;
    }
    let used = submit(&world, lookup("production")).await;
    online(&world, &used, true).await.unwrap();
    submit(&world, refund(400, None).unwrap()).await;
    submit(&world, lookup("staging")).await;
    let get = async |query: &str| {
        let path = format!("/v1/tenants/acme/emergency/blast-radius?{query}");
        call(&app, "GET", &path, Some(&key), None).await.1
    };
    let whole = get("").await;
    assert_eq!(
        (&whole["name"], &whole["live_tokens"], &whole["open_approvals"]),
        (&json!("acme"), &json!(6), &json!(1)),
        "{whole}"
    );
    assert_eq!(whole["agents"], json!(["release-agent", "support-agent"]));
    assert_eq!((&whole["decisions_per_minute"], &whole["at_least"]), (&json!(0.8), &json!(false)));
    let production = get("environment=production").await;
    assert_eq!((&production["name"], &production["live_tokens"]), (&json!("production"), &json!(5)), "{production}");
    let tool = get("environment=production&tool=orders.*").await;
    assert_eq!(
        (&tool["name"], &tool["agents"], &tool["open_approvals"]),
        (&json!("orders.*"), &json!(["support-agent"]), &json!(0)),
        "{tool}"
    );
    let none = get("connector=github").await;
    assert_eq!(
        (&none["live_tokens"], &none["agents"], &none["decisions_per_minute"]),
        (&json!(0), &json!([]), &json!(0.0))
    );
    assert_eq!(get("tool=a&agent=b").await["code"], "request.invalid");
    assert_eq!(get("tool=a*b").await["code"], "emergency.target");
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    get("").await;
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_the_emergency_says_who_why_since_when_and_who_must_lift_it() {
    let (world, app, key) = app().await;
    people(&world, None).await;
    let (ana, ben) = (person(&world, "ana").await, person(&world, "ben").await);
    let scope = within(Some("production"), on("agent", "support-agent"));
    let thrown = world.runtime.throw(&ana, scope, "it loops").await.unwrap();
    let row = async || call(&app, "GET", "/v1/tenants/acme/emergency", Some(&key), None).await.1["halts"][0].clone();
    let halt = row().await;
    for (name, value) in [
        ("scope", json!("agent:support-agent")),
        ("environment", json!("production")),
        ("reason", json!("it loops")),
        ("person", json!("ana")),
        ("index", json!(thrown.index)),
        ("since", json!(Timestamp::from_millis(NOON).to_string())),
        ("resume_people", json!(2)),
    ] {
        assert_eq!(halt[name], value, "{halt}");
    }
    world.runtime.resume(&ben, thrown.halt, "fixed").await.unwrap();
    let halt = row().await;
    assert_eq!((&halt["asked"]["by"], &halt["resume"]), (&json!("ben"), &json!("another person than ben")));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_drill_does_its_procedure_for_real_and_leaves_everything_as_it_was() {
    let (world, app, key) = app().await;
    let staging = environment("staging").unwrap();
    submit(&world, lookup("staging")).await;
    // There is a version to go back to.
    let mut pack = demo_pack();
    let before = world.owner.tenant.state().environments[&staging].deployed.as_ref().unwrap().digest;
    pack.insert(
        "more.cedar".into(),
        "@id(\"more\")\nforbid (principal, action == Action::\"gmail.send_email\", resource);".into(),
    );
    world.runtime.deploy_pack(&world.owner, &staging, pack).await.unwrap();
    let now = world.owner.tenant.state().environments[&staging].deployed.as_ref().unwrap().digest;
    assert_ne!(before, now);
    for kind in ["halt", "revoke", "rollback"] {
        let body = json!({"drill": kind, "environment": "staging"});
        let (status, report) = call(&app, "POST", "/v1/tenants/acme/drills", Some(&key), Some(&body)).await;
        assert_eq!((status, &report["passed"], &report["restored"]), (201, &json!(true), &json!(true)), "{report}");
        let state = world.owner.tenant.state();
        assert!(state.halts.is_empty(), "{kind}");
        assert_eq!(state.environments[&staging].deployed.as_ref().unwrap().digest, now, "{kind}");
        let drilled = state.agents.iter().find(|(id, _)| id.starts_with("drill-")).unwrap();
        assert_eq!(drilled.1.state, intended_model::entry::AgentState::Retired);
        assert!(submit(&world, lookup("staging")).await.token.is_some());
    }
    let (_, list) = call(&app, "GET", "/v1/tenants/acme/drills", Some(&key), None).await;
    let kinds: Vec<_> = list["drills"].as_array().unwrap().iter().map(|d| d["drill"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["rollback", "revoke", "halt"]);
    let effect =
        list["drills"][2]["steps"].as_array().unwrap().iter().find(|s| s["step"] == "the halt takes effect").unwrap();
    assert!(effect["micros"].as_u64().unwrap() > 0, "{effect}");
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_refused_where_it_cannot_be_held_and_changes_nothing() {
    let world = World::new().await.unwrap();
    let code = async |e: &str, kind| {
        world.runtime.drill(&world.owner, &environment(e).unwrap(), kind, None).await.unwrap_err().code
    };
    let size = async || world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    submit(&world, lookup("production")).await;
    let before = size().await;
    for kind in [DrillKind::Halt, DrillKind::Revoke, DrillKind::Rollback] {
        assert_eq!(code("production", kind).await, Code::DrillRefused);
    }
    assert_eq!(code("staging", DrillKind::Halt).await, Code::DrillRefused, "nothing was allowed there");
    assert_eq!(code("staging", DrillKind::Rollback).await, Code::DrillRefused, "there is no earlier version");
    assert_eq!(code("nowhere", DrillKind::Halt).await, Code::EnvironmentForbidden);
    submit(&world, lookup("staging")).await;
    world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "for real").await.unwrap();
    assert_eq!(code("staging", DrillKind::Halt).await, Code::DrillRefused, "it is halted for real");
    assert_eq!(size().await, before + 2);
}

/// Holds a halt drill, and does something in its middle: after its halt is thrown, before it is lifted.
async fn drill_meanwhile(world: &World, by: &Principal, meanwhile: impl AsyncFnOnce()) -> DrillReport {
    let staging = environment("staging").unwrap();
    let mut drill = std::pin::pin!(world.runtime.drill(by, &staging, DrillKind::Halt, None));
    let thrown = async {
        while world.owner.tenant.state().halts.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        over = &mut drill => panic!("it was over before its halt was seen: {over:?}"),
        () = thrown => {}
    }
    meanwhile().await;
    drill.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_cannot_put_back_what_it_did_says_what_is_left() {
    let world = World::new().await.unwrap();
    submit(&world, lookup("staging")).await;
    let drills = key(&world, "drills", None, Scope::ALL, &[]).await;
    let report = drill_meanwhile(&world, &drills, async || {
        world.runtime.revoke_credential(&world.owner, drills.credential.clone(), "leaked").await.unwrap();
    });
    let report = report.await;
    assert!(!report.passed && !report.restored && report.index.is_none(), "{report:?}");
    let left = report.steps.iter().find(|s| s.step.as_ref() == "everything is restored").unwrap();
    let state = world.owner.tenant.state();
    let halt = state.halts.keys().next().unwrap();
    assert!(left.detail.contains(halt.as_str()) && left.detail.contains("lift it"), "{left:?}");
    assert!(left.detail.contains("retire it"), "{left:?}");
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_leaves_alone_what_others_deploy_meanwhile() {
    let world = World::new().await.unwrap();
    let staging = environment("staging").unwrap();
    submit(&world, lookup("staging")).await;
    let mut pack = demo_pack();
    let text = "@id(\"more\")\nforbid (principal, action == Action::\"gmail.send_email\", resource);";
    pack.insert("more.cedar".into(), text.into());
    let deployed = || world.owner.tenant.state().environments[&staging].deployed.as_ref().unwrap().digest;
    let before = deployed();
    let report = drill_meanwhile(&world, &world.owner, async || {
        world.runtime.deploy_pack(&world.owner, &staging, pack).await.unwrap();
    });
    let report = report.await;
    assert!(report.passed && report.restored, "{report:?}");
    assert_ne!(deployed(), before, "it was deployed by somebody else, and stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_fails_is_recorded_as_failed() {
    let world = World::new().await.unwrap();
    // Not allowed: policy names no such refund without people.
    let mut sample = refund(4_000, None).unwrap();
    sample.environment = environment("staging").unwrap();
    let report = world
        .runtime
        .drill(&world.owner, &environment("staging").unwrap(), DrillKind::Halt, Some(sample))
        .await
        .unwrap();
    assert!(!report.passed && report.restored && report.index.is_some(), "{report:?}");
    let state = world.owner.tenant.state();
    assert!(!state.emergency.drills()[0].passed && state.halts.is_empty());
    holds(&world).await;
}

async fn recorded(scope: HaltScope) -> Vec<Vec<u8>> {
    let world = World::new().await.unwrap();
    people(&world, None).await;
    let (ana, ben) = (person(&world, "ana").await, person(&world, "ben").await);
    let used = submit(&world, lookup("production")).await;
    online(&world, &used, true).await.unwrap();
    submit(&world, lookup("production")).await;
    let thrown = world.runtime.throw(&ana, scope, "stop").await.unwrap();
    world.runtime.resume(&ana, thrown.halt.clone(), "fixed").await.unwrap();
    world.runtime.resume(&ben, thrown.halt, "fixed").await.unwrap();
    let selector = TokenSelector { agent: Some("support-agent".into()), ..TokenSelector::default() };
    let file = glass(&world, within(Some("production"), on("tool", "x.*")), 1).await;
    let holder = world.runtime.authenticate(&file.key).unwrap();
    let glassed = world.runtime.throw(&holder, within(Some("production"), on("tool", "x.*")), "glass").await.unwrap();
    world.runtime.resume(&ana, glassed.halt.clone(), "fixed").await.unwrap();
    world.runtime.resume(&ben, glassed.halt, "fixed").await.unwrap();
    submit(&world, lookup("production")).await;
    world.runtime.revoke_tokens(&world.owner, selector, "leak").await.unwrap();
    world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "last").await.unwrap();
    let (header, leaves) = world.export().await.unwrap();
    verify((header, leaves.clone())).unwrap();
    leaves
}

fn body(forge: &Forge, at: usize) -> Value {
    serde_json::from_str(&forge.0[at].2).unwrap()
}

/// Puts the use of the token of a decision in at a place.
fn use_at(forge: &mut Forge, nth: usize, at: usize) {
    let granted = body(forge, forge.position("decision", nth));
    let mut used = forge.0[forge.position("token.consumed", 0)].clone();
    used.0 = forge.0[at - 1].0;
    forge.0.insert(at, used);
    forge.edit(at, |b| {
        b["intent"] = granted["input"]["id"].clone();
        b["jti"] = granted["grant"]["jti"].clone();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_allow_or_use_after_each_kind_of_halt_is_found() {
    let mut all: Vec<HaltScope> = scopes().into_iter().map(|(covering, _, _)| covering).collect();
    all.push(within(Some("production"), on("category", "OIL-*")));
    for scope in all {
        let leaves = recorded(scope.clone()).await;
        let halt = Forge::of(&leaves).position("halt.thrown", 0);
        // An allow under it, decided on the state after it.
        let mut forge = Forge::of(&leaves);
        let first = forge.0[forge.position("decision", 0)].clone();
        forge.0.insert(halt + 1, (forge.0[halt].0, first.1, first.2));
        let control = forge.0[..=halt]
            .iter()
            .filter(|(_, kind, _)| intended_model::Kind::parse(kind).unwrap().is_control())
            .count();
        forge.edit(halt + 1, |b| b["input"]["control"] = json!(control));
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Halt, Some(halt as u64 + 1)), "{scope}: {failure}");
        // A use of what it killed: under it, and after it was lifted.
        for at in [halt + 1, Forge::of(&leaves).position("halt.resumed", 0) + 1] {
            let mut forge = Forge::of(&leaves);
            use_at(&mut forge, 1, at);
            let failure = verify(forge.rebuild()).unwrap_err();
            assert_eq!((failure.check, failure.index), (Check::Halt, Some(at as u64)), "{scope}: {failure}");
        }
        let mut before = Forge::of(&leaves);
        use_at(&mut before, 1, halt);
        verify(before.rebuild()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_entries_about_emergencies_are_found() {
    let leaves = recorded(within(Some("production"), None)).await;
    type Make = fn(&mut Forge) -> usize;
    let cases: Vec<(&str, Make, Check, &str)> = vec![
        (
            "a resume by one",
            |f| {
                f.0.remove(f.position("halt.resume_asked", 0));
                f.position("halt.resumed", 0)
            },
            Check::Fold,
            "takes 2 people; 1",
        ),
        (
            "a resume by the same person twice",
            |f| {
                let at = f.position("halt.resumed", 0);
                f.edit(at, |b| b["by"] = json!("ana-key"));
                at
            },
            Check::Fold,
            "takes 2 people; 1",
        ),
        (
            "a resume by a service",
            |f| {
                let at = f.position("halt.resumed", 0);
                f.edit(at, |b| b["by"] = json!("owner"));
                at
            },
            Check::Fold,
            "takes 2 people; 1",
        ),
        (
            "a resume that was asked for too long ago",
            |f| {
                let at = f.position("halt.resume_asked", 0);
                f.edit(at, |b| b["expires_at"] = json!(NOON - 20_000));
                at + 1
            },
            Check::Fold,
            "too long ago",
        ),
        (
            "a halt that one could lift",
            |f| {
                let at = f.position("halt.thrown", 0);
                f.edit(at, |b| b["resume_people"] = json!(1));
                at
            },
            Check::Fold,
            "takes 2 people, the entry says 1",
        ),
        (
            "a halt that does not say how many lift it",
            |f| {
                let at = f.position("halt.thrown", 1);
                f.edit(at, |b| drop(b.as_object_mut().unwrap().remove("resume_people")));
                at
            },
            Check::Fold,
            "the entry says nothing",
        ),
        (
            "break-glass used twice",
            |f| {
                let at = f.position("halt.thrown", 1);
                let (mut again, last) = (f.0[at].clone(), f.0.len());
                again.0 = f.0[last - 1].0;
                f.0.push(again);
                f.edit(last, |b| b["halt"] = json!("halt-more"));
                last
            },
            Check::Authority,
            "had thrown it",
        ),
        (
            "break-glass for a halt beyond its scope",
            |f| {
                let at = f.position("halt.thrown", 1);
                f.edit(at, |b| b["on"] = json!({"tool": "*"}));
                at
            },
            Check::Fold,
            "is for another halt",
        ),
        (
            "break-glass used for something else",
            |f| {
                let by = body(f, f.position("break_glass.prepared", 0))["credential"].clone();
                let at = f.position("halt.resume_asked", 1);
                let last = f.0.len();
                let mut lifted = f.0[f.position("halt.resumed", 0)].clone();
                let halt = body(f, f.position("halt.thrown", 2))["halt"].clone();
                let _ = at;
                lifted.0 = f.0[last - 1].0;
                f.0.push(lifted);
                f.edit(last, |b| {
                    b["by"] = by;
                    b["halt"] = halt;
                });
                last
            },
            Check::Authority,
            "had thrown it",
        ),
        (
            "a revoked selector's token used",
            |f| {
                let at = f.position("tokens.revoked", 0) + 1;
                use_at(f, 2, at);
                at
            },
            Check::Consumption,
            "had revoked it with others",
        ),
        (
            "a revocation of everything",
            |f| {
                let at = f.position("tokens.revoked", 0);
                f.edit(at, |b| b["selector"] = json!({}));
                at
            },
            Check::Fold,
            "means every token",
        ),
        (
            "a revocation that is forgotten at once",
            |f| {
                let at = f.position("tokens.revoked", 0);
                f.edit(at, |b| b["until"] = json!(NOON));
                at
            },
            Check::Fold,
            "remembered for",
        ),
        (
            "a halt on nothing",
            |f| {
                let at = f.position("halt.thrown", 2);
                f.edit(at, |b| b["on"] = json!({"agent": "a*"}));
                at
            },
            Check::Fold,
            "could cover nothing",
        ),
    ];
    for (what, make, check, says) in cases {
        let mut forge = Forge::of(&leaves);
        let at = make(&mut forge);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert!(failure.what.contains(says), "{what}: {failure}");
        assert_eq!((failure.check, failure.index), (check, Some(at as u64)), "{what}: {failure}");
    }
    let _: (EnvironmentId, Name) = (environment("staging").unwrap(), Name::new("n").unwrap());
}
