//! Real ECDSA keys with the simplest certificate there is: the public key itself, whose hash is the node's id.

use super::Keys;
use haclusterd_proto::NodeId;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

pub struct PlainKeys(EcdsaKeyPair);

impl PlainKeys {
    pub fn new() -> PlainKeys {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        PlainKeys(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &SystemRandom::new()).unwrap())
    }

    pub fn node(&self) -> NodeId {
        node_of(&self.certificate())
    }
}

fn node_of(certificate: &[u8]) -> NodeId {
    NodeId(digest(&SHA256, certificate).as_ref()[..16].try_into().unwrap())
}

impl Keys for PlainKeys {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
    }

    fn certificate(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    fn verify(&self, certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<NodeId, String> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, certificate)
            .verify(message, signature)
            .map(|()| node_of(certificate))
            .map_err(|_| "the signature is false".into())
    }
}
