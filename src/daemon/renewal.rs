//! Certificates that end are replaced in time: this node's own by the issuer, and others' if this is the issuer.
//!
//! ```text
//! R certificate    to the issuer: the same for another life, please; only from the node that it names
//! C certificate    the answer
//! ```
//! Both are streams between members, each of which has shown its certificate already. Without an answer it is asked again.

use super::{Entrance, ToCore};
use crate::engine::Input;
use crate::io::identity::Identity;
use crate::io::quic::Transport;
use haclusterd_proto::NodeId;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks at the calendar.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
const ASK: u8 = b'R';
const ANSWER: u8 = b'C';

#[derive(Clone)]
pub(super) struct Renewal {
    pub identity: Arc<Identity>,
    pub dir: PathBuf,
    pub transport: Transport,
    pub core: Entrance<ToCore>,
}

impl Renewal {
    /// `issuers`: members that have the CA's key.
    pub fn look(&self, issuers: impl Iterator<Item = NodeId>) {
        if SystemTime::now() < self.identity.renews_at() {
            return;
        }
        let own = self.identity.certificate_der();
        if self.identity.is_issuer() {
            match self.identity.reissue(&own) {
                Ok(new) => self.take(new.to_vec()),
                Err(error) => tracing::warn!("this node's certificate is not renewed: {error}"),
            }
            return;
        }
        let question = [&[ASK], own.as_ref()].concat();
        // One answers; where none is connected, it is tried again.
        let _ = issuers.into_iter().any(|issuer| self.transport.stream_to(issuer, question.clone()));
    }

    /// False: it is something else.
    pub fn heard(&self, from: NodeId, bytes: &[u8]) -> bool {
        match bytes.split_first() {
            Some((&ASK, certificate)) => self.answer(from, certificate),
            Some((&ANSWER, certificate)) if SystemTime::now() >= self.identity.renews_at() => {
                self.take(certificate.to_vec());
            }
            Some((&ANSWER, _)) => {}
            _ => return false,
        }
        true
    }

    fn answer(&self, from: NodeId, certificate: &[u8]) {
        let named = self.identity.trust().verify_member(certificate).ok();
        let is_its_own = named.is_some_and(|member| member.node == from);
        if !is_its_own || !self.identity.is_issuer() {
            return;
        }
        match self.identity.reissue(certificate) {
            Ok(new) => drop(self.transport.stream_to(from, [&[ANSWER], new.as_ref()].concat())),
            Err(error) => tracing::warn!("the certificate of {} is not renewed: {error}", from.short()),
        }
    }

    /// The disk may be slow.
    fn take(&self, certificate: Vec<u8>) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || match this.identity.renew(&this.dir, &certificate) {
            Ok(until) => {
                let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                this.core.send(ToCore::Input(Input::Renewed(i64::try_from(seconds).unwrap_or(i64::MAX))));
            }
            Err(error) => tracing::warn!("the renewed certificate is not taken: {error}"),
        });
    }
}
