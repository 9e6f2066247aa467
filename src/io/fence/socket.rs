//! One socket to nf_tables. The kernel answers inside the call that sends, so nothing here waits, unless an answer is
//! lost.

use super::wire::{self, Batch, Bytes, Says};
use netlink_sys::{Socket as Netlink, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{RecvFlags, netdevice, recv};
use std::io;
use std::time::Duration;

const NETLINK_NETFILTER: isize = 12;
/// An answer that has not come by now was lost.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(200);
/// A transaction is one message: some 270 bytes for each address.
const TRANSACTION: usize = 4 * 1024 * 1024;
/// The kernel's datagrams are at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// A list longer than this is none of ours: two chains and seven rules an interface.
const MAX_ANSWERS: usize = 16 * 1024;

/// What an error says was refused.
pub const ANSWER_STEP: &str = "answer";
pub const GENERATION_STEP: &str = "tell the generation of its ruleset";

const GET_GENERATION: u8 = 16;
const GENERATION_ID: u16 = 1;

#[derive(Debug)]
pub struct Socket {
    netlink: Netlink,
    sequence: u32,
    buffer: Box<[u8]>,
}

/// Why something did not happen.
#[derive(Debug)]
pub struct Refusal {
    pub errno: Errno,
    /// In words that follow "refused to".
    pub step: &'static str,
    /// The kernel's own words, if it had any.
    pub text: Option<String>,
}

impl Refusal {
    fn of(errno: Errno, step: &'static str) -> Refusal {
        Refusal { errno, step, text: None }
    }
}

impl Socket {
    pub fn open() -> io::Result<Socket> {
        let mut netlink = Netlink::new(NETLINK_NETFILTER)?;
        netlink.bind_auto()?;
        // To the kernel: nobody else is heard.
        netlink.connect(&SocketAddr::new(0, 0))?;
        netlink.set_cap_ack(true)?;
        netlink.set_ext_ack(true)?;
        set_socket_timeout(&netlink, Timeout::Recv, Some(ANSWER_WITHIN))?;
        // Where that is not allowed, the usual size has room for some hundred addresses.
        let _ = set_socket_send_buffer_size_force(&netlink, TRANSACTION);
        Ok(Socket { netlink, sequence: 1, buffer: vec![0; BUFFER].into() })
    }

    /// The name of an interface that is there.
    pub fn device(&self, ifindex: u32) -> Option<String> {
        netdevice::index_to_name(&self.netlink, ifindex).ok()
    }

    /// `generation`: the transaction is refused with [`Errno::RESTART`] if the ruleset is of another one.
    pub fn batch(&self, generation: Option<u32>) -> Batch {
        Batch::begin(self.sequence, generation)
    }

    pub fn commit(&mut self, mut batch: Batch) -> Result<(), Refusal> {
        self.send(batch.seal(), "take a transaction")?;
        self.sequence = batch.after();
        loop {
            for message in wire::messages(self.receive()?) {
                // Another number answers a question that was given up.
                let Some(step) = batch.step(message.sequence) else { continue };
                match message.says {
                    Says::Refused { errno, text } => {
                        return Err(Refusal { errno, step, text: text.map(str::to_owned) });
                    }
                    Says::Acknowledged if batch.ends_with(message.sequence) => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    /// The attributes of each member of a list. `None` if it changed while it was read.
    pub fn list(
        &mut self,
        kind: u8,
        step: &'static str,
        fill: impl FnOnce(&mut Bytes),
    ) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        self.ask(kind, wire::DUMP, step, fill)
    }

    /// The number of the ruleset, which every transaction of anybody raises by one.
    pub fn generation(&mut self) -> Result<u32, Refusal> {
        let answer = self.ask(GET_GENERATION, wire::ACK, GENERATION_STEP, |_| ())?.unwrap_or_default();
        let number =
            answer.iter().find_map(|answer| wire::octets(wire::attribute(answer, GENERATION_ID)?, 0));
        number.map(u32::from_be_bytes).ok_or(Refusal::of(Errno::BADMSG, GENERATION_STEP))
    }

    fn ask(
        &mut self,
        kind: u8,
        flags: u16,
        step: &'static str,
        fill: impl FnOnce(&mut Bytes),
    ) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.send(&wire::question(kind, flags, sequence, fill), step)?;
        let (mut found, mut steady) = (Vec::new(), true);
        loop {
            for message in wire::messages(self.receive()?).filter(|message| message.sequence == sequence) {
                match message.says {
                    Says::Answer { .. } if found.len() == MAX_ANSWERS => {
                        return Err(Refusal::of(Errno::MSGSIZE, step));
                    }
                    Says::Answer { attributes, steady: still } => {
                        steady &= still;
                        found.push(attributes.to_vec());
                    }
                    Says::Refused { errno, text } => {
                        return Err(Refusal { errno, step, text: text.map(str::to_owned) });
                    }
                    Says::Done | Says::Acknowledged => return Ok(steady.then_some(found)),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8], step: &'static str) -> Result<(), Refusal> {
        let sent = self.netlink.send(bytes, 0);
        sent.map(drop).map_err(|error| Refusal::of(Errno::from_io_error(&error).unwrap_or(Errno::IO), step))
    }

    /// [`Errno::AGAIN`] after [`ANSWER_WITHIN`].
    fn receive(&mut self) -> Result<&[u8], Refusal> {
        loop {
            match recv(&self.netlink, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => return Ok(&self.buffer[..len]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Refusal::of(errno, ANSWER_STEP)),
            }
        }
    }
}
