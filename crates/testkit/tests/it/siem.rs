//! The ledger as it is streamed to collectors: what of it, in which form and order, and what comes of
//! failures.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use intended_model::decision::Outcome;
use intended_model::entry::{BODY_VERSION, MemberSet};
use intended_model::{Event, MemberId, Name};
use intended_runtime::Submission;
use intended_runtime::siem::{Collector, Exporter, Filter, Format, Line, Sending, Sink, SinkSpec, Start, cef};
use intended_testkit::{World, environment, refund};
use serde_json::{Value, json};

use crate::http_edge::{app, call};

#[derive(Default)]
struct Inner {
    /// What it answers, before it takes everything.
    answers: VecDeque<Result<Duration, String>>,
    batches: Vec<Vec<String>>,
    broken: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Inner>>);

impl Fake {
    fn then(&self, answer: Result<Duration, String>) {
        self.0.lock().unwrap().answers.push_back(answer);
    }
    fn taken(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.0.lock().unwrap().batches)
    }
    fn events(&self) -> Vec<Value> {
        self.taken().concat().iter().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
    fn indexes(&self) -> Vec<u64> {
        self.events().iter().map(index).collect()
    }
}

impl Collector for Fake {
    fn send<'a>(&'a mut self, batch: &'a [Line]) -> Sending<'a, Duration> {
        let mut inner = self.0.lock().unwrap();
        let answer = inner.answers.pop_front().unwrap_or(Ok(Duration::ZERO));
        if answer.is_ok() {
            inner.batches.push(batch.iter().map(|l| l.text.clone()).collect());
        }
        Box::pin(async move { answer })
    }
    fn stands(&mut self) -> Sending<'_, ()> {
        let broken = std::mem::take(&mut self.0.lock().unwrap().broken);
        Box::pin(async move { if broken { Err("gone".to_owned()) } else { Ok(()) } })
    }
}

fn index(event: &Value) -> u64 {
    event["unmapped"]["ledger_index"].as_u64().unwrap()
}

fn spec(name: &str, filter: Filter) -> SinkSpec {
    SinkSpec {
        name: Name::new(name).unwrap(),
        format: Format::Ocsf,
        filter,
        tenants: Vec::new(),
        start: Start::Beginning,
        transport: "file",
        batch: 8,
    }
}

fn sink(spec: SinkSpec) -> (Fake, Exporter) {
    let fake = Fake::default();
    (fake.clone(), Exporter::new(Sink::new(spec), Box::new(fake)))
}

