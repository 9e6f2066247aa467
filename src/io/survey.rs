//! Which virtual routers are spoken for on a link: their masters are heard, their backups are silent.

use super::adverts;
use super::vrrp::{Heard, Listener, VrrpError, Wire};
use haclusterd_proto::vrrp::Repr;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Every VRID of both families, each spoken for by two hosts.
const MOST: usize = 1020;

/// The last advert of one host for one virtual router.
#[derive(Debug, Clone)]
pub struct Found {
    pub repr: Repr,
    pub packet: Heard,
}

/// In the order of VRID, family and host.
pub async fn listen(ifindex: u32, span: Duration) -> Result<Vec<Found>, VrrpError> {
    let all: Arc<Mutex<BTreeMap<(u8, IpAddr), Found>>> = Arc::default();
    let note = all.clone();
    let heard = Arc::new(move |packet: Heard| {
        let Ok(repr) = adverts::read(&packet) else { return };
        let mut all = note.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repr.vrid.get(), packet.source);
        if all.len() < MOST || all.contains_key(&key) {
            all.insert(key, Found { repr, packet });
        }
    });
    let open = |wire| Listener::open(ifindex, wire, heard.clone());
    let listeners = [Wire::V4, Wire::V4Ah, Wire::V6].into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    tokio::time::sleep(span).await;
    drop(listeners);
    let all = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(all.into_values().collect())
}
