//! A provider that lies: what each lie comes to. (A real provider stands in the process tests.)

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use intended_keyring::{SigningKey, SystemRng};
use intended_model::entry::{ProviderGroup, Role, SignInMethod};
use intended_model::{Code, Digest, MemberId, Name};
use intended_runtime::RuntimeError;
use intended_runtime::access::MemberSpec;
use intended_runtime::sign_in::session::Proof;
use intended_runtime::sign_in::{Begun, NewSession, ProviderSpec, Secret};
use intended_runtime::webhooks::Reach;
use intended_testkit::World;
use intended_token::{Alg, TokenSigner as _, base64url};
use serde_json::{Value, json};

use crate::sign_in::{PASSWORD, id, member, verified, whole, with_password};
use crate::tampering::Forge;

/// What the provider says, and what it was asked.
struct Says {
    issuer: String,
    configured_issuer: Option<String>,
    key: SigningKey,
    header: Value,
    claims: Value,
    answer: Option<String>,
    asked: Vec<(String, String)>,
    redirect: bool,
    /// How often the configuration was asked for.
    heard: usize,
    /// An endpoint, and where it is said to be.
    elsewhere: Option<(&'static str, String)>,
}

type Shared = Arc<Mutex<Says>>;

async fn configuration(State(says): State<Shared>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let mut says = says.lock().unwrap();
    says.heard += 1;
    if says.redirect {
        return (http::StatusCode::FOUND, [("location", format!("{}/elsewhere", says.issuer))]).into_response();
    }
    let at = |path: &str| match &says.elsewhere {
        Some((endpoint, url)) if *endpoint == path => url.clone(),
        _ => format!("{}/{path}", says.issuer),
    };
    axum::Json(json!({
        "issuer": says.configured_issuer.as_ref().unwrap_or(&says.issuer), "authorization_endpoint": at("authorize?realm=x"),
        "token_endpoint": at("token"), "jwks_uri": at("jwks"),
    }))
    .into_response()
}
async fn jwks(State(says): State<Shared>) -> axum::Json<Value> {
    let says = says.lock().unwrap();
    axum::Json(
        json!({"keys": [says.key.public_jwk(), {"kty": "RSA", "use": "enc", "kid": "e", "n": "AQAB", "e": "AQAB"}]}),
    )
}
async fn token(State(says): State<Shared>, headers: http::HeaderMap, body: String) -> String {
    let mut says = says.lock().unwrap();
    let auth = headers.get("authorization").map_or("", |v| v.to_str().unwrap()).to_owned();
    says.asked.push((auth, body));
    says.answer.clone().unwrap_or_else(|| {
        json!({"access_token": "x", "token_type": "Bearer", "id_token": says.id_token()}).to_string()
    })
}

impl Says {
    fn id_token(&self) -> String {
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(&signature))
    }
}

struct Site {
    world: World,
    says: Shared,
    issuer: String,
}

fn part(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap().1;
    query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).unwrap().1.to_owned()
}

