//! Sends webhooks. Nothing is connected to but what the [`Reach`] allows, whatever a name means at the
//! time; no redirect is followed, no proxy of the environment is used, and of an answer only the
//! status is looked at.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use intended_runtime::webhooks::{Notifier, Post, Reach, Resolver};

/// How long a receiver may take to connect, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

pub struct HttpNotifier {
    client: reqwest::Client,
    reach: Reach,
}

impl HttpNotifier {
    pub fn new(reach: Reach) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .user_agent(concat!("intended/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Resolver(reach.clone())))
            .build()?;
        Ok(Self { client, reach })
    }
}

impl Notifier for HttpNotifier {
    fn reach(&self) -> &Reach {
        &self.reach
    }

    fn post(&self, post: Post) -> Pin<Box<dyn Future<Output = Result<u16, String>> + Send>> {
        // Once more: an address in the URL itself is not resolved, and what the operator allows can
        // have become less since it was set.
        let checked = self.reach.check(&post.url).map_err(|why| format!("nothing is sent there: {why}"));
        let client = self.client.clone();
        Box::pin(async move {
            let url = checked?;
            let request = post.headers.iter().fold(client.post(url), |r, (name, value)| r.header(*name, value));
            let answer = request.body(post.body).send().await;
            answer.map(|a| a.status().as_u16()).map_err(|e| why(&e))
        })
    }
}

/// What went wrong, down to its cause.
fn why(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut text = match () {
        () if error.is_timeout() => "no answer in time".to_owned(),
        () if error.is_connect() => "no connection".to_owned(),
        () => "not sent".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(300).collect()
}
