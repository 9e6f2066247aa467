//! The names in a node's certificate, its SANs: how they are written and how strictly they are read.
//!
//! ```text
//! DNS  cluster.haclusterd.internal               the same for all: what a client asks for
//! DNS  <name>.node.haclusterd.internal
//! URI  spiffe://<cluster id>/node/<node id>
//! URI  spiffe://<cluster id>/role/<member|witness>
//! URI  spiffe://<cluster id>/issuer              only if the node may sign certificates
//! ```

use super::CertError;
use haclusterd_proto::units::check_name;
use haclusterd_proto::{ClusterId, NodeId, Role};
use rcgen::SanType;
use webpki::EndEntityCert;

/// What every node's certificate is valid for, and what every client asks for.
pub const SERVER_NAME: &str = "cluster.haclusterd.internal";
const NODE_SUFFIX: &str = ".node.haclusterd.internal";

/// What a certificate says of its node.
pub(super) struct LeafNames<'a> {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub name: &'a str,
    pub role: Role,
    pub issuer: bool,
}

/// What the URIs of a certificate say; each thing once, and all of the same cluster.
#[derive(Default)]
pub(super) struct Names {
    pub cluster: Option<ClusterId>,
    pub node: Option<NodeId>,
    pub role: Option<Role>,
    pub issuer: bool,
}

impl Names {
    pub fn read_uri(&mut self, uri: &str) -> Result<(), CertError> {
        let bad = || CertError::Names("a URI that is not ours");
        let (cluster, path) =
            uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(bad)?;
        let cluster = cluster.parse().map_err(|_| bad())?;
        if *self.cluster.get_or_insert(cluster) != cluster {
            return Err(CertError::Names("two clusters"));
        }
        let twice = match path.split_once('/') {
            Some(("node", id)) => self.node.replace(id.parse().map_err(|_| bad())?).is_some(),
            Some(("role", role)) => self.role.replace(role.parse().map_err(|_| bad())?).is_some(),
            None if path == "issuer" => std::mem::replace(&mut self.issuer, true),
            _ => return Err(bad()),
        };
        if twice { Err(CertError::Names("the same URI twice")) } else { Ok(()) }
    }
}

impl LeafNames<'_> {
    pub fn subject_alt_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let LeafNames { cluster, node, name, role, issuer } = self;
        let mut names = vec![
            SanType::DnsName(SERVER_NAME.try_into()?),
            SanType::DnsName(format!("{name}{NODE_SUFFIX}").try_into()?),
            SanType::URI(format!("spiffe://{cluster}/node/{node}").try_into()?),
            SanType::URI(format!("spiffe://{cluster}/role/{role}").try_into()?),
        ];
        if *issuer {
            names.push(SanType::URI(format!("spiffe://{cluster}/issuer").try_into()?));
        }
        Ok(names)
    }
}

pub(super) fn node_name(certificate: &EndEntityCert<'_>) -> Result<String, CertError> {
    let mut names = certificate.valid_dns_names().filter_map(|name| name.strip_suffix(NODE_SUFFIX));
    let name = names.next().ok_or(CertError::Names("no node name"))?;
    if names.next().is_some() || check_name(name).is_err() {
        return Err(CertError::Names("two node names, or one that cannot be"));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_of_a_certificate_are_read_strictly() {
        let (a, b) = ("aa".repeat(16), "bb".repeat(16));
        let read = |uris: &[String]| {
            let mut names = Names::default();
            uris.iter().try_for_each(|uri| names.read_uri(uri))
        };
        let node = |cluster: &str| format!("spiffe://{cluster}/node/{a}");
        read(&[node(&a), format!("spiffe://{a}/role/member"), format!("spiffe://{a}/issuer")]).unwrap();
        for bad in [
            vec![node(&a), node(&a)],
            vec![node(&a), format!("spiffe://{b}/role/member")],
            vec![format!("spiffe://{a}/issuer"), format!("spiffe://{a}/issuer")],
            vec![format!("spiffe://{a}/role/king")],
            vec![format!("spiffe://{a}/node/{a}/x")],
            vec!["https://example.org/".into()],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
