//! Signing in over HTTP: strict, tight-lipped, and with no secret where none belongs.

use axum::body::Body;
use http::Request;
use intended_keyring::totp::step;
use intended_model::entry::Role;
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{app, call, raw};
use crate::sign_in::{PASSWORD, id, member, unbase32, whole};

const SESSIONS: &str = "/v1/tenants/acme/sessions";

async fn invited(world: &World, app: &axum::Router, key: &str, name: &str, role: Role) -> String {
    member(world, name, vec![whole(role)]).await;
    let path = format!("/v1/tenants/acme/members/{name}/links");
    let (status, link) = call(app, "POST", &path, Some(key), None).await;
    assert_eq!(status, 201, "{link}");
    link["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_invited_sets_a_password_and_an_authenticator_and_signs_in() {
    let (world, app, key) = app().await;
    let link = invited(&world, &app, &key, "alice", Role::Admin).await;
    let (status, first) = call(&app, "POST", SESSIONS, None, Some(&json!({"link": link}))).await;
    assert_eq!(status, 201, "{first}");
    let session = first["key"].as_str().unwrap();
    assert!(session.starts_with("int_sess_") && session.ends_with(".acme"), "{session}");
    let at = |what: &str| format!("/v1/tenants/acme/members/alice/{what}");
    let weak = json!({"password": "alice is my name"});
    let (status, problem) = call(&app, "PUT", &at("password"), Some(session), Some(&weak)).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("sign_in.weak")));
    assert_eq!(call(&app, "PUT", &at("password"), Some(session), Some(&json!({"password": PASSWORD}))).await.0, 200);
    let (status, enrolled) = call(&app, "POST", &at("totp"), Some(session), None).await;
    assert_eq!(status, 201);
    assert!(enrolled["uri"].as_str().unwrap().starts_with("otpauth://totp/"));
    let secret = unbase32(enrolled["secret"].as_str().unwrap());
    let code = |world: &World| json!(secret.code(step(world.runtime.now())).as_str());
    assert_eq!(call(&app, "PUT", &at("totp"), Some(session), Some(&json!({"code": code(&world)}))).await.0, 200);
    world.clock.advance_millis(30_000);
    let mut body = json!({"member": "alice", "password": PASSWORD});
    let (status, problem) = call(&app, "POST", SESSIONS, None, Some(&body)).await;
    assert_eq!((status, problem["code"].as_str()), (401, Some("sign_in.second_factor")));
    body["code"] = code(&world);
    let (status, signed_in) = call(&app, "POST", SESSIONS, None, Some(&body)).await;
    assert_eq!(status, 201, "{signed_in}");
    let session = signed_in["key"].as_str().unwrap();
    let (_, who) = call(&app, "GET", "/v1/tenants/acme/session", Some(session), None).await;
    assert_eq!(
        (&who["member"], &who["acts_as"], &who["method"]),
        (&json!("alice"), &json!("member.alice"), &json!("password"))
    );
    assert_eq!(who["grants"][0]["role"], "admin");
    assert!(who["whole"].as_array().unwrap().contains(&json!("access:write")), "{who}");
    assert_eq!(who["sign_in"], json!(["password", "totp", "link"]));
    let (_, list) = call(&app, "GET", &at("sessions"), Some(session), None).await;
    let rows = list.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{list}");
    assert_eq!(rows.iter().filter(|r| r["current"] == true).count(), 1);
    let other = rows.iter().find(|r| r["current"] == false).unwrap()["session"].as_str().unwrap();
    assert_eq!(call(&app, "DELETE", &at(&format!("sessions/{other}")), Some(session), None).await.0, 200);
    let out = format!("{SESSIONS}/current");
    assert_eq!(call(&app, "DELETE", &out, Some(session), None).await.0, 200);
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/session", Some(session), None).await.0, 401);
    assert_eq!(call(&app, "DELETE", &out, Some(&key), None).await.0, 403, "an API key has no session");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_is_read_strictly_and_briefly() {
    let (_world, app, _key) = app().await;
    for (body, code) in [
        (json!({}), "request.invalid"),
        (json!({"member": "alice"}), "request.invalid"),
        (json!({"member": "alice", "password": "x", "link": "y"}), "request.invalid"),
        (json!({"member": "alice", "password": "x", "role": "owner"}), "request.unknown_field"),
        // Nobody brings their own key along, or says who they are besides.
        (json!({"member": "alice", "password": "x", "key": "int_sess_mine"}), "request.unknown_field"),
        (json!({"member": "alice", "password": ["hunter2hunter2"]}), "request.invalid"),
        (json!({"member": "alice", "password": 12_345_678}), "request.invalid"),
    ] {
        let (status, problem) = call(&app, "POST", SESSIONS, None, Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some(code)), "{body}: {problem}");
        assert!(!problem.to_string().contains("hunter2") && !problem.to_string().contains("12345678"), "{problem}");
    }
    let long = json!({"member": "alice", "password": "x".repeat(5_000)}).to_string().into_bytes();
    assert_eq!(raw(&app, "POST", SESSIONS, None, Some(long), "application/json").await.0, 413);
    assert_eq!(raw(&app, "POST", SESSIONS, None, Some(b"{}".to_vec()), "text/plain").await.0, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_locked_out_is_told_when_to_come_back_and_a_tenant_that_is_not_there_locks_too() {
    let (_world, app, _key) = app().await;
    for tenant in ["acme", "nowhere"] {
        let path = format!("/v1/tenants/{tenant}/sessions");
        let body = json!({"member": "alice", "password": "not it, surely not"});
        for _ in 0..5 {
            let (status, problem) = call(&app, "POST", &path, None, Some(&body)).await;
            assert_eq!((status, problem["code"].as_str()), (401, Some("sign_in.failed")), "{tenant}");
        }
        let request = Request::post(&path).header("content-type", "application/json");
        let answer = app.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_and_ends_nothing_of_another_tenant() {
    let (world, app, key) = app().await;
    let other = intended_model::TenantId::new("other").unwrap();
    let environments = [(
        intended_testkit::environment("production").unwrap(),
        intended_model::entry::Tier::Production,
        Default::default(),
    )];
    let foreign = world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key;
    let link = invited(&world, &app, &key, "alice", Role::Owner).await;
    let (_, begun) = call(&app, "POST", SESSIONS, None, Some(&json!({"link": link}))).await;
    let (session, hash) = (begun["key"].as_str().unwrap(), begun["session"].as_str().unwrap());
    for path in ["session", "members", "members/alice/sessions", "identity-providers"] {
        let (status, problem) = call(&app, "GET", &format!("/v1/tenants/other/{path}"), Some(session), None).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{path}");
    }
    let end = format!("/v1/tenants/other/members/alice/sessions/{hash}");
    assert_eq!(call(&app, "DELETE", &end, Some(&foreign), None).await.0, 404);
    assert_eq!(call(&app, "DELETE", &end.replace("other", "acme"), Some(&foreign), None).await.0, 404);
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/session", Some(session), None).await.0, 200);
    // A link of one tenant opens no other.
    let link = invited(&world, &app, &key, "bob", Role::Owner).await;
    let (status, _) = call(&app, "POST", "/v1/tenants/other/sessions", None, Some(&json!({"link": link}))).await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_people_and_groups_hold_no_script_and_nothing_invisible() {
    let (_world, app, key) = app().await;
    let put = async |path: &str, body: Value| {
        let (status, problem) = call(&app, "PUT", &format!("/v1/tenants/acme/{path}"), Some(&key), Some(&body)).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let unsafe_text = (400, "request.text_unsafe".to_owned());
    for bad in ["<script>alert(1)</script>", "a\u{202e}b", "a\u{0}b", "bell\u{7}", "zero\u{200b}width", "esc\u{1b}[2J"]
    {
        assert_eq!(put("members/alice", json!({"active": true, "name": bad})).await, unsafe_text, "{bad:?}");
        assert_eq!(put("members/alice", json!({"active": true, "email": bad})).await, unsafe_text, "{bad:?}");
        let mappings = json!({bad: {"groups": ["x"]}});
        let body = json!({"issuer": "https://id.example", "client_id": "c", "mappings": mappings});
        assert_eq!(put("identity-providers/corp", body).await, unsafe_text, "{bad:?}");
    }
    assert_eq!(
        put("members/alice", json!({"active": true, "name": "Ælfrīc O'Hara", "email": "a@b.example"})).await.0,
        200
    );
}

/// Every planted secret, looked for in all that is written, shown or handed out.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_an_error_the_ledger_an_export_or_a_fact_in_clear() {
    let log = crate::sign_in_http::log::Log::default();
    let _guard = log.listen();
    let (world, app, key) = app().await;
    let link = invited(&world, &app, &key, "alice", Role::Owner).await;
    let (_, begun) = call(&app, "POST", SESSIONS, None, Some(&json!({"link": link}))).await;
    let session = begun["key"].as_str().unwrap().to_owned();
    let at = |what: &str| format!("/v1/tenants/acme/members/alice/{what}");
    let mut said = String::new();
    let mut ask = async |method: &str, path: &str, key: Option<&str>, body: Value| {
        let (status, answer) = call(&app, method, path, key, Some(&body)).await;
        said.push_str(&answer.to_string());
        (status, answer)
    };
    assert_eq!(ask("PUT", &at("password"), Some(&session), json!({"password": PASSWORD})).await.0, 200);
    let (_, enrolled) = call(&app, "POST", &at("totp"), Some(&session), None).await;
    let base32 = enrolled["secret"].as_str().unwrap().to_owned();
    let code = unbase32(&base32).code(step(world.runtime.now())).to_string();
    assert_eq!(ask("PUT", &at("totp"), Some(&session), json!({"code": code})).await.0, 200);
    let wrong = json!({"member": "alice", "password": "a planted wrong password", "code": "987654"});
    assert_eq!(ask("POST", SESSIONS, None, wrong).await.0, 401);
    assert_eq!(ask("POST", SESSIONS, None, json!({"link": link})).await.0, 401);
    world.runtime.reach_providers(intended_runtime::webhooks::Reach::new(vec!["127.0.0.0/8".parse().unwrap()]));
    let provider =
        json!({"issuer": "http://127.0.0.1:9", "client_id": "c", "client_secret": "a-planted-client-secret"});
    assert_eq!(ask("PUT", "/v1/tenants/acme/identity-providers/corp", Some(&key), provider).await.0, 200);
    let begin = "/v1/tenants/acme/identity-providers/corp/begin";
    assert_eq!(ask("POST", begin, None, json!({})).await.0, 502, "nobody is there");
    let finish = json!({"state": "a-planted-state", "code": "a-planted-code"});
    assert_eq!(ask("POST", &begin.replace("begin", "finish"), None, finish).await.0, 400);
    assert_eq!(ask("GET", "/v1/tenants/acme/identity-providers", Some(&key), json!({})).await.0, 200);
    let mangled = format!("{}x", &session[..session.len() - 1]);
    ask("GET", "/v1/tenants/acme/session", Some(&mangled), json!({})).await;

    let (_, leaves) = world.export().await.unwrap();
    let ledger: Vec<String> = leaves.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    let facts = world.runtime.store().facts(&world.owner.tenant.id, "", "", 100_000).await.unwrap();
    let facts: Vec<String> = facts.iter().map(|(k, f)| format!("{k} {}", String::from_utf8_lossy(&f.value))).collect();
    let by = world.runtime.authenticate(&session).unwrap();
    let debug = format!("{by:?} {:?} {:?}", world.runtime, by.tenant);
    let places = [
        ("a log line", log.text()),
        ("an answer", said),
        ("the ledger", ledger.join("\n")),
        ("a fact", facts.join("\n")),
        ("what is printed to look at it", debug),
    ];
    let secrets = [
        PASSWORD,
        "a planted wrong password",
        &link,
        &session,
        &base32,
        "a-planted-client-secret",
        "a-planted-state",
        "a-planted-code",
    ];
    for (place, text) in &places {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
    assert!(places[0].1.contains("intended"), "the log was listened to: {}", places[0].1);
    assert!(places[2].1.contains("sign_in.set") && places[3].1.contains("pw/alice v1."), "{}", places[3].1);
    assert_eq!(world.owner.tenant.state().members[&id("alice")].sign_in.len(), 3);
}

/// What would be logged, at every level.
mod log {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    pub struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        /// All threads of this process, as long as nothing else listens.
        pub fn listen(&self) -> impl Sized {
            let subscriber =
                tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(self.clone()).finish();
            let set = tracing::subscriber::set_global_default(subscriber);
            tracing::info!("intended: listening");
            set
        }
        pub fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }
}
