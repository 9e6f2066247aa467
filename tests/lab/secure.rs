//! What leaves the cluster by TLS: webhooks and mails, to one whose certificate this host's CAs vouch for, or do not.

use crate::alone;
use crate::lab::Lab;
use crate::net::Net;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

const HOST: &str = "10.0.0.11";
const HTTPS: u16 = 8443;
const STARTTLS: u16 = 587;
const SMTPS: u16 = 465;

type Heard = Arc<Mutex<Vec<String>>>;

/// A CA in `ca.pem`, and a server that it vouches for.
fn certified(dir: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![own.der().clone()], key).unwrap())
}

/// Each connection of the port is `talk`'s; what that hears is noted.
fn serve(
    net: Net,
    port: u16,
    heard: &Heard,
    talk: impl Fn(TcpStream) -> std::io::Result<String> + Send + 'static,
) {
    let heard = heard.clone();
    net.inside(1, move || {
        for stream in TcpListener::bind((HOST, port)).unwrap().incoming() {
            if let Ok(text) = talk(stream.unwrap()) {
                heard.lock().unwrap().push(format!("{port} {text}"));
            }
        }
    });
}

fn secured(config: &Arc<ServerConfig>, stream: TcpStream) -> impl Read + Write + use<> {
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)
}

fn webhook(stream: impl Read + Write) -> std::io::Result<String> {
    let mut stream = BufReader::new(stream);
    let body = by_line(&mut stream, |line| line.starts_with('{'))?;
    stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    stream.get_mut().flush()?;
    Ok(body)
}

fn by_line(stream: &mut impl BufRead, is_it: impl Fn(&str) -> bool) -> std::io::Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if is_it(&line) {
            return Ok(line);
        }
    }
}

/// As far as STARTTLS; `stream` has read nothing more by then, for the other waits for the answer.
fn until_starttls(mut stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.write_all(b"220 test\r\n")?;
    let mut lines = BufReader::new(stream.try_clone()?);
    by_line(&mut lines, |line| line.starts_with("EHLO"))?;
    stream.write_all(b"250-test\r\n250 STARTTLS\r\n")?;
    by_line(&mut lines, |line| line.starts_with("STARTTLS"))?;
    stream.write_all(b"220 go on\r\n")?;
    Ok(stream)
}

fn mail(stream: impl Read + Write, greeting: &str) -> std::io::Result<String> {
    let mut stream = BufReader::new(stream);
    let mut subject = String::new();
    let mut say = greeting;
    loop {
        stream.get_mut().write_all(say.as_bytes())?;
        stream.get_mut().flush()?;
        let line = by_line(&mut stream, |_| true)?;
        say = if line.starts_with("DATA") {
            stream.get_mut().write_all(b"354 go on\r\n")?;
            stream.get_mut().flush()?;
            subject = by_line(&mut stream, |line| line.starts_with("Subject: "))?;
            by_line(&mut stream, |line| line == ".\r\n")?;
            "250 taken\r\n"
        } else if line.starts_with("QUIT") {
            return Ok(subject);
        } else {
            "250 ok\r\n"
        };
    }
}

#[test]
fn webhooks_and_mails_go_to_those_whom_a_ca_of_this_host_vouches_for() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let server = certified(dir.path());
        let mut lab = Lab::form(&["member"], "10.0.0.100/24");
        let heard = Heard::default();
        let own = server.clone();
        serve(lab.net, HTTPS, &heard, move |stream| webhook(secured(&own, stream)));
        let own = server.clone();
        serve(lab.net, STARTTLS, &heard, move |stream| mail(secured(&own, until_starttls(stream)?), ""));
        serve(lab.net, SMTPS, &heard, move |stream| mail(secured(&server, stream), "220 test\r\n"));

        let plain = lab.nodes[0].config().replace("[[vip]]", "[[vip]]\nsmtp_alert = true");
        let config = |port: u16, tls: &str| {
            format!(
                "{plain}[[hook]]\nname = 'chat'\nwebhook = 'https://{HOST}:{HTTPS}/x'\n[mail]\nserver = '{HOST}:{port}'\n\
                 from = 'a@example.com'\nto = ['b@example.com']\ntls = '{tls}'\n"
            )
        };
        let begin = |lab: &mut Lab, ca: &str, port: u16, tls: &str| {
            let node = lab.node(1);
            node.kill();
            node.wrapper =
                ["env".to_owned(), format!("SSL_CERT_FILE={}", dir.path().join(ca).display())].into();
            node.set_config(&config(port, tls));
            node.start();
        };
        let of_another =
            CertificateParams::new([]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("other.pem"), of_another.pem()).unwrap();
        begin(&mut lab, "other.pem", SMTPS, "tls");
        lab.until("another vouches for others", |lab| {
            let status = lab.nodes[0].ask("status").unwrap_or_default();
            status["warnings"].to_string().contains("TLS: invalid peer certificate")
                && status["counters"]["mails_failed"].as_u64() > Some(0)
        });
        assert_eq!(*heard.lock().unwrap(), [""; 0]);
        for (port, tls) in [(STARTTLS, "starttls"), (SMTPS, "tls")] {
            begin(&mut lab, "ca.pem", port, tls);
            let subject =
                format!("{port} Subject: [lb1] VRRP Instance 10.0.0.100 - Entering MASTER state\r\n");
            lab.until("the mail is sent", |_| heard.lock().unwrap().contains(&subject));
        }
        let told = heard.lock().unwrap();
        assert!(told.iter().any(|text| text.contains("\"state\":\"owner\"")), "{told:?}");
    });
}
