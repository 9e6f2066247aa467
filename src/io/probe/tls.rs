//! TLS as a check speaks it: whose certificate it is counts only where the operator names a CA, for a check asks over
//! the loopback, under a name that the certificate need not have. Its dates always count.

use crate::config::Http;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = match ca {
        Some(path) => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider).build();
            builder.with_webpki_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each request is to be as a new client's.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| format!("{shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
    }
    Ok(roots)
}

/// For the server's virtual hosts, and for the certificate.
pub(super) fn server_name(http: &Http) -> Result<ServerName<'static>, String> {
    let host = http.host.as_deref().unwrap_or(&http.url.host);
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{bare:?} is no name for TLS"))
}

/// What an operator should know of a certificate: an error once it is not valid, a warning before.
pub(super) fn judge(der: &[u8], now: i64, warn: Duration) -> Result<Option<String>, String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Err("its certificate cannot be read".into());
    };
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let left = to.saturating_sub(now);
    let warn = i64::try_from(warn.as_secs()).unwrap_or(i64::MAX);
    match () {
        () if now < from => Err(format!("its certificate is not valid for {} yet", span(from - now))),
        () if left <= 0 => Err(format!("its certificate expired {} ago", span(-left))),
        () if left < warn => Ok(Some(format!("its certificate expires in {}", span(left)))),
        () => Ok(None),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Takes every certificate and every signature, also of kinds that we cannot check.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        vec![
            S::ECDSA_NISTP256_SHA256,
            S::ECDSA_NISTP384_SHA384,
            S::ECDSA_NISTP521_SHA512,
            S::ED25519,
            S::ED448,
            S::RSA_PSS_SHA256,
            S::RSA_PSS_SHA384,
            S::RSA_PSS_SHA512,
            S::RSA_PKCS1_SHA256,
            S::RSA_PKCS1_SHA384,
            S::RSA_PKCS1_SHA512,
            S::RSA_PKCS1_SHA1,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn certificate(from: i64, to: i64) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["www.example.com".into()]).unwrap();
        let at =
            |seconds: i64| rcgen::date_time_ymd(2026, 1, 1) + Duration::from_secs(seconds.unsigned_abs());
        (params.not_before, params.not_after) = (at(from), at(to));
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificates_end_is_told_before_it_comes() {
        let begin = 1_767_225_600; // 2026-01-01
        let der = certificate(DAY, 90 * DAY);
        let at = |day: i64| judge(&der, begin + day * DAY, Duration::from_secs(14 * 86_400));
        assert_eq!(at(10), Ok(None));
        assert_eq!(at(80), Ok(Some("its certificate expires in 10 days".into())));
        assert_eq!(at(93), Err("its certificate expired 3 days ago".into()));
        assert!(at(0).unwrap_err().starts_with("its certificate is not valid for 24 h yet"));
        assert!(judge(b"x", 0, Duration::ZERO).is_err());
    }
}
