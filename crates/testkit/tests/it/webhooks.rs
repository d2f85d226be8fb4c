//! Webhooks, with a receiver that does what it is told to: what is sent, to whom, in which order, and
//! what comes of failures.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use intended_model::{Code, IntentId, Name};
use intended_runtime::webhooks::{EVENTS, Notifier, Post, RETRIES, Reach, WebhookSpec};
use intended_runtime::{Principal, Submission};
use intended_testkit::{World, environment, refund};
use serde_json::Value;

/// Answers what it is told to, then 204; keeps what it got.
#[derive(Default)]
struct Receiver {
    answers: Mutex<VecDeque<Result<u16, String>>>,
    got: Mutex<Vec<Post>>,
    reach: Reach,
}

impl Receiver {
    fn then(&self, answers: impl IntoIterator<Item = Result<u16, String>>) {
        self.answers.lock().unwrap().extend(answers);
    }
    fn taken(&self) -> Vec<Post> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

impl Notifier for Receiver {
    fn reach(&self) -> &Reach {
        &self.reach
    }
    fn post(&self, post: Post) -> Pin<Box<dyn Future<Output = Result<u16, String>> + Send>> {
        self.got.lock().unwrap().push(post);
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(204));
        Box::pin(async move { answer })
    }
}

fn header<'p>(post: &'p Post, name: &str) -> &'p str {
    &post.headers.iter().find(|(n, _)| *n == name).unwrap().1
}
fn body(post: &Post) -> Value {
    serde_json::from_slice(&post.body).unwrap()
}
fn spec(name: &str, events: &[&str], only: Option<&str>) -> WebhookSpec {
    WebhookSpec {
        webhook: Name::new(name).unwrap(),
        url: format!("https://hooks.acme.example/{name}").into(),
        events: events.iter().map(|e| (*e).into()).collect(),
        environment: only.map(|e| environment(e).unwrap()),
    }
}

async fn world() -> (World, Arc<Receiver>) {
    let world = World::new().await.unwrap();
    let receiver = Arc::new(Receiver::default());
    world.runtime.set_notifier(Arc::clone(&receiver) as Arc<dyn Notifier>);
    (world, receiver)
}

fn advance(world: &World, seconds: i64) {
    world.clock.advance_millis(seconds * 1000);
}