async fn submit(world: &World, amount: i64) {
    let submission =
        Submission { intent: refund(amount, Some("s|1=")).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap();
}

async fn drain(world: &World, exporter: &mut Exporter) {
    while world.runtime.export_round(exporter).await {}
}

async fn size(world: &World) -> u64 {
    world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_is_sent_in_order_and_what_is_not_acknowledged_comes_again() {
    let world = World::new().await.unwrap();
    for amount in 1..=20 {
        submit(&world, amount).await;
    }
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    let all: Vec<u64> = (0..size(&world).await).collect();
    assert_eq!(fake.indexes(), all);
    assert!(!world.runtime.export_round(&mut exporter).await, "nothing is left");

    // Killed: another one goes on behind what was acknowledged.
    submit(&world, 1).await;
    let world = {
        drop(exporter);
        world.crash().await.unwrap().reopen().await.unwrap()
    };
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    assert_eq!(fake.indexes(), [all.len() as u64]);

    // Sent, and killed before the cursor moved: twice, and not lost.
    submit(&world, 2).await;
    fake.then(Ok(Duration::from_secs(3_600)));
    drain(&world, &mut exporter).await;
    let sent = fake.indexes();
    assert_eq!(sent.len(), 1);
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    assert_eq!(fake.indexes(), sent);

    // A collector that fails gets the same, in the same order, when it is back.
    for amount in 1..=10 {
        submit(&world, amount).await;
    }
    fake.then(Err("503".to_owned()));
    assert!(!world.runtime.export_round(&mut exporter).await);
    assert!(!world.runtime.export_round(&mut exporter).await, "it is given time");
    let progress = exporter.sink().progress(&world.owner.tenant.id);
    assert_eq!((progress.failing, progress.failures, progress.last_error.as_deref()), (true, 1, Some("503")));
    tokio::time::sleep(Duration::from_millis(600)).await;
    drain(&world, &mut exporter).await;
    assert_eq!(fake.indexes(), (sent[0] + 1..size(&world).await).collect::<Vec<_>>());
    assert!(!exporter.sink().progress(&world.owner.tenant.id).failing);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_over_a_connection_that_broke_is_sent_again() {
    let world = World::new().await.unwrap();
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    fake.taken();
    submit(&world, 1).await;
    fake.then(Ok(Duration::from_millis(50)));
    drain(&world, &mut exporter).await;
    let sent = fake.indexes();
    fake.0.lock().unwrap().broken = true;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(!world.runtime.export_round(&mut exporter).await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    drain(&world, &mut exporter).await;
    assert_eq!(fake.indexes(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_goes_out_in_bounded_batches_and_decisions_go_on_meanwhile() {
    let world = World::new().await.unwrap();
    let submitter = async |n: i64| {
        for amount in 1..=n {
            submit(&world, amount % 40 + 1).await;
        }
    };
    submitter(400).await;
    let (fake, mut exporter) = sink(SinkSpec { batch: 32, ..spec("soc", Filter::default()) });
    tokio::join!(drain(&world, &mut exporter), submitter(50));
    drain(&world, &mut exporter).await;
    let batches = fake.taken();
    assert!(batches.iter().all(|b| b.len() <= 32) && batches.len() > 400 / 32);
    assert_eq!(batches.concat().len() as u64, size(&world).await);
    // A collector that stands still costs one batch at a time, and nobody anything else.
    fake.then(Err("no answer in time".to_owned()));
    submitter(50).await;
    world.runtime.export_round(&mut exporter).await;
    assert!(fake.taken().is_empty());
    submit(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_what_its_filter_takes() {
    let world = World::new().await.unwrap();
    for amount in [40, 400, 100_000] {
        submit(&world, amount).await;
    }
    let (halt, _) = world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "drill").await.unwrap();
    world.runtime.resume(&world.owner, halt, "over").await.unwrap();
    world.runtime.halt(&world.owner, None, "all").await.unwrap();
    let kinds = async |filter: Filter| {
        let (fake, mut exporter) = sink(spec("soc", filter));
        let fresh = exporter.sink().spec.name.clone();
        drain(&world, &mut exporter).await;
        // The next one begins anew.
        let key = format!("x/{fresh}");
        let fact = world.runtime.store().fact_now(&world.owner.tenant.id, &key).unwrap();
        if fact.is_some() {
            let commit = intended_store::Commit {
                tenant: world.owner.tenant.id.clone(),
                now: world.runtime.now(),
                control_version: None,
                reads: Vec::new(),
                writes: vec![intended_store::Write::Delete { key: key.into() }],
                entries: Vec::new(),
            };
            world.runtime.store().commit(commit).await.unwrap();
        }
        let events = fake.events();
        events.iter().map(|e| e["metadata"]["event_code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let only = |kinds: &[&str]| Filter { kinds: kinds.iter().map(|k| (*k).to_owned()).collect(), ..Filter::default() };
    assert_eq!(kinds(only(&["halt.*"])).await, ["halt.thrown", "halt.resumed", "halt.thrown"]);
    let denied = Filter { decisions: vec![Outcome::Deny], ..only(&["decision", "halt.resumed"]) };
    assert_eq!(kinds(denied).await, ["decision", "halt.resumed"]);
    let agents = Filter { agents: vec!["support-agent".to_owned()], ..Filter::default() };
    assert_eq!(kinds(agents).await, ["agent.set", "decision", "decision", "decision"]);
    let whose = Filter { credentials: vec!["nobody".to_owned()], ..Filter::default() };
    assert!(kinds(whose).await.is_empty());
    let member = Event::MemberSet(MemberSet {
        active: true,
        by: world.owner.credential.clone(),
        email: None,
        grants: Vec::new(),
        groups: Vec::new(),
        member: MemberId::new("ada").unwrap(),
        name: None,
        v: BODY_VERSION,
    });
    world.control(member).await.unwrap();
    let people = Filter { members: vec!["ada".to_owned()], ..Filter::default() };
    assert_eq!(kinds(people).await, ["member.set"]);
    // What is about everything is about staging too; what is production's is not.
    let staging = Filter { environments: vec!["staging".to_owned()], ..only(&["halt.*", "decision", "key.added"]) };
    assert_eq!(kinds(staging).await, ["key.added", "halt.thrown", "halt.resumed", "halt.thrown"]);
    assert!(only(&["decision", "halt.*"]).wrong().is_none() && only(&["halts"]).wrong().is_some());
    let now = SinkSpec { start: Start::Now, ..spec("late", Filter::default()) };
    let (fake, mut exporter) = sink(now);
    drain(&world, &mut exporter).await;
    assert!(fake.taken().is_empty());
}

/// What OCSF 1.1.0 asks of the three classes: members with their type, and whether they must be there.
fn hold_against_ocsf(event: &Value) {
    let text = |v: &Value| v.is_string();
    let number = |v: &Value| v.is_u64();
    let object = |v: &Value| v.is_object();
    let list = |v: &Value| v.is_array();
    type Of = fn(&Value) -> bool;
    let base: Vec<(&str, Of, bool)> = vec![
        ("activity_id", number, true),
        ("activity_name", text, false),
        ("actor", object, false),
        ("category_uid", number, true),
        ("category_name", text, false),
        ("class_uid", number, true),
        ("class_name", text, false),
        ("message", text, false),
        ("metadata", object, true),
        ("severity_id", number, true),
        ("severity", text, false),
        ("status", text, false),
        ("status_code", text, false),
        ("status_detail", text, false),
        ("status_id", number, false),
        ("time", number, true),
        ("type_name", text, false),
        ("type_uid", number, true),
        ("unmapped", object, false),
    ];
    let class = event["class_uid"].as_u64().unwrap();
    let (category, own): (u64, Vec<(&str, Of, bool)>) = match class {
        6003 => (
            6,
            vec![
                ("actor", object, true),
                ("api", object, true),
                ("src_endpoint", object, true),
                ("dst_endpoint", object, false),
                ("resources", list, false),
            ],
        ),
        3002 => (3, vec![("user", object, true), ("service", object, false)]),
        3004 => (3, vec![("entity", object, true), ("comment", text, false)]),
        other => panic!("class {other}"),
    };
    let known: Vec<_> = base.into_iter().chain(own).collect();
    for (name, value) in event.as_object().unwrap() {
        let of = known.iter().find(|(n, _, _)| n == name).unwrap_or_else(|| panic!("`{name}` is none of {class}"));
        assert!(of.1(value), "{name}: {value}");
    }
    for (name, _, required) in &known {
        assert!(!required || event.get(name).is_some(), "{class} without {name}: {event}");
    }
    let activity = event["activity_id"].as_u64().unwrap();
    assert_eq!(event["category_uid"], category);
    assert_eq!(event["type_uid"], class * 100 + activity);
    assert!(matches!(activity, 1..=4 | 99), "{activity}");
    assert!((1..=5).contains(&event["severity_id"].as_u64().unwrap()));
    assert!(matches!(event["status_id"].as_u64().unwrap(), 1 | 2 | 99));
    // Objects: what each needs.
    let metadata = &event["metadata"];
    assert_eq!(metadata["version"], "1.1.0");
    assert!(metadata["product"]["vendor_name"].is_string());
    assert!(metadata["uid"].is_string() && metadata["sequence"].is_u64() && metadata["tenant_uid"].is_string());
    let any = |of: &Value, names: &[&str]| names.iter().any(|n| of.get(n).is_some());
    assert!(any(&event["actor"], &["process", "user", "invoked_by", "session", "app_name", "app_uid"]));
    for user in [&event["actor"]["user"], &event["user"]].into_iter().filter(|u| !u.is_null()) {
        assert!(
            any(user, &["account", "name", "uid"]) && matches!(user["type_id"].as_u64(), Some(0..=3 | 99)),
            "{user}"
        );
    }
    match class {
        6003 => {
            assert!(event["api"]["operation"].is_string());
            for end in ["src_endpoint", "dst_endpoint"] {
                assert!(any(&event[end], &["ip", "uid", "name", "hostname", "svc_name"]), "{end}");
            }
        }
        3002 => assert!(any(&event["service"], &["name", "uid"]), "at least one of service and dst_endpoint"),
        _ => assert!(any(&event["entity"], &["name", "uid"]) && event["entity"]["type"].is_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_of_the_ocsf_classes_that_they_name() {
    let world = World::new().await.unwrap();
    for amount in [40, 400, 100_000] {
        submit(&world, amount).await;
    }
    world.clock.advance_millis(3_601_000);
    world.runtime.close_overdue().await.unwrap();
    let (halt, _) = world.runtime.halt(&world.owner, None, "drill").await.unwrap();
    world.runtime.resume(&world.owner, halt, "over").await.unwrap();
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    let events = fake.events();
    events.iter().for_each(hold_against_ocsf);
    let of = |kind: &str| events.iter().filter(|e| e["metadata"]["event_code"] == kind).collect::<Vec<_>>();
    let decisions = of("decision");
    let outcomes: Vec<_> = decisions
        .iter()
        .map(|e| (e["unmapped"]["decision"].as_str().unwrap(), e["status_id"].as_u64().unwrap()))
        .collect();
    assert_eq!(outcomes, [("allow", 1), ("escalate", 99), ("deny", 2)]);
    let allowed = decisions[0];
    let entry = world.runtime.store().entry(&world.owner.tenant.id, index(allowed)).await.unwrap().unwrap();
    assert_eq!(allowed["unmapped"]["leaf_hash"], intended_ledger::leaf_hash(&entry.leaf).to_string());
    assert_eq!(allowed["actor"]["user"]["uid"], "support-agent");
    assert_eq!(allowed["api"]["operation"], "stripe.create_refund");
    assert_eq!(allowed["resources"][0]["uid"], "ch_1");
    assert!(allowed["unmapped"]["risk"].is_u64() && allowed["unmapped"]["reason"] == "policy.permit");
    assert!(!allowed.to_string().contains("amount"), "arguments stay in the ledger: {allowed}");
    // A deferral or an escalation, and what became of it, know each other.
    let (asked, closed) = (decisions[1], of("escalation.closed")[0]);
    assert_eq!(asked["metadata"]["correlation_uid"], closed["metadata"]["correlation_uid"]);
    assert!(
        asked["unmapped"]["open_until"].is_u64() && closed["unmapped"]["entry"]["reason"] == "escalation.timed_out"
    );
    assert_eq!(
        (of("halt.thrown")[0]["severity_id"].as_u64(), of("halt.thrown")[0]["comment"].as_str()),
        (Some(5), Some("drill"))
    );
    // No key of anybody's.
    assert!(events.iter().all(|e| !e.to_string().contains(&world.owner_key)));
}

/// AARM v1.0, R8: what is exported includes deferrals and what became of them.
#[tokio::test(flavor = "multi_thread")]
async fn aarm_r8_deferrals_and_their_resolution_are_exported() {
    let world = World::new().await.unwrap();
    let files = [
        ("pack.toml", "name = \"later\"\nversion = \"1\"\n"),
        ("a.cedar", "@id(\"later\")\n@defer(\"ticket\")\npermit (principal, action, resource);\n"),
    ];
    let files = files.into_iter().map(|(n, t)| (n.to_owned(), t.to_owned())).collect();
    world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), files).await.unwrap();
    submit(&world, 40).await;
    world.clock.advance_millis(3_601_000);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 1);
    for format in [Format::Ocsf, Format::Cef] {
        let name = if format == Format::Ocsf { "ocsf" } else { "cef" };
        let kinds = vec!["decision".to_owned(), "escalation.closed".to_owned()];
        let filter = Filter { kinds, ..Filter::default() };
        let (fake, mut exporter) = sink(SinkSpec { format, ..spec(name, filter) });
        drain(&world, &mut exporter).await;
        let lines = fake.taken().concat();
        assert_eq!(lines.len(), 2, "{lines:?}");
        if format == Format::Ocsf {
            let events: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
            assert_eq!(
                (&events[0]["status"], &events[0]["unmapped"]["decision"]),
                (&json!("Deferred"), &json!("defer"))
            );
            assert_eq!(events[0]["metadata"]["correlation_uid"], events[1]["metadata"]["correlation_uid"]);
            assert_eq!(events[1]["unmapped"]["entry"]["reason"], "escalation.timed_out");
        } else {
            let of = |line: &str| read_cef(line).1.into_iter().find(|(k, _)| k == "cs4").unwrap().1;
            assert!(lines[0].contains("outcome=defer reason=policy.defer"), "{}", lines[0]);
            assert_eq!(of(&lines[0]), of(&lines[1]));
        }
    }
}

#[test]
fn cef_escapes_whatever_would_end_a_field_a_line_or_a_value() {
    assert_eq!(cef::header(r"a|b\c=d"), r"a\|b\\c=d");
    assert_eq!(cef::header("a\nb\r\nc\u{1b}[31m"), "a b  c\u{fffd}[31m");
    assert_eq!(cef::extension(r"a|b\c=d"), r"a|b\\c\=d");
    assert_eq!(cef::extension("a\nb\r\nc act=rm\u{2028}\0"), "a\\nb\\r\\nc act\\=rm\u{fffd}\u{fffd}");
}

/// Reads a CEF line as a collector does.
fn read_cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    assert!(!line.contains(['\n', '\r']));
    let (mut fields, mut at, mut chars) = (vec![String::new()], 0, line.char_indices());
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => fields.last_mut().unwrap().push(chars.next().unwrap().1),
            '|' if fields.len() == 7 => {
                at = i + 1;
                break;
            }
            '|' => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    // A member begins behind a blank with a word and an `=` that no backslash stands before.
    let rest = &line[at..];
    let mut members: Vec<(String, String)> = Vec::new();
    for word in rest.split(' ') {
        let key = word.split_once('=').filter(|(k, _)| !k.is_empty() && k.bytes().all(|b| b.is_ascii_alphanumeric()));
        match key {
            Some((key, value)) => members.push((key.to_owned(), value.to_owned())),
            None => {
                let last = &mut members.last_mut().unwrap().1;
                last.push(' ');
                last.push_str(word);
            }
        }
    }
    let unescape = |v: &str| v.replace("\\n", "\n").replace("\\=", "=").replace("\\\\", "\\");
    (fields, members.into_iter().map(|(k, v)| (k, unescape(&v))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn cef_says_the_same_and_nothing_that_was_written_changes_what_it_says() {
    let world = World::new().await.unwrap();
    submit(&world, 40).await;
    let nasty = "x|y=z\nCEF:0|Evil|Evil|1|1|fake|1|act=allowed outcome=allow \\";
    world.runtime.halt(&world.owner, None, nasty).await.unwrap();
    let (fake, mut exporter) = sink(SinkSpec { format: Format::Cef, ..spec("soc", Filter::default()) });
    drain(&world, &mut exporter).await;
    let lines = fake.taken().concat();
    assert_eq!(lines.len() as u64, size(&world).await);
    let read: Vec<_> = lines.iter().map(|l| read_cef(l)).collect();
    assert!(read.iter().all(|(f, _)| f.len() == 7 && f[0] == "CEF:0" && f[1] == "Intended"));
    let get = |members: &[(String, String)], name: &str| {
        let found: Vec<_> = members.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect();
        assert!(found.len() <= 1, "{name} stands twice");
        found.into_iter().next()
    };
    let (fields, decision) = read.iter().find(|(f, _)| f[4].starts_with("decision/")).unwrap();
    assert_eq!((fields[4].as_str(), fields[6].as_str()), ("decision/policy.permit", "1"));
    assert_eq!(get(decision, "act").as_deref(), Some("stripe.create_refund"));
    assert_eq!(get(decision, "outcome").as_deref(), Some("allow"));
    assert_eq!(get(decision, "cs6").as_deref(), Some("s|1="));
    let (fields, halt) = read.iter().find(|(f, _)| f[4] == "halt.thrown").unwrap();
    assert_eq!(fields[6], "10");
    assert_eq!(get(halt, "reason").as_deref(), Some(nasty));
    assert_eq!(get(halt, "act").as_deref(), Some("halt.thrown"));
    assert!(get(halt, "externalId").unwrap().starts_with("acme/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_status_say_how_far_a_sink_has_come() {
    let (world, app, key) = app().await;
    let (fake, exporter) = sink(spec("soc", Filter::default()));
    world.runtime.set_sinks(vec![exporter.sink()]);
    fake.then(Err("connection refused".to_owned()));
    let mut exporter = exporter;
    world.runtime.export_round(&mut exporter).await;
    world.clock.advance_millis(90_000);
    let get = async |path: &str| {
        let (status, body) = call(&app, "GET", path, Some(&key), None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    };
    let rows = get("/v1/tenants/acme/siem").await;
    let total = size(&world).await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let row = &rows[0];
    assert_eq!((&row["sink"], &row["state"], &row["failures"]), (&json!("soc"), &json!("failing"), &json!(1)));
    assert_eq!(
        (&row["lag_entries"], &row["lag_seconds"], &row["last_error"]),
        (&json!(total), &json!(90), &json!("connection refused"))
    );
    let check = async || {
        let health = get("/healthz").await;
        let ledger =
            health["components"].as_array().unwrap().iter().find(|c| c["component"] == "audit ledger").unwrap().clone();
        ledger["checks"].as_array().unwrap().iter().find(|c| c["check"] == "siem").unwrap().clone()
    };
    let failing = check().await;
    assert_eq!(failing["status"], "degraded");
    assert!(failing["detail"].as_str().unwrap().contains("entries behind for 90 s; connection refused"), "{failing}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    drain(&world, &mut exporter).await;
    assert_eq!(check().await["status"], "healthy");
    let row = get("/v1/tenants/acme/siem").await[0].clone();
    assert_eq!((&row["state"], &row["lag_entries"], &row["exported"]), (&json!("ok"), &json!(0), &json!(total)));

    // A test event, in its turn, that nobody takes for something that happened.
    let running = tokio::spawn(Arc::clone(&world.runtime).export(exporter));
    fake.taken();
    let test = "/v1/tenants/acme/siem/soc/test";
    let (status, tested) = call(&app, "POST", test, Some(&key), None).await;
    assert_eq!((status, &tested["sent"]), (200, &json!(true)), "{tested}");
    let events = fake.events();
    assert_eq!(
        (events.len(), &events[0]["metadata"]["labels"], &events[0]["unmapped"]["test"]),
        (1, &json!(["test"]), &json!(true))
    );
    events.iter().for_each(hold_against_ocsf);
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/siem/none/test", Some(&key), None).await.0, 404);
    let narrow =
        json!({"credential": "watcher", "environments": ["staging"], "scopes": ["status:read", "access:write"]});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&narrow)).await;
    assert_eq!(call(&app, "POST", test, made["key"].as_str(), None).await.0, 403);
    running.abort();
    let unique: BTreeSet<u64> = fake.indexes().into_iter().collect();
    assert!(unique.len() <= 1, "what was sent is not sent again: {unique:?}");
}

/// The decision and the use of its token; of what is real, neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_is_marked_so_that_nobody_counts_it_as_a_call() {
    let (world, app, key) = app().await;
    let at = "/v1/tenants/acme/tokens";
    let body = json!({"environment": "production"});
    let (_, decided) = call(&app, "POST", &format!("{at}/test"), Some(&key), Some(&body)).await;
    let verify = json!({
        "token": decided["token"], "class": "synthetic", "environment": "production",
        "intent_hash": decided["intent_hash"], "consume": true,
    });
    let (_, used) = call(&app, "POST", &format!("{at}/verify"), Some(&key), Some(&verify)).await;
    submit(&world, 1).await;
    let (synthetic, real) =
        (decided["receipt"]["index"].as_u64().unwrap(), used["consumed_index"].as_u64().unwrap() + 1);
    let (fake, mut exporter) = sink(spec("soc", Filter::default()));
    drain(&world, &mut exporter).await;
    let events = fake.events();
    let class = |at: u64| &events[usize::try_from(at).unwrap()]["unmapped"]["intent_class"];
    assert_eq!([class(synthetic), class(synthetic + 1), class(real)], ["synthetic", "synthetic", "traffic"]);
    assert_eq!(class(0), &Value::Null);
    let (fake, mut exporter) = sink(SinkSpec { format: Format::Cef, ..spec("arc", Filter::default()) });
    drain(&world, &mut exporter).await;
    let lines = fake.taken().concat();
    let marked: Vec<bool> = lines.iter().map(|l| l.contains("flexString1=synthetic")).collect();
    let wanted: Vec<bool> = (0..lines.len() as u64).map(|at| at == synthetic || at == synthetic + 1).collect();
    assert_eq!(marked, wanted);
}
