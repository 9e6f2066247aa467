//! What the issuer remembers: the join tokens it has made, and which node it has given each name.
//!
//! Both are in one file, `<state dir>/issuer.json`, so that the use of a token and the name it gave are on the
//! disk together, before the certificate is signed. Of a secret only its key is kept; whoever can read that can
//! read the CA's key beside it.

mod record;

pub use record::{TokenRecord, TokenState};

use super::identity::store::{StateDir, StoreError, read_private};
use super::identity::{Identity, random};
use haclusterd_proto::join::JoinRefusal;
use haclusterd_proto::token::{Token, TokenId, TokenKey};
use haclusterd_proto::units::{BadUnit, check_name};
use haclusterd_proto::{NodeId, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FILE: &str = "issuer.json";
/// More live tokens than anybody oversees; keeps the file under its limit.
pub const MAX_TOKENS: usize = 1024;
/// Names given and not released; far beyond the size of a cluster.
pub const MAX_NAMES: usize = 1024;
/// A token for more nodes than this is a password.
pub const MAX_USES: u32 = 100;
/// No token outlives the certificates of its time.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// An ended token is kept this long, so that a late user is told what happened to it.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    #[error("this node does not issue certificates: make tokens on the node where `haclusterd init` ran")]
    NotIssuer,
    #[error("--ttl must be from 1s to {}", humantime::format_duration(MAX_TTL))]
    Ttl,
    #[error("--uses must be from 1 to {MAX_USES}")]
    Uses,
    #[error("a token for one node name can be used only once: leave out --uses or --node")]
    UsesOfOneName,
    #[error(
        "{MAX_TOKENS} tokens are waiting to be used: revoke some (`haclusterd token list`, `token revoke ID`)"
    )]
    TooMany,
    #[error("there is no token {0}: see `haclusterd token list`")]
    NoSuchToken(TokenId),
    #[error("no node was given the name {0:?}: see `haclusterd members`")]
    NoSuchName(String),
    #[error("{} is damaged ({what}): restore it from a backup, or move it away and make new tokens", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error(transparent)]
    Name(#[from] BadUnit),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the kernel gives no random bytes")]
    NoRandomness,
}

/// What an operator asks of a new token.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub ttl: Duration,
    pub uses: u32,
    /// The only name that may join with it.
    pub node: Option<String>,
    pub role: Role,
}

/// Which node has a name, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(with = "node_text")]
    node: NodeId,
    at: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    tokens: Vec<TokenRecord>,
    names: BTreeMap<String, Given>,
}

pub fn create(dir: &Path, issuer: &Identity, wanted: &Wanted) -> Result<Token, TokensError> {
    wanted.check()?;
    if !issuer.is_issuer() {
        return Err(TokensError::NotIssuer);
    }
    let token = Token {
        ca_hash: issuer.trust().ca_hash(),
        id: TokenId(random().map_err(|_| TokensError::NoRandomness)?),
        secret: random().map_err(|_| TokensError::NoRandomness)?,
    };
    let mut desk = Desk::open(dir)?;
    desk.add(&token, wanted)?;
    desk.save()?;
    Ok(token)
}

/// The newest first.
pub fn list(dir: &Path) -> Result<Vec<TokenRecord>, TokensError> {
    let mut tokens = read(dir)?.tokens;
    tokens.sort_by_key(|token| std::cmp::Reverse(token.created));
    Ok(tokens)
}

/// A second time is no error: the token is revoked.
pub fn revoke(dir: &Path, id: TokenId) -> Result<(), TokensError> {
    let mut desk = Desk::open(dir)?;
    let now = desk.now;
    let token = desk.find(id).ok_or(TokensError::NoSuchToken(id))?;
    token.revoked.get_or_insert(now);
    desk.save()
}

/// Lets a name be given to another node. The certificate of the first stays valid until it expires.
pub fn release_name(dir: &Path, name: &str) -> Result<NodeId, TokensError> {
    let mut desk = Desk::open(dir)?;
    let given = desk.book.names.remove(name).ok_or_else(|| TokensError::NoSuchName(name.into()))?;
    desk.save()?;
    Ok(given.node)
}

/// The issuer's book, opened for writing: nobody else writes it meanwhile.
pub(super) struct Desk {
    state: StateDir,
    book: Book,
    now: u64,
}

impl Desk {
    pub fn open(dir: &Path) -> Result<Desk, TokensError> {
        Desk::open_at(dir, seconds(SystemTime::now()))
    }

    fn open_at(dir: &Path, now: u64) -> Result<Desk, TokensError> {
        let state = StateDir::lock(dir)?;
        let mut book = read(dir)?;
        book.tokens.retain(|token| token.ended(now).is_none_or(|end| now < end + REMEMBERED.as_secs()));
        Ok(Desk { state, book, now })
    }

