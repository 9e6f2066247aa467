//! The join token: what an operator carries from the issuer to a new node, in one string.
//!
//! ```text
//! hacl1.<SHA-256 of the CA's public key, 52>.<id, 8>.<secret, 26>      base32, lower case, no padding
//! ```
//! The hash lets the new node know its cluster before it says anything; the id is public and names the token in
//! lists and logs; the secret never crosses the network. The prefix is there for secret scanners.

use data_encoding::BASE32_NOPAD_NOCASE as BASE32;
use ring::hkdf;
use std::fmt;
use std::str::FromStr;

pub const PREFIX: &str = "hacl1";

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub ca_hash: [u8; 32],
    pub id: TokenId,
    pub secret: [u8; 16],
}

/// The public name of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TokenId(pub [u8; 5]);

/// What proves the knowledge of a token's secret, and all that its issuer keeps of it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(pub [u8; 32]);

/// None of these repeats the text: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is empty: paste the line that `haclusterd token create` printed")]
    Empty,
    #[error("this is not a join token: one starts with \"hacl1.\" (see `haclusterd token create`)")]
    NotAToken,
    #[error(
        "this join token is of another version, this release reads only \"hacl1.\": make it with this release"
    )]
    Version,
    #[error(
        "the token has {0} parts instead of 4: copy the whole line that `haclusterd token create` printed"
    )]
    Parts(usize),
    #[error("the token's {part} has {len} letters instead of {want}: copy it whole")]
    Length { part: &'static str, len: usize, want: usize },
    #[error("the token's {part} has a letter that a token never has (a-z and 2-7): copy it again")]
    Letter { part: &'static str },
}

impl Token {
    /// The secret itself is never a MAC key, and the key of one token says nothing of another.
    #[must_use]
    pub fn key(&self) -> TokenKey {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"haclusterd join token v1")
            .extract(&self.secret)
            .expand(&[&self.id.0], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("HKDF-SHA256 gives 32 bytes");
        TokenKey(key)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", base32(&self.ca_hash), self.id, base32(&self.secret))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Blanks around a token are forgiven: it comes from a file or from a terminal.
    fn from_str(text: &str) -> Result<Token, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        match parts[..] {
            [""] => Err(TokenError::Empty),
            [PREFIX, hash, id, secret] => Ok(Token {
                ca_hash: part("cluster hash", hash)?,
                id: TokenId(part("id", id)?),
                secret: part("secret", secret)?,
            }),
            [PREFIX, ..] => Err(TokenError::Parts(parts.len())),
            [other, _, ..] if is_other_version(other) => Err(TokenError::Version),
            _ => Err(TokenError::NotAToken),
        }
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<TokenId, TokenError> {
        part("id", text).map(TokenId)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, secret hidden)", self.id)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(hidden)")
    }
}

fn is_other_version(head: &str) -> bool {
    head.strip_prefix("hacl")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn base32(bytes: &[u8]) -> String {
    BASE32.encode(bytes).to_ascii_lowercase()
}

fn part<const N: usize>(part: &'static str, text: &str) -> Result<[u8; N], TokenError> {
    let want = BASE32.encode_len(N);
    if text.len() != want {
        return Err(TokenError::Length { part, len: text.chars().count(), want });
    }
    let bytes = BASE32.decode(text.as_bytes()).map_err(|_| TokenError::Letter { part })?;
    bytes.try_into().map_err(|_| TokenError::Letter { part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token { ca_hash: [0xab; 32], id: TokenId([1, 2, 3, 4, 5]), secret: [0x5a; 16] }
    }

    #[test]
    fn a_token_has_this_form() {
        let text = token().to_string();
        assert_eq!(text.split('.').map(str::len).collect::<Vec<_>>(), [5, 52, 8, 26]);
        assert!(text.starts_with("hacl1.vov2xk5l") && text.contains(".aebagbaf."), "{text}");
    }

    #[test]
    fn only_display_shows_the_secret() {
        let secret = base32(&token().secret);
        assert!(!format!("{:?} {:?}", token(), token().key()).contains(&secret));
    }

    #[test]
    fn each_damage_has_its_own_error() {
        let text = token().to_string();
        let parse = |text: &str| text.parse::<Token>().unwrap_err();
        assert_eq!(parse("  \n"), TokenError::Empty);
        assert_eq!(parse("SWMTKN-1-abc-def"), TokenError::NotAToken);
        assert_eq!(parse(&text.replace("hacl1.", "hacl2.")), TokenError::Version);
        assert_eq!(parse(&text[..60]), TokenError::Parts(3));
        assert_eq!(parse(&text[..80]), TokenError::Length { part: "secret", len: 12, want: 26 });
        assert_eq!(parse(&text.replace("aebagbaf", "aebagba1")), TokenError::Letter { part: "id" });
    }

    #[test]
    fn the_key_depends_on_the_secret_and_on_the_id() {
        let other_id = Token { id: TokenId([0; 5]), ..token() };
        let other_secret = Token { secret: [0; 16], ..token() };
        assert!(token().key() == token().key());
        assert!(token().key() != other_id.key() && token().key() != other_secret.key());
    }

    proptest! {
        #[test]
        fn tokens_are_read_as_they_are_written(ca_hash: [u8; 32], id: [u8; 5], secret: [u8; 16]) {
            let token = Token { ca_hash, id: TokenId(id), secret };
            prop_assert_eq!(format!(" {token}\n").parse(), Ok(token));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,120}") {
            let _ = text.parse::<Token>();
        }
    }
}
