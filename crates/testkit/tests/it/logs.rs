//! The log: a line for each request where it is wanted, nothing where it is not, and never a secret.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request};
use intended_keyring::totp::step;
use intended_model::entry::Role;
use intended_telemetry::{Format, Queue, Room, Share, Traces};
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, PARENT, app, call, raw};
use crate::sign_in::{PASSWORD, member, unbase32, whole};
use crate::traces::{Collector, Does, PACE};

/// Where lines are kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
    /// The lines of this thread.
    fn listen(&self, format: Format, levels: &str) -> tracing::subscriber::DefaultGuard {
        let subscriber = intended_telemetry::subscriber(format, levels.into(), self.clone(), None);
        tracing::subscriber::set_default(subscriber)
    }
}

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_request_has_one_line_that_names_its_route_its_decision_and_its_ids() {
    let (_world, app, key) = app().await;
    // AuthZEN names no environment: a credential of one.
    let one = json!({"credential": "one", "environments": ["production"], "scopes": ["intent:submit"]});
    let (_, one) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&one)).await;
    let in_one = one["key"].as_str().unwrap().to_owned();
    let kept = Kept::default();
    let _listening = kept.listen(Format::Json, "info");
    let request = Request::post(format!("{INTENTS}?audience=https://pep.example"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("x-request-id", "mine\t\"1\"")
        .header("traceparent", PARENT);
    let answer = app.clone().oneshot(request.body(Body::from(GOOD)).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let decided: Value = serde_json::from_slice(&body).unwrap();
    let lines = kept.lines();
    assert_eq!(lines.len(), 1, "{}", kept.text());
    let line = &lines[0];
    for (name, value) in [
        ("level", json!("INFO")),
        ("target", json!("intended::access")),
        ("message", json!("request")),
        ("method", json!("POST")),
        ("route", json!("/v1/tenants/{tenant}/intents")),
        ("status", json!(200)),
        ("decision", json!("allow")),
        ("reason", decided["reason"].clone()),
        ("intent", decided["id"].clone()),
        ("tenant", json!("acme")),
        ("environment", json!("production")),
        ("request_id", json!("mine\t\"1\"")),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert!(line["duration_us"].as_u64().unwrap() > 0 && line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    let id = decided["id"].as_str().unwrap();
    call(&app, "GET", &format!("{INTENTS}/{id}?wait=bad"), Some(&key), None).await;
    call(&app, "GET", "/v1/nothing/of/the/kind", Some(&key), None).await;
    call(&app, "POST", INTENTS, Some("int_live_x"), Some(&json!({}))).await;
    call(&app, "BREW", "/livez", None, None).await;
    let good: Value = serde_json::from_str(GOOD).unwrap();
    let batch = json!({"evaluations": [good, {"subject": {}}, good]});
    let (status, _) = call(&app, "POST", "/access/v1/evaluations", Some(&in_one), Some(&batch)).await;
    assert_eq!(status, 200);
    let lines = kept.lines();
    let [_, shown, unmatched, stranger, brew, several] = &lines[..] else { panic!("{}", kept.text()) };
    assert_eq!(
        (&shown["intent"], &shown["reason"], &shown["status"]),
        (&json!(id), &json!("request.invalid"), &json!(400))
    );
    assert_eq!((&unmatched["route"], &unmatched["status"]), (&json!("unmatched"), &json!(404)));
    assert_eq!(stranger["status"], json!(401));
    assert!(
        stranger["reason"].as_str().unwrap().starts_with("credential.") && stranger["tenant"].is_null(),
        "{stranger}"
    );
    assert_eq!((&brew["method"], &brew["status"]), (&json!("_OTHER"), &json!(405)));
    assert_eq!((&several["decisions"], &several["decision"]), (&json!(2), &Value::Null), "{several}");
}

#[tokio::test]
async fn at_the_usual_level_a_decision_writes_nothing_and_what_goes_wrong_names_its_request() {
    let (world, app, key) = app().await;
    let kept = Kept::default();
    let _listening = kept.listen(Format::Json, "warn");
    assert_eq!(raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await.0, 200);
    assert_eq!(kept.text(), "");
    world.runtime.close().await.unwrap();
    let request = Request::post(INTENTS)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .header("x-request-id", "r-1")
        .body(Body::from(GOOD));
    let answer = app.clone().oneshot(request.unwrap()).await.unwrap();
    assert!(answer.status().is_server_error(), "{}", answer.status());
    let lines = kept.lines();
    let about = lines.iter().filter(|l| l["request_id"] == "r-1" && l["tenant"] == "acme").count();
    assert!(about > 0, "{}", kept.text());
}

#[tokio::test]
async fn a_line_of_text_is_one_line_whatever_is_in_it() {
    let kept = Kept::default();
    let _listening = kept.listen(Format::Text, "info");
    let nasty = "x\u{1b}[2J\n2026-01-01T00:00:00.000Z  INFO intended: all is well\u{9b}31m\u{202e}";
    tracing::warn!(what = nasty, why = %nasty, number = 7, "it said {nasty}");
    let text = kept.text();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.ends_with('\n') && !text.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
    assert!(
        text.contains(" WARN ") && text.contains(" number=7") && text.contains("what=\"x\\u001b[2J\\n"),
        "{text:?}"
    );
}

/// Ways to say who one is that are none.
fn malformed(secret: &str) -> Vec<Vec<u8>> {
    let texts = [
        secret.to_owned(),
        format!("Bearer{secret}"),
        format!("Bearer  {secret} {secret}"),
        format!("Basic {secret}"),
        format!("bearer\t{secret}"),
        format!("Bearer int_live_{secret}"),
        format!("Bearer int_sess_{secret}.acme"),
        format!("Bearer int_ops_{secret}"),
        format!("Bearer {secret}, Bearer {secret}"),
        format!("DPoP {secret}"),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push([b"Bearer \xff\xfe", secret.as_bytes()].concat());
    all
}

/// Everything that could be taken for a secret, at every place where one can get in, along every route,
/// with all that is logged and traced at the finest level.
async fn nothing_leaks(format: Format) {
    let kept = Kept::default();
    let collector = Collector::that(Does::Takes);
    let traces = Traces::start(collector.clone(), "here/1".to_owned(), Share::new(1.0, [7; 32]), 1 << 16, PACE);
    let subscriber = intended_telemetry::subscriber(format, "trace".into(), kept.clone(), Some(&traces));
    tracing::subscriber::set_global_default(subscriber).expect("each test is a process of its own");

    let world = World::new().await.unwrap();
    let app = traces.over(intended_api::router(intended_api::App::new(world.runtime.clone())));
    let key = world.owner_key.clone();
    let planted = "PLANTED-7f3a";
    let mut secrets = vec![planted.to_owned(), key.clone(), PASSWORD.to_owned(), "07".repeat(32)];

    // What the server itself hands out.
    member(&world, "alice", vec![whole(Role::Admin)]).await;
    let (_, link) = call(&app, "POST", "/v1/tenants/acme/members/alice/links", Some(&key), None).await;
    let link = link["code"].as_str().unwrap().to_owned();
    let sessions = "/v1/tenants/acme/sessions";
    let (_, begun) = call(&app, "POST", sessions, None, Some(&json!({"link": link}))).await;
    let session = begun["key"].as_str().unwrap().to_owned();
    let at = |what: &str| format!("/v1/tenants/acme/members/alice/{what}");
    let ask = async |method: &str, path: &str, key: Option<&str>, body: Value| {
        call(&app, method, path, key, Some(&body)).await
    };
    assert_eq!(ask("PUT", &at("password"), Some(&session), json!({"password": PASSWORD})).await.0, 200);
    let (_, enrolled) = call(&app, "POST", &at("totp"), Some(&session), None).await;
    let base32 = enrolled["secret"].as_str().unwrap().to_owned();
    let code = unbase32(&base32).code(step(world.runtime.now())).to_string();
    assert_eq!(ask("PUT", &at("totp"), Some(&session), json!({"code": code})).await.0, 200);
    world.clock.advance_millis(60_000);
    let code = unbase32(&base32).code(step(world.runtime.now())).to_string();
    let right = json!({"member": "alice", "password": PASSWORD, "code": code});
    assert_eq!(ask("POST", sessions, None, right).await.0, 201);
    let (_, made) = ask(
        "POST",
        "/v1/tenants/acme/credentials",
        Some(&key),
        json!({"credential": "ci", "environments": ["staging"], "scopes": ["intent:read"]}),
    )
    .await;
    let minted = made["key"].as_str().unwrap().to_owned();
    call(&app, "GET", INTENTS, Some(&minted), None).await;
    call(&app, "GET", INTENTS, Some(&format!("{}x", &minted[..minted.len() - 1])), None).await;
    let (_, decided) =
        raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.replace("ch_1", planted).into()), "application/json").await;
    let token = decided["token"].as_str().unwrap().to_owned();
    let verify = json!({"token": token, "environment": "production", "consume": true});
    call(&app, "POST", "/v1/tenants/acme/tokens/verify", Some(&key), Some(&verify)).await;
    // Every kind of answer to an intent, each with something in its arguments.
    for tool in ["stripe.create_refund", "crm.delete_customer", "unknown.tool", "orders.get_order"] {
        for amount in ["40", "400", "999999", "\"PLANTED-7f3a\"", "1e400"] {
            let body = GOOD
                .replace("stripe.create_refund", tool)
                .replace("\"amount\":40", &format!("\"note\":\"{planted}\",\"amount\":{amount}"));
            raw(&app, "POST", INTENTS, Some(&key), Some(body.into()), "application/json").await;
        }
    }
    secrets.extend([link, session.clone(), base32, minted, token]);

    // And what callers bring along, to every route.
    let body = json!({
        "password": planted, "code": planted, "link": planted, "secret": planted, "key": planted, "token": planted,
        "client_secret": planted, "state": planted, "reason": planted, "member": planted, "url": format!("https://{planted}.example/{planted}"),
        "context": {planted: planted}, planted: planted,
    });
    let mut walked = 0;
    for (method, path) in crate::access_walk::routes() {
        if path.ends_with("/events") {
            continue;
        }
        let filled = path.replace("{tenant}", "acme");
        let filled: String = {
            let mut out = filled;
            while let (Some(from), Some(to)) = (out.find('{'), out.find('}')) {
                out.replace_range(from..=to, planted);
            }
            out
        };
        let query = format!("{filled}?token={planted}&key={planted}&{planted}=1");
        let send = async |path: &str, authorization: Option<&[u8]>, body: Vec<u8>, kind: &str| {
            let mut request = Request::builder()
                .method(&*method)
                .uri(path)
                .header("cookie", format!("session={planted}"))
                .header("x-api-key", planted)
                .header("idempotency-key", planted)
                .header("proxy-authorization", planted)
                .header("traceparent", planted)
                .header("x-forwarded-for", planted)
                .header("content-type", kind);
            if let Some(value) = authorization {
                request = request.header("authorization", HeaderValue::from_bytes(value).unwrap());
            }
            let answer = app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
            axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        };
        let json = body.to_string().into_bytes();
        let owner = format!("Bearer {key}");
        for value in malformed(planted) {
            send(&query, Some(&value), json.clone(), "application/json").await;
        }
        send(&query, None, json.clone(), "application/json").await;
        for body in
            [json.clone(), format!("{{\"{planted}\":").into_bytes(), format!("\"{planted}\"").into_bytes(), Vec::new()]
        {
            for path in [&filled, &query] {
                send(path, Some(owner.as_bytes()), body.clone(), "application/json").await;
            }
        }
        send(&filled, Some(owner.as_bytes()), json, &format!("text/{planted}")).await;
        walked += 1;
    }
    assert!(walked > 70, "{walked}");
    send_unmatched(&app, planted).await;
    let counts = traces.counts();
    traces.stop(std::time::Duration::from_secs(60)).await;
    let [exported, dropped, _] = counts.read();
    assert!(exported > 1000 && dropped == 0, "{exported} {dropped}");

    let spans = String::from_utf8_lossy(&collector.got.lock().unwrap().concat()).into_owned();
    let log = kept.text();
    assert!(log.contains("intended::access") && log.contains("/v1/tenants/{tenant}/sessions"), "it was listened to");
    assert!(spans.contains("/v1/tenants/{tenant}/sessions"));
    for (place, text) in [("the log", &log), ("the spans", &spans)] {
        for secret in &secrets {
            if let Some(line) = text.lines().find(|l| l.contains(secret.as_str())) {
                panic!("{secret} is in {place}: {line}");
            }
        }
    }
}

async fn send_unmatched(app: &axum::Router, planted: &str) {
    for (method, path) in [
        ("GET", format!("/{planted}")),
        (planted, "/livez".to_owned()),
        ("GET", format!("/v1/tenants/{planted}/intents")),
    ] {
        call(app, method, &path, None, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_into_a_line_of_text_or_a_span_along_any_route() {
    nothing_leaks(Format::Text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_into_a_line_of_json_or_a_span_along_any_route() {
    nothing_leaks(Format::Json).await;
}

/// A reader that stands still: whoever writes to it waits without end.
struct Stalled(mpsc::Sender<()>);

impl std::io::Write for Stalled {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(());
        loop {
            std::thread::park();
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_of_the_log_that_stands_still_holds_up_no_decision_and_no_halt() {
    let (stuck, is_stuck) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    // Watched from outside: a thread that waits for the log cannot say so.
    let server = async move {
        let world = World::new().await.unwrap();
        let key = world.owner_key.clone();
        let queue = Queue::start(Format::Json, Stalled(stuck), Room { lines: 1, bytes: 1 << 20 }).unwrap();
        let app = intended_api::App::new(world.runtime.clone()).logged(queue.counts());
        let app = intended_api::router(app);
        let subscriber = intended_telemetry::subscriber_to(Format::Json, "info".into(), queue.clone(), None);
        let _listening = tracing::subscriber::set_default(subscriber);
        tracing::info!("at this line it stands still");
        is_stuck.recv().unwrap();
        tracing::info!("and there is room for this one");
        ready.send(()).unwrap();
        let decided = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await.0;
        let reason = json!({"reason": "drill"});
        let halted = call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&key), Some(&reason)).await.0;
        let request = Request::get("/metrics").header("authorization", format!("Bearer {key}"));
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let page = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        done.send((decided, halted, String::from_utf8_lossy(&page).into_owned())).unwrap();
    };
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(server);
    });
    is_ready.recv_timeout(Duration::from_secs(60)).unwrap();
    let (decided, halted, page) = is_done.recv_timeout(Duration::from_secs(1)).expect("nobody waits for the log");
    assert_eq!((decided, halted), (200, 201));
    let lost = page.lines().find_map(|l| l.strip_prefix("intended_log_lines_dropped_total ")?.parse::<u64>().ok());
    assert!(lost.is_some_and(|n| n >= 2), "the lines of both requests are counted: {page}");
}