impl Site {
    async fn new(alg: Alg) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate(alg, &SystemRng::default()).unwrap();
        let header = json!({"alg": alg.as_str(), "kid": key.kid(), "typ": "JWT"});
        let says = Arc::new(Mutex::new(Says {
            issuer: issuer.clone(),
            configured_issuer: None,
            key,
            header,
            claims: Value::Null,
            answer: None,
            asked: Vec::new(),
            redirect: false,
            heard: 0,
            elsewhere: None,
        }));
        let app = axum::Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&says));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let site = Self { world: World::new().await.unwrap(), says, issuer };
        site.world.runtime.reach_providers(Reach::new(vec!["127.0.0.0/8".parse().unwrap()]));
        site.provider(&site.issuer, Some("a client secret+/")).await.unwrap();
        site
    }
    fn spec(&self, issuer: &str, secret: Option<&str>) -> ProviderSpec {
        let maps =
            |role, group: &str| ProviderGroup { grants: vec![whole(role)], groups: vec![Name::new(group).unwrap()] };
        ProviderSpec {
            active: true,
            client_id: "intended".into(),
            client_secret: secret.map(|s| Secret::new(s.replace(' ', "-"))),
            groups_claim: "groups".into(),
            issuer: issuer.into(),
            mappings: [("Ops".into(), maps(Role::Operator, "ops")), ("Leads".into(), maps(Role::Approver, "leads"))]
                .into(),
            member_claim: None,
            provider: Name::new("corp").unwrap(),
        }
    }
    async fn provider(&self, issuer: &str, secret: Option<&str>) -> Result<u64, RuntimeError> {
        self.world.runtime.set_provider(&self.world.owner, self.spec(issuer, secret)).await
    }
    async fn begin(&self) -> Begun {
        let redirect = Some("http://127.0.0.1:5000/callback".to_owned());
        self.world.runtime.begin_provider("acme", "corp", None, redirect).await.unwrap()
    }
    async fn finish(&self, state: &Secret) -> Result<NewSession, RuntimeError> {
        self.world.runtime.finish_provider("acme", "corp", state, &Secret::new("c0de")).await
    }
    /// Somebody signs in whom the provider speaks of so.
    async fn signs_in(&self, change: impl FnOnce(&mut Says)) -> Result<NewSession, RuntimeError> {
        let begun = self.begin().await;
        {
            let mut says = self.says.lock().unwrap();
            let now = self.world.clock_now() / 1000;
            says.claims = json!({
                "iss": self.issuer, "aud": "intended", "sub": "u-1", "exp": now + 300, "iat": now,
                "nonce": part(&begun.authorization_url, "nonce"), "preferred_username": "Alice",
                "email": "alice@corp.example", "email_verified": true, "groups": ["Ops", "Unmapped"],
            });
            change(&mut says);
        }
        let result = self.finish(&begun.state).await;
        self.world.clock.advance_millis(1_000);
        result
    }
    fn grants(&self, who: &str) -> Vec<&'static str> {
        let state = self.world.owner.tenant.state();
        state.members.get(&id(who)).map(|m| m.grants.iter().map(|g| g.role.as_str()).collect()).unwrap_or_default()
    }
}

