//! The parameters of quinn, each with its reason.

use super::TransportError;
use quinn::congestion::{Controller, ControllerFactory};
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{hkdf, hmac};
use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than the pause between adverts in the usual profiles.
const ACK_DELAY: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Only says when a connection is given up; who is alive is judged elsewhere and much faster.
const IDLE_MS: u32 = 5_000;
/// Members are on one LAN. The default of 333 ms would make the first lost packet cost a second.
const FIRST_RTT: Duration = Duration::from_millis(20);
/// Enough for the longest gossip message in two windows; it is also what a hostile member can make us hold.
const STREAM_WINDOW: u32 = 48 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
const SEND_WINDOW: u64 = 128 * 1024;
/// Some 300 adverts. What does not fit pushes out the oldest, which is what an advert is for.
const DATAGRAM_BUFFER: usize = 64 * 1024;
/// What may be under way to one peer. See [`FixedWindow`].
const IN_FLIGHT: u64 = 64 * 1024;
/// Handshakes not yet looked at: they only wait for a turn of the accepting task.
const INCOMING_MAX: usize = 64;
/// A client hello of two packets, and then some.
const INCOMING_BUFFER: u64 = 8 * 1024;

/// Everything that opens the endpoint, once or again.
pub(super) struct Config {
    pub bind: SocketAddr,
    pub client: quinn::ClientConfig,
    server: quinn::ServerConfig,
    endpoint: EndpointConfig,
}

impl Config {
    pub fn open(
        bind: SocketAddr,
        mut server: quinn::ServerConfig,
        mut client: quinn::ClientConfig,
        reset_secret: &[u8; 32],
    ) -> Result<(Config, quinn::Endpoint), TransportError> {
        if bind.ip().is_unspecified() {
            return Err(TransportError::Wildcard(bind));
        }
        let transport = Arc::new(transport());
        server.transport_config(transport.clone()).migration(false).max_incoming(INCOMING_MAX);
        server.incoming_buffer_size(INCOMING_BUFFER);
        server.incoming_buffer_size_total(INCOMING_BUFFER * INCOMING_MAX as u64);
        client.transport_config(transport);
        let mut config = Config { bind, client, server, endpoint: endpoint(reset_secret) };
        let opened = config.reopen()?;
        // With port 0 (tests) the kernel has chosen; a later endpoint must be found at the same place.
        config.bind = opened.local_addr().map_err(|source| TransportError::Listen { addr: bind, source })?;
        Ok((config, opened))
    }

    pub fn reopen(&self) -> Result<quinn::Endpoint, TransportError> {
        let listen = || {
            let socket = UdpSocket::bind(self.bind)?;
            let runtime = Arc::new(quinn::TokioRuntime);
            quinn::Endpoint::new(self.endpoint.clone(), Some(self.server.clone()), socket, runtime)
        };
        listen().map_err(|source| TransportError::Listen { addr: self.bind, source })
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .initial_rtt(FIRST_RTT)
        .max_concurrent_uni_streams(VarInt::from_u32(64))
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        // Our packets are few and fit the smallest QUIC packet. Larger ones would bring probes, black holes that
        // shrink the datagrams at run time, and offload bugs of drivers.
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .congestion_controller_factory(Arc::new(FixedWindow))
        .ack_frequency_config(Some(rare_acks()));
    transport
}

/// An advert and its answer carry each other's acknowledgements; a packet for nothing else would be one more to wake
/// up for, on both sides, twenty times a second.
fn rare_acks() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(8)).max_ack_delay(Some(ACK_DELAY));
    acks
}

/// A restarted node must recognise connection ids of the run before and be able to reset them: both keys come
/// from the node's own secret.
fn endpoint(secret: &[u8; 32]) -> EndpointConfig {
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"haclusterd quic endpoint").extract(secret);
    // Both lengths are far below the 255 hashes that HKDF can give.
    let reset = root.expand(&[b"stateless reset"], hmac::HMAC_SHA256).expect("32 bytes");
    let mut cid = [0; 8];
    let filled = root.expand(&[b"connection id"], Eight).and_then(|okm| okm.fill(&mut cid));
    filled.expect("8 bytes");
    let cid = u64::from_be_bytes(cid);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::from(reset)));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid)));
    config
}

struct Eight;

impl hkdf::KeyType for Eight {
    fn len(&self) -> usize {
        8
    }
}

/// No congestion control: the window is what we can ever have to say. A usual one shrinks to two packets when the
/// link has lost some, and then holds adverts back until a probe timer of seconds has run: just when they are needed.
#[derive(Clone)]
struct FixedWindow;

impl ControllerFactory for FixedWindow {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(FixedWindow)
    }
}

impl Controller for FixedWindow {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        IN_FLIGHT
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(FixedWindow)
    }

    fn initial_window(&self) -> u64 {
        IN_FLIGHT
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
