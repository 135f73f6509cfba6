//! Certificates, made anew at each start and kept in memory, except those that `--keep` writes.
//!
//! The keys are RSA, as Elastic Defend before 9.1 needs them. Each takes up to a second to make, so all certificates
//! of an authority share one.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};
use rsa::Generate;
use rsa::pkcs8::EncodePrivateKey;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::parse_x509_certificate;

use crate::{Result, progress};

/// Signs certificates, and is the authority that a peer trusts.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The key of all certificates that it issues.
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Result<Self> {
        let mut params = named(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        progress(&format!("makes two RSA keys: {common_name}"));
        let key = rsa_key()?;
        let certificate = params.self_signed(&key)?;
        let (certificate, pem) = (certificate.der().clone(), certificate.pem());
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
            pem,
            key: rsa_key()?,
        })
    }

    /// The certificate of the authority, as a file has it.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate; `names` are DNS names and IP addresses.
    pub(crate) fn server(&self, common_name: &str, names: &[&str]) -> Result<Identity> {
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue(named(common_name, names)?, purpose)
    }

    /// A client's certificate.
    pub(crate) fn client(&self, common_name: &str) -> Result<Identity> {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(named(common_name, &[])?, purpose)
    }

    /// The set of trusted authorities with only this one in it.
    pub(crate) fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.extended_key_usages = vec![purpose];
        let key = &self.key;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Identity {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

/// A certificate with its private key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Both as files have them.
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

/// The common name of a certificate, or why there is none.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return "unreadable certificate".to_owned();
    };
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok());
    name.unwrap_or("certificate without a name").to_owned()
}

fn named(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

/// Makes an RSA key: rcgen with ring cannot make one, but can sign with it.
fn rsa_key() -> Result<KeyPair> {
    let key = rsa::PrivateKey::generate().to_pkcs8_der()?;
    let key = PrivatePkcs8KeyDer::from(key.as_bytes());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(
        &key,
        &PKCS_RSA_SHA256,
    )?)
}
