//! What the transport's tests share: a small CA, nodes with certificates of it, and what they have heard.

use super::super::{Event, Events, Identify, JOIN_ALPN, Settings, Transport, TransportError};
use haclusterd_proto::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub const NAME: &str = "cluster.test";
pub const MEMBER_ALPN: &[u8] = b"haclusterd/1";

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert: Vec<u8>,
}

/// A node's papers: what a process needs to be it.
#[derive(Clone)]
pub struct Papers {
    pub id: NodeId,
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

pub struct Node {
    pub transport: Transport,
    pub id: NodeId,
    pub addr: SocketAddr,
    pub heard: UnboundedReceiver<Event>,
}

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: Issuer::new(params, key), cert }
    }

    pub fn papers(&self) -> Papers {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.into()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Papers { id: id_of(&cert), ca: self.cert.clone(), cert, key: key.serialize_der() }
    }

    pub fn node(&self) -> Node {
        self.papers().start(([127, 0, 0, 1], 0).into())
    }
}

impl Papers {
    pub fn start(&self, bind: SocketAddr) -> Node {
        self.try_start(bind).unwrap()
    }

    pub fn try_start(&self, bind: SocketAddr) -> Result<Node, TransportError> {
        let (told, heard) = unbounded_channel();
        let events: Events = Arc::new(move |event| drop(told.send(event)));
        let settings = Settings {
            bind,
            me: self.id,
            server: self.server(),
            client: self.client(MEMBER_ALPN, true),
            server_name: NAME,
            identify: identify(),
            reset_secret: self.id.0.repeat(2).try_into().unwrap(),
        };
        let transport = Transport::start(settings, events)?;
        let addr = transport.0.config.bind;
        Ok(Node { transport, id: self.id, addr, heard })
    }

    /// Trusts this CA and shows papers of another.
    pub fn with_certificate_of(&self, other: &Papers) -> Papers {
        Papers { ca: self.ca.clone(), ..other.clone() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.clone())).unwrap();
        Arc::new(roots)
    }

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.cert.clone().into()], PrivateKeyDer::try_from(self.key.clone()).unwrap())
    }

    fn server(&self) -> quinn::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let (chain, key) = self.chain_and_key();
        let mut tls = builder
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![MEMBER_ALPN.to_vec(), JOIN_ALPN.to_vec()];
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
    }

    pub fn client(&self, alpn: &[u8], with_certificate: bool) -> quinn::ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let (chain, key) = self.chain_and_key();
        let mut tls = if with_certificate {
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    /// A connection with quinn's own hands, for what the transport would not do.
    pub async fn dial(&self, to: SocketAddr, alpn: &[u8], with_certificate: bool) -> quinn::Connection {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let config = self.client(alpn, with_certificate);
        endpoint.connect_with(config, to, NAME).unwrap().await.unwrap()
    }

    pub fn save(&self, dir: &Path) {
        for (name, bytes) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    pub fn load(dir: &Path) -> Papers {
        let [ca, cert, key] = ["ca", "cert", "key"].map(|name| std::fs::read(dir.join(name)).unwrap());
        Papers { id: id_of(&cert), ca, cert, key }
    }
}

impl Node {
    pub fn keep(&self, peers: &[&Node]) {
        let peers: Vec<_> = peers.iter().map(|peer| (Some(peer.id), peer.addr)).collect();
        self.transport.set_peers(&peers);
    }

    /// The first event that is wanted; the others before it are dropped.
    pub async fn hears<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = wanted(self.heard.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), search).await;
        found.unwrap_or_else(|_| panic!("never heard: {what}"))
    }

    pub async fn hears_up(&mut self, of: NodeId) {
        self.hears("up", |event| matches!(event, Event::Up { node, .. } if node == of).then_some(())).await;
    }

    pub async fn hears_down(&mut self, of: NodeId) -> String {
        let down = |event| match event {
            Event::Down { node, reason } if node == of => Some(reason),
            _ => None,
        };
        self.hears("down", down).await
    }

    pub async fn hears_datagram(&mut self) -> (NodeId, Vec<u8>) {
        let datagram = |event| match event {
            Event::Datagram { from, bytes } => Some((from, bytes.to_vec())),
            _ => None,
        };
        self.hears("a datagram", datagram).await
    }

    pub async fn hears_stream(&mut self) -> (SocketAddr, Vec<u8>) {
        let stream = |event| match event {
            Event::Stream { addr, bytes, .. } => Some((addr, bytes)),
            _ => None,
        };
        self.hears("a stream", stream).await
    }
}

/// Two nodes that are connected, dialled by the first.
pub async fn pair(ca: &Ca) -> (Node, Node) {
    let (mut a, mut b) = (ca.node(), ca.node());
    a.keep(&[&b]);
    a.hears_up(b.id).await;
    b.hears_up(a.id).await;
    (a, b)
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn identify() -> Identify {
    Arc::new(|connection| {
        let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        Some(id_of(chain.first()?))
    })
}

fn id_of(cert: &[u8]) -> NodeId {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, cert.public_key().raw);
    NodeId(hash.as_ref()[..16].try_into().unwrap())
}