    /// What a proof must be made with.
    pub fn key(&self, id: TokenId) -> Option<TokenKey> {
        let token = self.book.tokens.iter().find(|token| token.id == id.to_string())?;
        let bytes = data_encoding::HEXLOWER.decode(token.key.as_bytes()).ok()?;
        bytes.try_into().ok().map(TokenKey)
    }

    /// Spends one use of a token and gives the name to the node, on the disk. After this, and only then, the CA
    /// may sign.
    pub fn redeem(mut self, id: TokenId, name: &str, role: Role, node: NodeId) -> Result<(), JoinRefusal> {
        let now = self.now;
        let token = self.find(id).ok_or(JoinRefusal::UnknownToken)?;
        token.admit(name, role, now)?;
        token.uses_left -= 1;
        token.last_used = Some(now);
        token.used_by.push(name.into());
        self.give(name, node)?;
        self.save().map_err(|error| JoinRefusal::StateNotWritable(error.to_string()))
    }

    fn give(&mut self, name: &str, node: NodeId) -> Result<(), JoinRefusal> {
        if let Some(given) = self.book.names.get(name).filter(|given| given.node != node) {
            return Err(JoinRefusal::NameTaken { by: given.node });
        }
        if self.book.names.iter().any(|(other, given)| other != name && given.node == node) {
            return Err(JoinRefusal::BadRequest("this key belongs to a node of another name".into()));
        }
        if self.book.names.len() >= MAX_NAMES {
            let full = format!("{MAX_NAMES} names are given: free some with `haclusterd token release NAME`");
            return Err(JoinRefusal::IssuerFailed(full));
        }
        self.book.names.insert(name.into(), Given { node, at: self.now });
        Ok(())
    }

    fn add(&mut self, token: &Token, wanted: &Wanted) -> Result<(), TokensError> {
        if self.book.tokens.len() >= MAX_TOKENS {
            let now = self.now;
            let ended = self.book.tokens.iter().position(|token| token.state_at(now) != TokenState::Ready);
            self.book.tokens.remove(ended.ok_or(TokensError::TooMany)?);
        }
        self.book.tokens.push(TokenRecord {
            id: token.id.to_string(),
            key: data_encoding::HEXLOWER.encode(&token.key().0),
            node: wanted.node.clone(),
            role: wanted.role,
            created: self.now,
            expires: self.now.saturating_add(wanted.ttl.as_secs()),
            uses_left: wanted.uses,
            used_by: Vec::new(),
            last_used: None,
            revoked: None,
        });
        Ok(())
    }

    fn find(&mut self, id: TokenId) -> Option<&mut TokenRecord> {
        self.book.tokens.iter_mut().find(|token| token.id == id.to_string())
    }

    fn save(&self) -> Result<(), TokensError> {
        let json = serde_json::to_vec(&self.book)
            .map_err(|error| TokensError::Damaged { path: self.state.path(FILE), what: error.to_string() })?;
        Ok(self.state.replace(FILE, &json)?)
    }
}

impl Wanted {
    fn check(&self) -> Result<(), TokensError> {
        if self.ttl < Duration::from_secs(1) || self.ttl > MAX_TTL {
            return Err(TokensError::Ttl);
        }
        if !(1..=MAX_USES).contains(&self.uses) {
            return Err(TokensError::Uses);
        }
        if self.uses > 1 && self.node.is_some() {
            return Err(TokensError::UsesOfOneName);
        }
        Ok(self.node.as_deref().map_or(Ok(()), check_name)?)
    }
}

