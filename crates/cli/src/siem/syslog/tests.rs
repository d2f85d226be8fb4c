//! Real listeners, with and without TLS.

use intended_model::Timestamp;
use intended_runtime::siem::Severity;
use tokio::net::TcpListener;

use super::*;

fn line(n: u32) -> Line {
    Line {
        text: format!("event {n} — ü"),
        kind: "halt.thrown",
        severity: Severity::Critical,
        at: Timestamp::from_millis(0),
    }
}

fn config(address: String, tls: Option<Tls>) -> Config {
    Config { address, tls, server_name: Some("collector.test".to_owned()), hostname: Some("authority-1".to_owned()) }
}

/// The messages in what came, as RFC 6587 counts them.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        out.push(String::from_utf8(bytes[space + 1..space + 1 + length].to_vec()).unwrap());
        bytes = &bytes[space + 1 + length..];
    }
    out
}

#[tokio::test]
async fn messages_are_counted_in_octets_and_a_closed_connection_is_noticed_before_it_is_written_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut syslog = Syslog::new(Path::new("/"), &config(address, None)).unwrap();
    assert!(syslog.stands().await.is_err(), "nothing was ever sent");
    let (sent, accepted) = tokio::join!(syslog.send(&[]), listener.accept());
    assert_eq!(sent.unwrap(), SETTLED);
    let (mut collector, _) = accepted.unwrap();
    let batch = [line(1), line(2)];
    syslog.send(&batch).await.unwrap();
    syslog.stands().await.unwrap();
    let expected: Vec<String> = (1..3)
        .map(|n| format!("<106>1 1970-01-01T00:00:00.000Z authority-1 intended - halt.thrown - event {n} — ü"))
        .collect();
    let mut bytes = vec![0; expected.iter().map(|m| m.len() + 3).sum()];
    collector.read_exact(&mut bytes).await.unwrap();
    assert_eq!(messages(&bytes), expected);

    // It restarts: what was sent since is not certain, and the next batch is refused rather than lost.
    drop(collector);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(syslog.send(&batch).await.unwrap_err().contains("closed"));
    assert!(syslog.stands().await.is_err());
    let (sent, accepted) = tokio::join!(syslog.send(&batch), listener.accept());
    sent.unwrap();
    let (mut collector, _) = accepted.unwrap();
    collector.read_exact(&mut bytes).await.unwrap();
    assert_eq!(messages(&bytes), expected);
}

struct Authority {
    certificate: String,
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
}

fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    Authority { certificate: params.self_signed(&key).unwrap().pem(), key, params }
}

/// A certificate of the authority for a name, with its key, as PEM.
fn issued(by: &Authority, name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let issuer = rcgen::Issuer::from_params(&by.params, &by.key);
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn over_tls_only_the_collector_that_was_named_gets_anything() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let (ours, others) = (authority("ours"), authority("others"));
    put("ca.pem", &ours.certificate);
    let (client_cert, client_key) = issued(&ours, "intended.test");
    put("client.pem", &client_cert);
    put("client.key", &client_key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();

    // Accepts one connection, asking for a certificate of ours; what came, or why not.
    let accept = async |cert: &(String, String)| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ours.certificate.as_bytes()).unwrap()).unwrap();
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(cert.1.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        // Until the other side goes; it need not say that it does.
        let _ = stream.read_to_end(&mut bytes).await;
        Ok::<_, String>(messages(&bytes))
    };
    let tls = |own: bool| Tls {
        ca_file: Some("ca.pem".into()),
        client_cert_file: own.then(|| "client.pem".into()),
        client_key_file: own.then(|| "client.key".into()),
    };
    let send = async |tls| {
        let mut syslog = Syslog::new(dir.path(), &config(address.clone(), Some(tls))).unwrap();
        syslog.send(&[line(1)]).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        syslog.stands().await
    };
    let good = issued(&ours, "collector.test");
    let (sent, got) = tokio::join!(send(tls(true)), accept(&good));
    sent.unwrap();
    assert_eq!(got.unwrap().len(), 1);
    for (what, own, cert) in [
        ("another name", true, issued(&ours, "elsewhere.test")),
        ("another authority", true, issued(&others, "collector.test")),
        ("no certificate of its own", false, good.clone()),
    ] {
        let (sent, got) = tokio::join!(send(tls(own)), accept(&cert));
        assert!(sent.is_err(), "{what}");
        assert!(got.is_err() || got.unwrap().is_empty(), "{what}");
    }
}