fn refused(result: Result<NewSession, RuntimeError>) -> (Code, String) {
    let error = result.expect_err("it is refused");
    (error.code, error.detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_of_mapped_groups_signs_in_with_every_algorithm_and_is_what_the_groups_say_each_time() {
    for alg in [Alg::Rs256, Alg::Es256, Alg::EdDSA] {
        let site = Site::new(alg).await;
        let session = site.signs_in(|_| {}).await.unwrap();
        let by = site.world.runtime.authenticate(session.key.expose()).unwrap();
        assert_eq!((by.credential.as_str(), site.grants("alice")), ("member.alice", vec!["operator"]));
        // What was asked of the provider: the code with the verifier of the challenge, by a client who proves who it is.
        let (auth, body) = site.says.lock().unwrap().asked.pop().unwrap();
        assert_eq!(auth, format!("Basic {}", base64_standard("intended:a-client-secret%2B%2F")));
        assert!(body.contains("grant_type=authorization_code") && body.contains("code=c0de"), "{body}");
        let verifier = part(&format!("?{body}"), "code_verifier");
        assert!(verifier.len() >= 43, "{verifier}");
        // Groups are gone at the next sign-in, and others there; so are keys that were made by them.
        site.signs_in(|s| s.claims["groups"] = json!(["Leads"])).await.unwrap();
        assert_eq!(site.grants("alice"), ["approver"]);
        let none = refused(site.signs_in(|s| s.claims["groups"] = json!(["Unmapped"])).await);
        assert_eq!(none.0, Code::SignInProvider);
        assert_eq!(site.grants("alice"), [""; 0]);
        assert!(
            !site
                .world
                .runtime
                .authenticate(session.key.expose())
                .unwrap()
                .access
                .may(intended_model::entry::Scope::IntentRead, None)
        );
        verified(&site.world).await;
    }
}

fn base64_standard(text: &str) -> String {
    let url = base64url(text.as_bytes()).replace('-', "+").replace('_', "/");
    let pad = (4 - url.len() % 4) % 4;
    format!("{url}{}", "=".repeat(pad))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_is_that_of_the_verifier_and_all_of_it_is_random() {
    let site = Site::new(Alg::EdDSA).await;
    let (one, two) = (site.begin().await, site.begin().await);
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(part(&one.authorization_url, name), part(&two.authorization_url, name));
    }
    assert_eq!(part(&one.authorization_url, "code_challenge_method"), "S256");
    assert_eq!(part(&one.authorization_url, "realm"), "x", "what stands in its address stays");
    let challenge = part(&two.authorization_url, "code_challenge");
    assert!(site.finish(&two.state).await.is_err(), "no claims yet");
    let (_, body) = site.says.lock().unwrap().asked.pop().unwrap();
    let verifier = part(&format!("?{body}"), "code_verifier");
    assert_eq!(base64url(Digest::of(verifier.as_bytes()).as_bytes()), challenge);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_of_a_provider_is_refused_and_makes_nobody_a_member() {
    let site = Site::new(Alg::Rs256).await;
    let now = site.world.clock_now() / 1000;
    let stranger = SigningKey::generate(Alg::Rs256, &SystemRng::default()).unwrap();
    let mut stranger = Some(stranger);
    type Lie = fn(&mut Says);
    let lies: Vec<(&str, Lie)> = vec![
        ("another nonce", |s| s.claims["nonce"] = json!("x")),
        ("no nonce", |s| drop(s.claims.as_object_mut().unwrap().remove("nonce"))),
        ("another client", |s| s.claims["aud"] = json!("other")),
        ("another client beside", |s| s.claims["aud"] = json!(["intended", "other"])),
        ("no client", |s| s.claims["aud"] = json!([])),
        ("authorized for another", |s| s.claims["azp"] = json!("other")),
        ("another issuer", |s| s.claims["iss"] = json!("http://127.0.0.1:1")),
        ("an issuer with a slash more", |s| s.claims["iss"] = json!(format!("{}/", s.issuer))),
        ("expired", |s| s.claims["exp"] = json!(s.claims["iat"].as_i64().unwrap())),
        ("long ago", |s| s.claims["iat"] = json!(s.claims["iat"].as_i64().unwrap() - 601)),
        ("from the future", |s| s.claims["iat"] = json!(s.claims["iat"].as_i64().unwrap() + 120)),
        ("not yet valid", |s| s.claims["nbf"] = json!(s.claims["iat"].as_i64().unwrap() + 120)),
        ("a time that is a text", |s| s.claims["exp"] = json!("4000000000")),
        ("nobody", |s| s.claims["sub"] = json!("")),
        ("alg none", |s| s.header["alg"] = json!("none")),
        ("alg HS256", |s| s.header["alg"] = json!("HS256")),
        ("another algorithm of its own", |s| s.header["alg"] = json!("ES256")),
        ("another kind of token", |s| s.header["typ"] = json!("at+jwt")),
        ("a key of its own in the header", |s| s.header["jwk"] = json!({"kty": "RSA"})),
        ("an unknown key", |s| s.header["kid"] = json!("e")),
        ("groups that are numbers", |s| s.claims["groups"] = json!([1])),
        ("a name that is none", |s| s.claims["preferred_username"] = json!("alice <root>")),
        ("a look-alike name", |s| s.claims["preferred_username"] = json!("аlice")),
        ("no name", |s| drop(s.claims.as_object_mut().unwrap().remove("preferred_username"))),
        ("no mapped group", |s| s.claims["groups"] = json!(["ops", "Owners"])),
        ("no groups", |s| drop(s.claims.as_object_mut().unwrap().remove("groups"))),
        ("no ID token", |s| s.answer = Some(json!({"access_token": "x"}).to_string())),
        ("no JSON", |s| s.answer = Some("<html>".into())),
        ("an endless answer", |s| s.answer = Some("x".repeat(70_000))),
        ("another configuration", |s| s.configured_issuer = Some("http://127.0.0.1:1".into())),
        ("a redirect", |s| s.redirect = true),
    ];
    for (what, lie) in lies {
        let (code, detail) = refused(site.signs_in(lie).await);
        assert_eq!(code, Code::SignInProvider, "{what}: {detail}");
        let mut says = site.says.lock().unwrap();
        let kid = says.key.kid().to_owned();
        (says.answer, says.configured_issuer, says.redirect) = (None, None, false);
        says.header = json!({"alg": "RS256", "kid": kid, "typ": "JWT"});
    }
    // Signed by somebody else under the name of the provider's key.
    let (code, _) = refused(
        site.signs_in(|s| {
            let kid = s.key.kid().to_owned();
            let theirs = std::mem::replace(&mut s.key, stranger.take().unwrap());
            s.header["kid"] = json!(kid);
            s.answer = Some(json!({"id_token": s.id_token()}).to_string());
            s.key = theirs;
        })
        .await,
    );
    assert_eq!(code, Code::SignInProvider);
    assert!(site.world.owner.tenant.state().members.is_empty(), "since {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_once_for_ten_minutes_and_for_its_provider() {
    let site = Site::new(Alg::EdDSA).await;
    let begun = site.begin().await;
    assert!(site.finish(&begun.state).await.is_err(), "the claims are not there");
    assert_eq!(refused(site.finish(&begun.state).await).0, Code::SignInState, "a failure used it up as well");
    assert_eq!(refused(site.finish(&Secret::new("made-up")).await).0, Code::SignInState);
    let late = site.begin().await;
    site.world.clock.advance_millis(10 * 60_000);
    assert_eq!(refused(site.finish(&late.state).await).0, Code::SignInState);
    let moved = site.begin().await;
    site.provider("https://id.example", Some("x")).await.unwrap();
    assert_eq!(refused(site.finish(&moved.state).await).0, Code::SignInState, "begun with another issuer");
    let runtime = &site.world.runtime;
    for bad in [
        "https://evil.example/",
        "http://127.0.0.1.evil.example:1/",
        "http://localhost:5000/",
        "http://127.0.0.1/",
        "http://10.0.0.1:5000/",
        "http://127.0.0.1:5000/?a=b",
        "http://u@127.0.0.1:5000/",
        "javascript:alert(1)",
        "http://intended.test/console/sign-in@evil.example",
    ] {
        let refused = runtime.begin_provider("acme", "corp", None, Some(bad.to_owned())).await.unwrap_err();
        assert_eq!(refused.code, Code::RequestInvalid, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_taken_over_by_a_name() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    // Made by hand, with a password: the provider calls somebody the same.
    with_password(world, "alice", vec![whole(Role::Owner)]).await;
    assert_eq!(refused(site.signs_in(|_| {}).await).0, Code::SignInProvider);
    assert_eq!(site.grants("alice"), ["owner"]);
    // Linked, but the address is another, or not verified.
    let spec = MemberSpec {
        active: true,
        email: Some("alice@corp.example".into()),
        grants: vec![whole(Role::Owner)],
        ..MemberSpec::default()
    };
    let (alice, corp) = (id("alice"), Name::new("corp").unwrap());
    assert!(world.runtime.link_provider(&world.owner, &alice, Some(&corp)).await.is_err(), "there is no address");
    world.runtime.set_member(&world.owner, alice.clone(), spec).await.unwrap();
    world.runtime.link_provider(&world.owner, &alice, Some(&corp)).await.unwrap();
    assert!(site.signs_in(|s| s.claims["email"] = json!("mallory@corp.example")).await.is_err());
    assert!(site.signs_in(|s| s.claims["email_verified"] = json!(false)).await.is_err());
    assert!(site.signs_in(|s| s.claims["email_verified"] = json!("true")).await.is_err());
    assert_eq!(site.grants("alice"), ["owner"]);
    site.signs_in(|_| {}).await.unwrap();
    assert_eq!(site.grants("alice"), ["operator"], "what the groups say, and nothing from before");
    // From here on it is the subject that counts: somebody who gets the name is not she, and she is she
    // under another name.
    assert!(site.signs_in(|s| s.claims["sub"] = json!("u-2")).await.is_err());
    let renamed = site.signs_in(|s| s.claims["preferred_username"] = json!("alice.smith")).await.unwrap();
    assert_eq!(renamed.member, MemberId::new("alice").unwrap());
    // Who was taken out does not come back on the provider's word.
    world.runtime.set_member(&world.owner, alice.clone(), MemberSpec::default()).await.unwrap();
    assert!(site.signs_in(|_| {}).await.is_err());
    assert!(!world.owner.tenant.state().members[&alice].active);
    verified(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_gives_no_more_than_who_set_it_up_has_and_its_secret_goes_to_its_issuer_only() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    let (_, session) = with_password(world, "admin", vec![whole(Role::Admin)]).await;
    let admin = world.runtime.authenticate(session.key.expose()).unwrap();
    let wide = world.runtime.set_provider(&admin, site.spec("http://127.0.0.1:9", None)).await.unwrap_err();
    assert_eq!(wide.code, Code::AccessWider);
    member(world, "bob", vec![]).await;
    for bad in ["http://id.example", "https://id.example/?x=1", "https://u:p@id.example", "file:///x", "id.example"] {
        assert_eq!(site.provider(bad, None).await.unwrap_err().code, Code::RequestInvalid, "{bad}");
    }
    // Another issuer, without its secret: the one before is not sent there.
    site.provider("https://id.example", None).await.unwrap();
    site.provider(&site.issuer, None).await.unwrap();
    site.signs_in(|_| {}).await.unwrap();
    let (auth, body) = site.says.lock().unwrap().asked.pop().unwrap();
    assert_eq!(auth, "", "a public client");
    assert!(body.contains("client_id=intended") && !body.contains("secret"), "{body}");
}

/// A tenant's word does not make the server ask what stands beside it: not as an issuer, not as an
/// endpoint that a public issuer names, and what is there is told from what is not by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_inside_is_asked_unless_the_operator_says_so() {
    let site = Site::new(Alg::EdDSA).await;
    let asked = |site: &Site| std::mem::take(&mut site.says.lock().unwrap().heard);
    site.signs_in(|_| {}).await.unwrap();
    assert!(asked(&site) > 0, "the operator has said so");
    // The same provider, after the operator took the network back.
    let world = site.world.reopen().await.unwrap();
    let site = Site { world, ..site };
    let redirect = Some("http://127.0.0.1:5000/callback".to_owned());
    let begun = site.world.runtime.begin_provider("acme", "corp", None, redirect.clone()).await.unwrap_err();
    assert_eq!(asked(&site), 0);
    let inside =
        [site.issuer.as_str(), "https://127.0.0.1:1", "https://[::1]", "https://10.0.0.7", "https://169.254.169.254"];
    for issuer in inside {
        assert_eq!(site.provider(issuer, None).await.unwrap_err().code, Code::RequestInvalid, "{issuer}");
    }
    // A name is looked at when it is connected to, and says nothing else than one that is not there.
    let port = site.issuer.rsplit_once(':').unwrap().1;
    for issuer in [format!("http://localhost:{port}"), "https://no-such-host.invalid".to_owned()] {
        site.provider(&issuer, None).await.unwrap();
        let error = site.world.runtime.begin_provider("acme", "corp", None, redirect.clone()).await.unwrap_err();
        assert_eq!((error.code, &error.detail), (begun.code, &begun.detail), "{issuer}");
    }
    assert_eq!(asked(&site), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_inside_is_not_asked_because_a_provider_names_it() {
    let site = Site::new(Alg::EdDSA).await;
    for endpoint in ["token", "jwks"] {
        let error = site.signs_in(|s| s.elsewhere = Some((endpoint, "http://[::1]:9/x".into()))).await.unwrap_err();
        assert_eq!(error.code, Code::SignInProvider);
        assert!(error.detail.contains("may be asked"), "{endpoint}: {}", error.detail);
        site.says.lock().unwrap().elsewhere = None;
    }
}

/// The last owner signs in by a provider: neither it, nor what it gives, nor its word takes that away.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_the_last_owner_signs_in_by_stays_and_so_does_what_it_gives() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    let with = |role| {
        let mut spec = site.spec(&site.issuer, None);
        spec.mappings.insert("Owners".into(), ProviderGroup { grants: vec![whole(role)], groups: vec![] });
        spec
    };
    let owners = |s: &mut Says| s.claims["groups"] = json!(["Owners"]);
    let own = world.owner.credential.clone();
    world.runtime.set_provider(&world.owner, with(Role::Owner)).await.unwrap();
    let session = site.signs_in(owners).await.unwrap();
    let by = world.runtime.authenticate(session.key.expose()).unwrap();
    // Not while the provider gives nobody as much.
    world.runtime.set_provider(&by, with(Role::Viewer)).await.unwrap();
    let refused = |result: Result<u64, RuntimeError>| assert_eq!(result.unwrap_err().code, Code::AccessLastOwner);
    refused(world.runtime.revoke_credential(&by, own.clone(), "x").await);
    world.runtime.set_provider(&by, with(Role::Owner)).await.unwrap();
    world.runtime.revoke_credential(&by, own, "x").await.unwrap();
    refused(world.runtime.set_provider(&by, with(Role::Viewer)).await);
    refused(world.runtime.set_provider(&by, ProviderSpec { active: false, ..with(Role::Owner) }).await);
    let lost = site.signs_in(|s| s.claims["groups"] = json!(["Ops"])).await.unwrap_err();
    assert_eq!((lost.code, site.grants("alice")), (Code::AccessLastOwner, vec!["owner"]));
    site.signs_in(owners).await.unwrap();
    verified(world).await;
}

/// What a provider does wrong, or does not do at all, is not for who comes from there to answer for.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_locks_nobody_out() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    with_password(world, "bob", vec![whole(Role::Viewer)]).await;
    for _ in 0..25 {
        assert!(site.signs_in(|s| s.configured_issuer = Some("http://127.0.0.1:1".into())).await.is_err());
        site.says.lock().unwrap().configured_issuer = None;
    }
    assert_eq!(refused(site.finish(&Secret::new("made-up")).await).0, Code::SignInState);
    let proof = || Proof::Password { member: "bob".into(), password: Secret::new(PASSWORD), code: None };
    world.runtime.sign_in("acme", None, proof()).await.unwrap();
    site.signs_in(|_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_sign_ins_are_begun_from_a_place_whether_they_end_or_not() {
    let site = Site::new(Alg::EdDSA).await;
    let begin = async |place: &str| {
        let redirect = Some("http://127.0.0.1:5000/callback".to_owned());
        let from = Some(place.parse().unwrap());
        site.world.runtime.begin_provider("acme", "corp", from, redirect).await.map(drop)
    };
    for _ in 0..300 {
        begin("192.0.2.7").await.unwrap();
    }
    let asked = site.says.lock().unwrap().heard;
    let locked = begin("192.0.2.7").await.unwrap_err();
    assert_eq!((locked.code, locked.retry_after), (Code::SignInLocked, Some(600)));
    assert_eq!(site.says.lock().unwrap().heard, asked, "nothing is asked for it");
    begin("192.0.2.8").await.unwrap();
    site.world.clock.advance_millis(600_000);
    begin("192.0.2.7").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_makes_nobody_anything_in_a_suspended_tenant() {
    let site = Site::new(Alg::EdDSA).await;
    let begun = site.begin().await;
    let operator = crate::sign_in::operator(&site.world);
    site.world.runtime.suspend_tenant(&operator, &site.world.owner.tenant.id, "unpaid").await.unwrap();
    assert_eq!(refused(site.finish(&begun.state).await).0, Code::TenantSuspended);
    let again = site.world.runtime.begin_provider("acme", "corp", None, None).await.unwrap_err();
    assert_eq!(again.code, Code::TenantSuspended);
    assert!(site.says.lock().unwrap().asked.is_empty());
}

/// A member who is linked to one provider and has not come is not for another to take, and who they turn
/// out to be is in the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_to_one_provider_and_its_address_and_who_came_by_it_is_recorded() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    let (corp, other) = (Name::new("corp").unwrap(), Name::new("other").unwrap());
    let spec = |email: &str| MemberSpec {
        active: true,
        email: Some(email.into()),
        grants: vec![whole(Role::Viewer)],
        ..MemberSpec::default()
    };
    let set = async |email: &str| world.runtime.set_member(&world.owner, id("alice"), spec(email)).await.unwrap();
    let link = async |to: &Name| world.runtime.link_provider(&world.owner, &id("alice"), Some(to)).await;
    set("alice@corp.example").await;
    assert_eq!(link(&other).await.unwrap_err().code, Code::NotFound, "there is none of that name");
    let second = ProviderSpec { provider: other.clone(), ..site.spec("https://id.example", None) };
    world.runtime.set_provider(&world.owner, second).await.unwrap();
    link(&other).await.unwrap();
    assert_eq!(refused(site.signs_in(|_| {}).await).0, Code::SignInProvider, "linked to the other one");
    // Another address is another person, until somebody says so again.
    link(&corp).await.unwrap();
    set("somebody@corp.example").await;
    set("alice@corp.example").await;
    assert!(!world.owner.tenant.state().members["alice"].sign_in.contains(&SignInMethod::Oidc));
    assert_eq!(refused(site.signs_in(|_| {}).await).0, Code::SignInProvider);
    // And so is another provider under the same name.
    site.provider("https://id.example", None).await.unwrap();
    link(&corp).await.unwrap();
    site.provider(&site.issuer, None).await.unwrap();
    assert_eq!(refused(site.signs_in(|_| {}).await).0, Code::SignInProvider);
    link(&corp).await.unwrap();
    site.signs_in(|_| {}).await.unwrap();
    let state = world.owner.tenant.state();
    let alice = &state.members["alice"];
    assert!(alice.oidc.as_ref().is_some_and(|l| l.provider == corp && l.subject.is_some()), "{alice:?}");
    let (_, leaves) = world.export().await.unwrap();
    let at = Forge::of(&leaves).position("sign_in.set", 4) as u64;
    assert_eq!(alice.entrusted_at, Some(at), "what was asked for before is not hers to approve");
    // Bound, she keeps it with another address.
    set("alice@new.example").await;
    site.signs_in(|s| s.claims["email"] = json!("alice@newer.example")).await.unwrap();
    verified(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_forged_word_of_who_somebody_is_to_a_provider_is_found() {
    let site = Site::new(Alg::EdDSA).await;
    let world = &site.world;
    let email = Some("alice@corp.example".into());
    let spec = MemberSpec { active: true, email, grants: vec![whole(Role::Viewer)], ..MemberSpec::default() };
    world.runtime.set_member(&world.owner, id("alice"), spec).await.unwrap();
    world.runtime.link_provider(&world.owner, &id("alice"), Some(&Name::new("corp").unwrap())).await.unwrap();
    site.signs_in(|_| {}).await.unwrap();
    let bob = |s: &mut Says| {
        s.claims["sub"] = json!("u-2");
        s.claims["preferred_username"] = json!("bob");
        s.claims["email"] = json!("bob@corp.example");
    };
    site.signs_in(bob).await.unwrap();
    let honest = Forge::of(&world.export().await.unwrap().1);
    crate::tampering::verify(Forge(honest.0.clone()).rebuild()).unwrap();
    type Change = fn(&mut Value);
    // 0 links alice, 1 binds her, 2 binds bob.
    let cases: Vec<(&str, usize, Change, &str)> = vec![
        ("by who gives access", 1, |b| b["by"] = json!("owner"), "is not for"),
        ("of who is linked to none", 0, |b| drop(b.as_object_mut().unwrap().remove("provider")), "linked"),
        ("of another provider", 1, |b| b["provider"] = json!("other"), "is not for"),
        ("of nobody", 1, |b| drop(b.as_object_mut().unwrap().remove("subject")), "is not for"),
        ("of somebody else", 2, |b| b["member"] = json!("alice"), "is not for"),
        ("in the link", 0, |b| b["subject"] = json!(Digest::of(b"x")), "is not for"),
    ];
    for (what, nth, change, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position("sign_in.set", nth);
        forge.edit(at, change);
        let failure = crate::tampering::verify(forge.rebuild()).expect_err(what);
        assert_eq!(failure.index, Some(at as u64), "{what}: {failure}");
        assert!(failure.what.contains(says), "{what}: {failure}");
    }
    // Two are one and the same to it.
    let mut forge = Forge(honest.0.clone());
    let (hers, his) = (forge.position("sign_in.set", 1), forge.position("sign_in.set", 2));
    let subject: Value = serde_json::from_str(&forge.0[hers].2).unwrap();
    let subject = subject["subject"].as_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&forge.0[his].2).unwrap();
    forge.0[his].2 = forge.0[his].2.replace(body["subject"].as_str().unwrap(), &subject);
    assert!(crate::tampering::verify(forge.rebuild()).unwrap_err().what.contains("knows `alice`"));
    // Without the word of who she is neither what her groups say nor a session follows.
    let mut forge = Forge(honest.0.clone());
    let at = forge.position("sign_in.set", 1);
    forge.0.remove(at);
    assert_eq!(crate::tampering::verify(forge.rebuild()).unwrap_err().index, Some(at as u64));
}
