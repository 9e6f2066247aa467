//! A webhook: a message is posted, and any 2xx is success.

use crate::config::hooks::Webhook;
use crate::io::http;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Of an answer, for the reason of a failure.
const MAX_BODY: usize = 4096;

/// Blocks, also as long as a name takes to be looked up: a thread of its own does it.
pub(super) fn post(webhook: &Webhook, body: Vec<u8>, patience: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let asked = runtime.block_on(async { tokio::time::timeout(patience, ask(webhook, body)).await });
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    let late = |_| Err(format!("no answer within {}", humantime::format_duration(patience)));
    asked.unwrap_or_else(late).map_err(|reason| format!("{}: {reason}", shown(webhook)))
}

/// Without what follows the path: it may be a secret.
fn shown(webhook: &Webhook) -> &str {
    webhook.text.split('?').next().unwrap_or_default()
}

async fn ask(webhook: &Webhook, body: Vec<u8>) -> Result<(), String> {
    let stream = TcpStream::connect((webhook.host.as_str(), webhook.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    if !webhook.tls {
        return exchange(webhook, stream, body).await;
    }
    let name = ServerName::try_from(webhook.host.clone()).map_err(|error| error.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(tls()?).connect(name, stream).await;
    exchange(webhook, stream.map_err(|error| format!("TLS: {error}"))?, body).await
}

/// The system's own CAs, as they are now.
fn tls() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!("this host has no CA certificates: install ca-certificates; {why}"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

async fn exchange(
    webhook: &Webhook,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    body: Vec<u8>,
) -> Result<(), String> {
    let request = Request::post(&webhook.path)
        .header("host", &webhook.authority)
        .header("user-agent", concat!("haclusterd/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let judge = async |answer: Response<Incoming>| {
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        Err(format!("answered {status}: {}", text.lines().next().unwrap_or_default().trim()))
    };
    http::exchange(stream, request, |error| error.to_string(), judge).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const SECOND: Duration = Duration::from_secs(1);

    fn webhook(port: u16) -> Webhook {
        Webhook {
            text: format!("http://localhost:{port}/x?key=secret"),
            tls: false,
            host: "localhost".into(),
            port,
            authority: format!("localhost:{port}"),
            path: "/x?key=secret".into(),
        }
    }

    /// What was asked, and what came of it.
    fn asked(answer: &'static str) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"{}\n") {
                let mut chunk = [0; 1024];
                let length = stream.read(&mut chunk).unwrap();
                text.extend(&chunk[..length]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(text).unwrap()
        });
        let result = post(&webhook(port), b"{}\n".into(), SECOND * 5);
        (server.join().unwrap(), result)
    }

    #[test]
    fn any_2xx_is_success() {
        let (text, result) = asked("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(result, Ok(()));
        assert!(text.starts_with("POST /x?key=secret HTTP/1.1\r\nhost: localhost:"), "{text}");
        assert!(text.contains("content-type: application/json\r\n"), "{text}");
    }

    #[test]
    fn a_failure_says_what_was_answered_and_keeps_the_query_to_itself() {
        let (_, result) = asked("HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nno rights");
        let reason = result.unwrap_err();
        assert!(reason.ends_with("/x: answered 403 Forbidden: no rights"), "{reason}");
        assert!(!reason.contains("secret"), "{reason}");
    }

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let reason = post(&webhook(port), b"{}\n".into(), SECOND / 10).unwrap_err();
        assert!(reason.ends_with("no answer within 100ms"), "{reason}");
    }
}