fn read(dir: &Path) -> Result<Book, TokensError> {
    let path = dir.join(FILE);
    let Some(bytes) = read_private(&path)? else { return Ok(Book::default()) };
    serde_json::from_slice(&bytes).map_err(|error| TokensError::Damaged { path, what: error.to_string() })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A node id as text; its own form is for the wire.
mod node_text {
    use haclusterd_proto::NodeId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(node)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::identity::init;
    use std::os::unix::fs::PermissionsExt;

    fn wanted() -> Wanted {
        Wanted { ttl: Duration::from_secs(3600), uses: 1, node: None, role: Role::Member }
    }

    fn issuer() -> (tempfile::TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let identity = init(dir.path(), "lb1", Role::Member).unwrap();
        (dir, identity)
    }

    fn redeem(dir: &Path, id: TokenId, name: &str, node: u8, after: u64) -> Result<(), JoinRefusal> {
        let now = seconds(SystemTime::now()) + after;
        Desk::open_at(dir, now).unwrap().redeem(id, name, Role::Member, NodeId([node; 16]))
    }

    #[test]
    fn a_use_is_on_the_disk_at_once_and_the_secret_never() {
        let (dir, identity) = issuer();
        let token = create(dir.path(), &identity, &wanted()).unwrap();
        redeem(dir.path(), token.id, "lb2", 2, 0).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(r#""uses_left":0"#) && text.contains(r#""lb2":{"node":"0202"#), "{text}");
        assert!(!text.contains(&token.to_string()[68..]), "{text}");
        assert_eq!(list(dir.path()).unwrap()[0].state(), TokenState::Used);
    }

    #[test]
    fn an_ended_token_says_why_for_a_day_and_is_then_forgotten() {
        let (dir, identity) = issuer();
        let [old, used, revoked] = [1, 2, 3].map(|_| create(dir.path(), &identity, &wanted()).unwrap().id);
        redeem(dir.path(), used, "lb2", 2, 0).unwrap();
        revoke(dir.path(), revoked).unwrap();
        assert_eq!(redeem(dir.path(), used, "lb3", 3, 0), Err(JoinRefusal::Used { by: Some("lb2".into()) }));
        assert_eq!(redeem(dir.path(), revoked, "lb3", 3, 0), Err(JoinRefusal::Revoked));
        assert!(matches!(
            redeem(dir.path(), old, "lb3", 3, 3700),
            Err(JoinRefusal::Expired { ago_s: 99..=101 })
        ));
        for id in [old, used, revoked] {
            assert_eq!(redeem(dir.path(), id, "lb3", 3, 26 * 3600), Err(JoinRefusal::UnknownToken));
        }
    }

    #[test]
    fn a_token_is_for_its_name_role_and_number_of_uses() {
        let (dir, identity) = issuer();
        let bound =
            create(dir.path(), &identity, &Wanted { node: Some("lb2".into()), ..wanted() }).unwrap().id;
        assert_eq!(
            redeem(dir.path(), bound, "lb3", 3, 0),
            Err(JoinRefusal::WrongName { bound_to: "lb2".into() })
        );
        let witness = create(dir.path(), &identity, &Wanted { role: Role::Witness, ..wanted() }).unwrap().id;
        assert_eq!(
            redeem(dir.path(), witness, "w", 3, 0),
            Err(JoinRefusal::WrongRole { allowed: Role::Witness })
        );
        let two = create(dir.path(), &identity, &Wanted { uses: 2, ..wanted() }).unwrap().id;
        redeem(dir.path(), two, "lb4", 4, 0).unwrap();
        redeem(dir.path(), two, "lb5", 5, 0).unwrap();
        assert!(matches!(redeem(dir.path(), two, "lb6", 6, 0), Err(JoinRefusal::Used { .. })));
    }

    #[test]
    fn a_name_belongs_to_one_node_until_it_is_released() {
        let (dir, identity) = issuer();
        let id = create(dir.path(), &identity, &Wanted { uses: 3, ..wanted() }).unwrap().id;
        redeem(dir.path(), id, "lb2", 2, 0).unwrap();
        assert_eq!(redeem(dir.path(), id, "lb2", 3, 0), Err(JoinRefusal::NameTaken { by: NodeId([2; 16]) }));
        assert!(matches!(redeem(dir.path(), id, "lb3", 2, 0), Err(JoinRefusal::BadRequest(_))));
        assert_eq!(list(dir.path()).unwrap()[0].uses_left, 2, "a refused join spends nothing");
        assert_eq!(release_name(dir.path(), "lb2").unwrap(), NodeId([2; 16]));
        redeem(dir.path(), id, "lb2", 3, 0).unwrap();
        assert!(matches!(release_name(dir.path(), "lb9"), Err(TokensError::NoSuchName(_))));
    }

    #[test]
    fn wishes_out_of_bounds_and_damaged_files_are_refused() {
        let (dir, identity) = issuer();
        for (bad, part) in [
            (Wanted { ttl: Duration::ZERO, ..wanted() }, "--ttl"),
            (Wanted { uses: 0, ..wanted() }, "--uses"),
            (Wanted { uses: 2, node: Some("a".into()), ..wanted() }, "--node"),
            (Wanted { node: Some("A".into()), ..wanted() }, "node name"),
        ] {
            let error = create(dir.path(), &identity, &bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        StateDir::lock(dir.path()).unwrap().replace(FILE, b"{\"tokens\": 1}").unwrap();
        let error = list(dir.path()).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_ended_ones_make_room() {
        let (dir, identity) = issuer();
        let first = create(dir.path(), &identity, &wanted()).unwrap();
        let mut desk = Desk::open(dir.path()).unwrap();
        for n in 1..MAX_TOKENS {
            let id = TokenId([9, 0, 0, (n / 256) as u8, (n % 256) as u8]);
            desk.add(&Token { id, ..first.clone() }, &wanted()).unwrap();
        }
        desk.save().unwrap();
        drop(desk);
        assert!(matches!(create(dir.path(), &identity, &wanted()), Err(TokensError::TooMany)));
        revoke(dir.path(), first.id).unwrap();
        create(dir.path(), &identity, &wanted()).unwrap();
        assert_eq!(list(dir.path()).unwrap().len(), MAX_TOKENS);
    }
}
