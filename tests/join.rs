//! Joining and the door of the cluster, between real QUIC endpoints on 127.0.0.1.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use haclusterd::io::identity::tls::{self, Protocol};
use haclusterd::io::identity::{Identity, IdentityError, SERVER_NAME, init};
use haclusterd::io::join::{JoinError, JoinServer, Joined, NodeRequest, Offer, join};
use haclusterd::io::tokens::{self, Wanted};
use haclusterd_proto::Role;
use haclusterd_proto::codec;
use haclusterd_proto::join::{EXPORTER_LABEL, JoinRefusal, JoinReply, JoinRequest};
use haclusterd_proto::token::{Token, TokenId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const HERE: &str = "127.0.0.1:0";

/// A member that answers on 127.0.0.1 as the daemon does.
struct Node {
    dir: TempDir,
    identity: Arc<Identity>,
    server: Arc<JoinServer>,
    address: SocketAddr,
    /// Handshakes that came to nothing.
    turned_away: Arc<AtomicU64>,
    /// Connections of the members' protocol.
    members: Arc<AtomicU64>,
    _endpoint: quinn::Endpoint,
}

impl Node {
    async fn first() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let identity = init(dir.path(), "lb1", Role::Member).unwrap();
        Node::start(dir, identity)
    }

    async fn second(first: &Node, name: &str) -> Node {
        let (dir, joined) = first.join(name, &first.token(wanted())).await;
        Node::start(dir, joined.unwrap().identity)
    }

    fn start(dir: TempDir, identity: Identity) -> Node {
        let identity = Arc::new(identity);
        let offer = || Offer {
            cluster_name: Some("edge".into()),
            peers: vec!["10.0.0.1:7946".parse().unwrap()],
            settings: "ttl = \"500ms\"".into(),
            issuer: Some("lb1".into()),
        };
        let server = Arc::new(JoinServer::new(dir.path().into(), identity.clone(), offer));
        let config = tls::server_config(&identity).unwrap();
        let endpoint = quinn::Endpoint::server(config, HERE.parse().unwrap()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (turned_away, members) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let node = Node { dir, identity, server, address, turned_away, members, _endpoint: endpoint.clone() };
        let (server, turned_away, members) =
            (node.server.clone(), node.turned_away.clone(), node.members.clone());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (server, turned_away, members) = (server.clone(), turned_away.clone(), members.clone());
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else {
                        turned_away.fetch_add(1, Relaxed);
                        return;
                    };
                    match tls::protocol_of(&connection).unwrap() {
                        Protocol::Join => {
                            assert!(tls::peer_of(&connection).is_none());
                            server.serve(connection).await;
                        }
                        Protocol::Cluster => {
                            let member = tls::peer_of(&connection).unwrap();
                            members.fetch_add(1, Relaxed);
                            let mut send = connection.open_uni().await.unwrap();
                            send.write_all(member.name.as_bytes()).await.unwrap();
                            send.finish().unwrap();
                            connection.closed().await;
                        }
                    }
                });
            }
        });
        node
    }

    fn token(&self, wanted: Wanted) -> Token {
        tokens::create(self.dir.path(), &self.identity, &wanted).unwrap()
    }

    /// A new node with an empty directory that joins here.
    async fn join(&self, name: &str, token: &Token) -> (TempDir, Result<Joined, JoinError>) {
        join_at(self.address, name, token).await
    }

    /// So many connections ended in the handshake. The server may hear of it a little after the client.
    async fn turned_away_is(&self, wanted: u64) {
        let seen = || self.turned_away.load(Relaxed);
        let all = async {
            while seen() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(2), all).await;
        assert!(in_time.is_ok(), "{} handshakes failed instead of {wanted}", seen());
    }

    async fn refusal(&self, name: &str, token: &Token) -> JoinRefusal {
        let begun = Instant::now();
        let (dir, joined) = self.join(name, token).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "a refusal comes at once");
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Missing(_))), "nothing was kept");
        match joined {
            Err(JoinError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

async fn join_at(peer: SocketAddr, name: &str, token: &Token) -> (TempDir, Result<Joined, JoinError>) {
    let dir = tempfile::tempdir().unwrap();
    let joined = join(peer, HERE.parse().unwrap(), token, node(name, dir.path())).await;
    (dir, joined)
}

fn node(name: &str, dir: &Path) -> NodeRequest {
    NodeRequest {
        name: name.into(),
        role: Role::Member,
        listen: "10.0.0.2:7946".parse().unwrap(),
        state_dir: dir.into(),
    }
}

fn wanted() -> Wanted {
    Wanted { ttl: Duration::from_secs(60), uses: 1, node: None, role: Role::Member }
}

#[tokio::test]
async fn a_node_joins_and_is_a_member_to_all_others() {
    let first = Node::first().await;
    let (dir, joined) = first.join("lb2", &first.token(wanted())).await;
    let joined = joined.unwrap();
    assert_eq!(joined.settings, "ttl = \"500ms\"");
    assert_eq!(joined.cluster_name.as_deref(), Some("edge"));
    assert_eq!(joined.peers, ["10.0.0.1:7946".parse().unwrap()]);
    let loaded = Identity::load(dir.path()).unwrap();
    assert_eq!((loaded.node, loaded.name.as_str()), (joined.identity.node, "lb2"));
    assert_eq!(loaded.cluster, first.identity.cluster);
    assert!(!loaded.is_issuer() && loaded.ca_sign(b"x").is_none());
    let mode = dir.path().join("identity.pem").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let endpoint = quinn::Endpoint::client(HERE.parse().unwrap()).unwrap();
    let config = tls::client_config(&Arc::new(loaded)).unwrap();
    let connection = endpoint.connect_with(config, first.address, SERVER_NAME).unwrap().await.unwrap();
    assert_eq!(tls::peer_of(&connection).unwrap().node, first.identity.node);
    let seen_as = connection.accept_uni().await.unwrap().read_to_end(100).await.unwrap();
    assert_eq!(seen_as, b"lb2");
    assert_eq!(first.server.counters.accepted.load(Relaxed), 1);
}

#[tokio::test]
async fn each_token_that_does_not_let_in_says_why() {
    let first = Node::first().await;

    let used = first.token(wanted());
    first.join("lb2", &used).await.1.unwrap();
    assert_eq!(first.refusal("lb3", &used).await, JoinRefusal::Used { by: Some("lb2".into()) });

    let revoked = first.token(wanted());
    tokens::revoke(first.dir.path(), revoked.id).unwrap();
    assert_eq!(first.refusal("lb3", &revoked).await, JoinRefusal::Revoked);

    let bound = first.token(Wanted { node: Some("lb4".into()), ..wanted() });
    assert_eq!(first.refusal("lb3", &bound).await, JoinRefusal::WrongName { bound_to: "lb4".into() });

    let witness = first.token(Wanted { role: Role::Witness, ..wanted() });
    assert_eq!(first.refusal("lb3", &witness).await, JoinRefusal::WrongRole { allowed: Role::Witness });

    let good = first.token(wanted());
    let unknown = Token { id: TokenId([0; 5]), ..good.clone() };
    assert_eq!(first.refusal("lb3", &unknown).await, JoinRefusal::UnknownToken);
    let guessed = Token { secret: [0; 16], ..good.clone() };
    assert_eq!(first.refusal("lb3", &guessed).await, JoinRefusal::BadProof);

    let short = first.token(Wanted { ttl: Duration::from_secs(1), ..wanted() });
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(matches!(first.refusal("lb3", &short).await, JoinRefusal::Expired { ago_s: 0..=5 }));

    first.join("lb3", &good).await.1.unwrap();
}

#[tokio::test]
async fn a_name_is_given_once_until_it_is_released() {
    let first = Node::first().await;
    let (_dir, joined) = first.join("lb2", &first.token(wanted())).await;
    let taken = JoinRefusal::NameTaken { by: joined.unwrap().identity.node };
    assert_eq!(first.refusal("lb2", &first.token(wanted())).await, taken);
    let own = JoinRefusal::NameTaken { by: first.identity.node };
    assert_eq!(first.refusal("lb1", &first.token(wanted())).await, own);
    tokens::release_name(first.dir.path(), "lb2").unwrap();
    first.join("lb2", &first.token(wanted())).await.1.unwrap();
}

#[tokio::test]
async fn a_token_of_another_cluster_is_known_before_anything_is_sent() {
    let (ours, theirs) = (Node::first().await, Node::first().await);
    let (_dir, joined) = ours.join("lb2", &theirs.token(wanted())).await;
    assert!(matches!(joined, Err(JoinError::WrongCluster { .. })), "{joined:?}");
    ours.turned_away_is(1).await;
    assert_eq!(ours.server.counters.refused.load(Relaxed), 0);
}

#[tokio::test]
async fn a_member_that_is_no_issuer_says_who_is() {
    let first = Node::first().await;
    let second = Node::second(&first, "lb2").await;
    let refusal = second.refusal("lb3", &first.token(wanted())).await;
    assert_eq!(refusal, JoinRefusal::NotIssuer { issuer: Some("lb1".into()) });
    let error = tokens::create(second.dir.path(), &second.identity, &wanted()).unwrap_err();
    assert!(error.to_string().contains("haclusterd init"), "{error}");
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_known_at_once() {
    let first = Node::first().await;
    let closed = std::net::UdpSocket::bind(HERE).unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let (_dir, joined) = join_at(closed, "lb2", &first.token(wanted())).await;
    assert!(matches!(joined, Err(JoinError::NothingListens { .. })), "{joined:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_peer_that_is_silent_is_given_up() {
    let first = Node::first().await;
    let silent = std::net::UdpSocket::bind(HERE).unwrap();
    let (_dir, joined) = join_at(silent.local_addr().unwrap(), "lb2", &first.token(wanted())).await;
    assert!(matches!(joined, Err(JoinError::Unreachable { .. })), "{joined:?}");
}

#[tokio::test]
async fn a_directory_that_is_taken_costs_no_token() {
    let first = Node::first().await;
    let token = first.token(wanted());
    let joined = join(first.address, HERE.parse().unwrap(), &token, node("lb2", first.dir.path())).await;
    let error = joined.unwrap_err();
    assert!(matches!(error, JoinError::Identity(IdentityError::Exists { .. })), "{error:?}");
    first.join("lb2", &token).await.1.unwrap();
}

/// Opens a join connection by hand, lets `change` spoil the request, and reads the reply.
async fn handmade(first: &Node, token: &Token, change: impl FnOnce(&mut JoinRequest)) -> JoinReply {
    let (config, _) = tls::client_config_for_join(token.ca_hash).unwrap();
    let endpoint = quinn::Endpoint::client(HERE.parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, first.address, SERVER_NAME).unwrap().await.unwrap();
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let request = JoinRequest {
        version: "0".into(),
        name: "lb2".into(),
        role: Role::Member,
        listen: HERE.parse().unwrap(),
        csr,
        token: token.id,
        proof: [0; 32],
    };
    let mut request = request.proven(&token.key(), &exporter);
    change(&mut request);
    send_raw(&connection, &codec::encode(&request, codec::MAX).unwrap()).await
}

async fn send_raw(connection: &quinn::Connection, bytes: &[u8]) -> JoinReply {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    send.finish().unwrap();
    codec::decode(&receive.read_to_end(codec::MAX).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_request_that_was_tampered_with_is_refused_and_spends_nothing() {
    let first = Node::first().await;
    let token = first.token(wanted());
    let refused = |reply| matches!(reply, JoinReply::Refused(JoinRefusal::BadProof));
    assert!(refused(handmade(&first, &token, |request| request.proof[0] ^= 1).await));
    assert!(refused(handmade(&first, &token, |request| request.name = "lb3".into()).await));
    assert!(refused(handmade(&first, &token, |request| request.csr[60] ^= 1).await));
    assert_eq!(tokens::list(first.dir.path()).unwrap()[0].uses_left, 1);
    assert!(matches!(handmade(&first, &token, |_| {}).await, JoinReply::Accepted(_)));
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_refused_or_cut_off() {
    let first = Node::first().await;
    let ca_hash = first.identity.trust().ca_hash();
    let endpoint = quinn::Endpoint::client(HERE.parse().unwrap()).unwrap();
    let connect = || async {
        let (config, _) = tls::client_config_for_join(ca_hash).unwrap();
        endpoint.connect_with(config, first.address, SERVER_NAME).unwrap().await.unwrap()
    };
    for bytes in [&[][..], &[1], &[9, 9, 9], &[1; 200]] {
        let reply = send_raw(&connect().await, bytes).await;
        assert!(matches!(reply, JoinReply::Refused(JoinRefusal::BadRequest(_))), "{reply:?}");
    }
    let connection = connect().await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let _ = send.write_all(&[1; 20_000]).await;
    let _ = send.finish();
    assert!(receive.read_to_end(codec::MAX).await.is_err());
    assert_eq!(first.server.counters.broken.load(Relaxed), 1);
}

#[tokio::test]
async fn only_so_many_joins_are_served_at_once() {
    let first = Node::first().await;
    let token = first.token(wanted());
    let endpoint = quinn::Endpoint::client(HERE.parse().unwrap()).unwrap();
    let mut idle = Vec::new();
    for _ in 0..8 {
        let (config, _) = tls::client_config_for_join(token.ca_hash).unwrap();
        idle.push(endpoint.connect_with(config, first.address, SERVER_NAME).unwrap().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (_dir, joined) = first.join("lb2", &token).await;
    assert!(matches!(joined, Err(JoinError::Busy { .. })), "{joined:?}");
    assert_eq!(first.server.counters.busy.load(Relaxed), 1);
    // Who says nothing is shown the door, and there is room again.
    idle.remove(0).closed().await;
    first.join("lb2", &token).await.1.unwrap();
}

#[tokio::test]
async fn a_member_in_the_middle_cannot_pass_a_join_on() {
    let first = Node::first().await;
    let (_hostile_dir, hostile) = first.join("evil", &first.token(wanted())).await;
    let config = tls::server_config(&Arc::new(hostile.unwrap().identity)).unwrap();
    let middle = quinn::Endpoint::server(config, HERE.parse().unwrap()).unwrap();
    let address = middle.local_addr().unwrap();
    let (issuer, ca_hash) = (first.address, first.identity.trust().ca_hash());
    tokio::spawn(async move {
        let connection = middle.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let request = receive.read_to_end(codec::MAX).await.unwrap();
        let (config, _) = tls::client_config_for_join(ca_hash).unwrap();
        let onward = middle.connect_with(config, issuer, SERVER_NAME).unwrap().await.unwrap();
        let reply = send_raw(&onward, &request).await;
        send.write_all(&codec::encode(&reply, codec::MAX).unwrap()).await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
    });
    let token = first.token(wanted());
    let (_dir, joined) = join_at(address, "lb2", &token).await;
    assert!(matches!(joined, Err(JoinError::Refused(JoinRefusal::BadProof))), "{joined:?}");
    first.join("lb2", &token).await.1.unwrap();
}

/// A client that trusts everybody, with or without a certificate, to see how the server answers.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Tries to speak `protocols`, by the identity in this directory if any; the reason why it was cut off.
async fn intrude(server: &Node, protocols: &[&[u8]], identity: Option<&Path>) -> quinn::ConnectionError {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match identity.map(|dir| dir.join("identity.pem")) {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = CertificateDer::pem_file_iter(&pem).unwrap().collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pem).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let endpoint = quinn::Endpoint::client(HERE.parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(config));
    match endpoint.connect_with(config, server.address, SERVER_NAME).unwrap().await {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    }
}

#[tokio::test]
async fn nobody_speaks_the_members_protocol_without_a_certificate_of_the_cluster() {
    let first = Node::first().await;
    let other = Node::first().await;
    let (cluster, joining) = (tls::CLUSTER_PROTOCOL, tls::JOIN_PROTOCOL);
    let attempts: [(&[&[u8]], Option<&Path>); 6] = [
        (&[cluster], None),
        (&[cluster, joining], None),
        (&[joining, cluster], None),
        (&[cluster], Some(other.dir.path())),
        (&[b"h3"], None),
        (&[], None),
    ];
    for (n, (protocols, identity)) in attempts.into_iter().enumerate() {
        let error = intrude(&first, protocols, identity).await;
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "attempt {n}: {error:?}");
        first.turned_away_is(n as u64 + 1).await;
    }
    assert_eq!(first.members.load(Relaxed), 0);
}

#[test]
fn a_full_or_read_only_disk_is_named_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" --exact inside_a_small_disk --ignored --nocapture"#;
    let inner = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .env("SMALL_DISK", dir.path())
        .output();
    let output = match inner {
        Ok(output) if output.status.code() == Some(32) || output.status.code() == Some(1) => {
            eprintln!("skipped: no mounts in an own namespace here");
            return;
        }
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: unshare: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "runs inside a_full_or_read_only_disk_is_named_and_nothing_is_changed"]
fn inside_a_small_disk() {
    let Some(disk) = std::env::var_os("SMALL_DISK") else { return };
    let (disk, state) = (Path::new(&disk), Path::new(&disk).join("state"));
    let identity = init(&state, "lb1", Role::Member).unwrap();
    std::fs::write(disk.join("fill"), [0; 64 * 1024]).unwrap_err();

    let before = std::fs::read_dir(&state).unwrap().count();
    let error = tokens::create(&state, &identity, &wanted()).unwrap_err().to_string();
    assert!(error.contains("issuer.json") && error.contains("make room"), "{error}");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), before);

    let fresh = disk.join("fresh");
    let error = init(&fresh, "lb2", Role::Member).unwrap_err().to_string();
    assert!(error.contains("fresh") && error.contains("make room"), "{error}");
    assert!(matches!(Identity::load(&fresh), Err(IdentityError::Missing(_))));

    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(disk).status().unwrap().success());
    let error = tokens::create(&state, &identity, &wanted()).unwrap_err().to_string();
    assert!(error.contains("Read-only") && error.contains("mount it writable"), "{error}");
    Identity::load(&state).unwrap();
}
