//! What went wrong, and what the operator can do about it.

use super::socket::{self, ANSWER_WITHIN, Refusal};
use super::{ATTEMPTS, MAX_GUARDED, table, wire};
use rustix::io::Errno;
use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error(
        "nf_tables needs CAP_NET_ADMIN: run haclusterd as root, or with AmbientCapabilities=CAP_NET_ADMIN in its unit"
    )]
    Capability,
    #[error(
        "this kernel cannot {step}: it needs {needs}. Without the fence, the VIP of a daemon that is killed or stopped may \
         stand up to 1.1 s after another host has taken it over"
    )]
    Unsupported { step: &'static str, needs: &'static str },
    #[error("the kernel refused to {step}: {source}{text}")]
    Refused { step: &'static str, source: io::Error, text: String },
    #[error("the kernel did not answer within {} ms", ANSWER_WITHIN.as_millis())]
    NoAnswer,
    #[error("a renewal took {} ms, {ATTEMPTS} times: closed, for it would have lasted too long", took.as_millis())]
    Late { took: Duration },
    #[error("{0} addresses are more than the {MAX_GUARDED} that can be guarded")]
    TooMany(usize),
}

impl From<Refusal> for FenceError {
    fn from(refusal: Refusal) -> FenceError {
        let Refusal { errno, step, text } = refusal;
        let chain = matches!(step, table::INGRESS_STEP | table::EGRESS_STEP);
        let question = matches!(step, table::LIST_STEP | socket::GENERATION_STEP);
        match errno {
            Errno::PERM if question || step == wire::BEGIN_STEP => FenceError::Capability,
            Errno::AGAIN if step == socket::ANSWER_STEP => FenceError::NoAnswer,
            Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => FenceError::unsupported(step),
            // No such kind of chain; an interface that went away was tried again without.
            Errno::NOENT if chain => FenceError::unsupported(step),
            // How netfilter's sockets say that nobody listens for nf_tables.
            Errno::INVAL if question => FenceError::unsupported(step),
            _ => {
                let text = text.map_or(String::new(), |text| format!(" ({text})"));
                FenceError::Refused { step, source: errno.into(), text }
            }
        }
    }
}

impl FenceError {
    fn unsupported(step: &'static str) -> FenceError {
        let needs = match step {
            table::EGRESS_STEP => "CONFIG_NETFILTER_EGRESS, which Linux 5.16 was the first to have",
            table::INGRESS_STEP => "CONFIG_NETFILTER_INGRESS and CONFIG_NF_TABLES_NETDEV",
            table::TABLE_STEP => "CONFIG_NF_TABLES_NETDEV",
            _ => "CONFIG_NF_TABLES",
        };
        FenceError::Unsupported { step, needs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let said = |errno, step| FenceError::from(Refusal { errno, step, text: None }).to_string();
        assert!(said(Errno::OPNOTSUPP, table::EGRESS_STEP).contains("NETFILTER_EGRESS, which Linux 5.16"));
        assert!(said(Errno::NOENT, table::INGRESS_STEP).contains("CONFIG_NF_TABLES_NETDEV"));
        assert!(said(Errno::INVAL, table::LIST_STEP).contains("CONFIG_NF_TABLES."));
        assert!(said(Errno::PERM, wire::BEGIN_STEP).contains("CAP_NET_ADMIN"));
        assert!(
            said(Errno::NOENT, "put an address in").starts_with("the kernel refused to put an address in: ")
        );
    }
}