/// A refund that waits for a person.
async fn escalates(world: &World) -> IntentId {
    let submission = Submission { intent: refund(400, None).unwrap(), idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    assert_eq!(decided.record.decision.reason, Code::PolicyEscalate);
    decided.record.input.id
}
async fn allows(world: &World) {
    let submission = Submission { intent: refund(40, None).unwrap(), idempotency_key: None, audience: None };
    assert!(world.runtime.submit(&world.owner, submission).await.unwrap().token.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_people_is_sent_signed_to_who_asked_for_it_and_to_nobody_else() {
    let (world, receiver) = world().await;
    let all: Vec<&str> = EVENTS.to_vec();
    let (_, secret) = world.runtime.set_webhook(&world.owner, spec("all", &all, None)).await.unwrap();
    let secret = secret.unwrap();
    for other in [spec("closings", &["approval.closed"], None), spec("staging", &all, Some("staging"))] {
        world.runtime.set_webhook(&world.owner, other).await.unwrap();
    }
    allows(&world).await;
    let id = escalates(&world).await;
    assert_eq!(world.runtime.deliver_webhooks().await, 1, "an allow is nobody's to act on");
    let got = receiver.taken();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].url, "https://hooks.acme.example/all");
    let sent = body(&got[0]);
    assert_eq!(sent["type"], "approval.requested");
    assert_eq!(sent["data"]["intent"], id.to_string());
    assert_eq!(sent["data"]["agent"], "support-agent");
    assert_eq!(sent["data"]["approvals"][0]["group"], "support-leads");
    let text = String::from_utf8(got[0].body.clone()).unwrap();
    assert!(!text.contains("amount"), "arguments are for those who sign in: {text}");

    // Signed over id, time and body, with the secret as it was shown.
    let key = base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = format!("{}.{}.{text}", header(&got[0], "webhook-id"), header(&got[0], "webhook-timestamp"));
    let mac = intended_keyring::hmac_sha256(&key, signed.as_bytes());
    let expected = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac));
    assert_eq!(header(&got[0], "webhook-signature"), expected);

    // Nothing twice; and the timeout is told to both who asked.
    assert_eq!(world.runtime.deliver_webhooks().await, 0);
    advance(&world, 3_601);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 1);
    assert_eq!(world.runtime.deliver_webhooks().await, 2);
    let kinds: Vec<Value> = receiver.taken().iter().map(|p| body(p)["type"].clone()).collect();
    assert_eq!(kinds, ["approval.closed", "approval.closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_fails_is_tried_again_later_and_nothing_overtakes_it() {
    let (world, receiver) = world().await;
    world.runtime.set_webhook(&world.owner, spec("pager", &["approval.requested"], None)).await.unwrap();
    let (first, second) = (escalates(&world).await, escalates(&world).await);
    receiver.then([Err("no connection".to_owned()), Ok(500), Ok(302)]);
    assert_eq!(world.runtime.deliver_webhooks().await, 0);
    assert_eq!(world.runtime.deliver_webhooks().await, 0, "not before its time");
    let row = |world: &World| world.runtime.webhooks(&world.owner).unwrap().remove(0).1;
    assert_eq!((row(&world).attempt, row(&world).failed.unwrap()), (1, "no connection".to_owned()));

    // What was to be tried again is, by another process too.
    let world = world.reopen().await.unwrap();
    world.runtime.set_notifier(Arc::clone(&receiver) as Arc<dyn Notifier>);
    for (wait, why) in [(RETRIES[0], "the receiver answered 500"), (RETRIES[1], "the receiver answered 302")] {
        advance(&world, wait - 1);
        assert_eq!(
            (world.runtime.deliver_webhooks().await, receiver.got.lock().unwrap().len()),
            (
                0,
                match why {
                    "the receiver answered 500" => 1,
                    _ => 2,
                }
            )
        );
        advance(&world, 1);
        assert_eq!(world.runtime.deliver_webhooks().await, 0);
        assert_eq!(row(&world).failed.unwrap(), why);
    }
    advance(&world, RETRIES[2]);
    assert_eq!(world.runtime.deliver_webhooks().await, 2);
    let got = receiver.taken();
    let ids: Vec<String> = got.iter().map(|p| body(p)["data"]["intent"].as_str().unwrap().to_owned()).collect();
    let (first, second) = (first.to_string(), second.to_string());
    assert_eq!(ids, [&first, &first, &first, &first, &second].map(String::as_str));
    let names: Vec<&str> = got.iter().map(|p| header(p, "webhook-id")).collect();
    assert!(names[..4].iter().all(|n| *n == names[0]) && names[4] != names[0], "an attempt is known by its id");
    let row = row(&world);
    assert_eq!((row.attempt, row.delivered, row.failed), (0, 2, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_is_given_up_on_and_one_that_is_gone_is_left_alone() {
    let (world, receiver) = world().await;
    world.runtime.set_webhook(&world.owner, spec("pager", &["approval.requested"], None)).await.unwrap();
    escalates(&world).await;
    receiver.then(std::iter::repeat_n(Ok(503), RETRIES.len() + 1));
    assert_eq!(world.runtime.deliver_webhooks().await, 0);
    for wait in RETRIES {
        advance(&world, wait);
        assert_eq!(world.runtime.deliver_webhooks().await, 0);
    }
    let row = |world: &World| world.runtime.webhooks(&world.owner).unwrap().remove(0).1;
    assert_eq!((row(&world).dropped, row(&world).attempt), (1, 0));
    assert_eq!(receiver.taken().len(), RETRIES.len() + 1);
    let next = escalates(&world).await;
    assert_eq!(world.runtime.deliver_webhooks().await, 1, "and what comes after it is sent");
    assert_eq!(body(&receiver.taken()[0])["data"]["intent"], next.to_string());

    escalates(&world).await;
    receiver.then([Ok(410)]);
    assert_eq!(world.runtime.deliver_webhooks().await, 0);
    advance(&world, 100_000);
    assert_eq!(world.runtime.deliver_webhooks().await, 0);
    assert_eq!(receiver.taken().len(), 1);
    assert!(row(&world).gone);
    // Setting it again begins anew, with what comes from then on.
    world.runtime.set_webhook(&world.owner, spec("pager", &["approval.requested"], None)).await.unwrap();
    let next = escalates(&world).await;
    assert_eq!(world.runtime.deliver_webhooks().await, 1);
    assert_eq!(body(&receiver.taken()[0])["data"]["intent"], next.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_day_after_a_rotation_both_secrets_sign() {
    let (world, receiver) = world().await;
    let pager = spec("pager", &["approval.requested"], None);
    let first = world.runtime.set_webhook(&world.owner, pager.clone()).await.unwrap().1.unwrap();
    assert!(world.runtime.set_webhook(&world.owner, pager.clone()).await.unwrap().1.is_none(), "it keeps its secret");
    let second = world.runtime.rotate_webhook(&world.owner, &pager.webhook).await.unwrap().1;
    assert_ne!(*first, *second);
    let signs = |post: &Post, secret: &str| {
        let key = base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut text = format!("{}.{}.", header(post, "webhook-id"), header(post, "webhook-timestamp")).into_bytes();
        text.extend_from_slice(&post.body);
        let mac = base64::engine::general_purpose::STANDARD.encode(intended_keyring::hmac_sha256(&key, &text));
        header(post, "webhook-signature").split(' ').any(|s| s == format!("v1,{mac}"))
    };
    escalates(&world).await;
    world.runtime.deliver_webhooks().await;
    let got = receiver.taken();
    assert!(signs(&got[0], &first) && signs(&got[0], &second));
    advance(&world, 86_400);
    escalates(&world).await;
    world.runtime.deliver_webhooks().await;
    let got = receiver.taken();
    assert!(!signs(&got[0], &first) && signs(&got[0], &second));
    // Neither stands anywhere in the ledger, nor in the store in clear.
    let (_, leaves) = world.export().await.unwrap();
    assert!(leaves.iter().all(|l| !String::from_utf8_lossy(l).contains("whsec_")));
    world.runtime.close().await.unwrap();
    for file in std::fs::read_dir(world.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"whsec_"), "a secret is stored in clear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_goes_to_no_address_inside_and_is_set_by_who_may() {
    let (world, _receiver) = world().await;
    let refused = async |by: &Principal, url: &str, events: &[&str], only: Option<&str>| {
        let spec = WebhookSpec { url: url.into(), ..spec("pager", events, only) };
        world.runtime.set_webhook(by, spec).await.unwrap_err().code
    };
    for url in ["https://127.0.0.1/", "https://169.254.169.254/", "http://hooks.acme.example/", "https://localhost/"] {
        assert_eq!(refused(&world.owner, url, &["approval.requested"], None).await, Code::WebhookUrl, "{url}");
    }
    let good = "https://hooks.acme.example/x";
    assert_eq!(refused(&world.owner, good, &[], None).await, Code::RequestInvalid);
    assert_eq!(refused(&world.owner, good, &["approval.wanted"], None).await, Code::RequestInvalid);
    assert_eq!(refused(&world.owner, good, &["approval.note", "approval.note"], None).await, Code::RequestInvalid);

    let part = crate::changes::credential(
        &world,
        "part",
        vec![environment("staging").unwrap()],
        &[intended_model::entry::Scope::AccessWrite, intended_model::entry::Scope::AccessRead],
    )
    .await;
    assert_eq!(refused(&part, good, &["approval.requested"], None).await, Code::EnvironmentForbidden);
    assert_eq!(refused(&part, good, &["approval.requested"], Some("production")).await, Code::EnvironmentForbidden);
    world.runtime.set_webhook(&part, spec("own", &["approval.requested"], Some("staging"))).await.unwrap();
    world.runtime.set_webhook(&world.owner, spec("all", &["approval.requested"], None)).await.unwrap();
    let seen: Vec<String> = world.runtime.webhooks(&part).unwrap().iter().map(|(w, _)| w.webhook.to_string()).collect();
    assert_eq!(seen, ["own"]);
    let all = Name::new("all").unwrap();
    assert_eq!(world.runtime.remove_webhook(&part, &all).await.unwrap_err().code, Code::EnvironmentForbidden);
    assert_eq!(world.runtime.rotate_webhook(&part, &all).await.unwrap_err().code, Code::EnvironmentForbidden);
    assert_eq!(world.runtime.test_webhook(&part, &all).await.unwrap_err().code, Code::EnvironmentForbidden);
    world.runtime.remove_webhook(&world.owner, &all).await.unwrap();
    assert_eq!(world.runtime.remove_webhook(&world.owner, &all).await.unwrap_err().code, Code::NotFound);
}
