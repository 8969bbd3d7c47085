//! The agent's identity on disk.
//!
//! *Expected flow:* [`Files::next_key`] makes a key and keeps it, a request for it is sent, the
//! answer is kept by [`Files::accept`]. A reply that is lost costs nothing: the next attempt asks
//! with the same key, and is given the same certificate. The identity is written last, so a target
//! has one exactly when it has all.

use std::path::{Path, PathBuf};

use holdfast_protocol::join::Joined;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::file::{self, Access};
use super::{At as _, KeystoreError};
use crate::armor;
use crate::certificate::TargetCertificate;
use crate::key::TargetKey;
use crate::seal::SealingKey;
use crate::sign::AssignmentVerifier;

/// The identity files below one data directory.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

/// Who this target is, and whom it trusts.
#[derive(Debug)]
pub struct StoredIdentity {
    /// Its key.
    pub key: TargetKey,
    /// Its certificate's chain, leaf first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the leaf says: environment, name, validity.
    pub certificate: TargetCertificate,
    /// Roots that vouch for coordinators, DER.
    pub roots: Vec<CertificateDer<'static>>,
    /// Keys whose signature makes an assignment valid.
    pub signing_keys: Vec<AssignmentVerifier>,
}

impl Files {
    /// The identity of the agent with the data directory `data`, which is made if needed.
    ///
    /// # Errors
    /// [`KeystoreError::Directory`].
    pub fn open(data: &Path) -> Result<Self, KeystoreError> {
        let directory = data.join("identity");
        file::make_directory(&directory)?;
        Ok(Self { directory })
    }

    /// Who this target is; nothing where it has not joined.
    ///
    /// # Errors
    /// [`KeystoreError`] where a file is damaged, missing or open to others.
    pub fn load(&self) -> Result<Option<StoredIdentity>, KeystoreError> {
        let path = self.identity_path();
        let Some(pem) = file::read_private(&path)? else {
            return Ok(None);
        };
        let key = TargetKey::from_pem(&pem).at(&path)?;
        let chain = armor::certificates_from_pem(&pem).at(&path)?;
        let certificate = leaf_of(&chain, &key, &path)?;
        let (roots, signing_keys) = (self.roots()?, self.signing_keys()?);
        Ok(Some(StoredIdentity {
            key,
            chain,
            certificate,
            roots,
            signing_keys,
        }))
    }

    /// The key for the next certificate: the one of an unanswered request, or a new one. It is on
    /// disk before this returns.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn next_key(&self) -> Result<TargetKey, KeystoreError> {
        let path = self.next_key_path();
        // One that is damaged is for nothing but an answer that never came: without a new one there
        // would never be a certificate again.
        if let Some(pem) = file::read_private(&path)?
            && let Ok(key) = TargetKey::from_pem(&pem)
        {
            return Ok(key);
        }
        let key = TargetKey::generate().at(&path)?;
        file::replace(&path, &key.to_pem(), Access::Owner)?;
        Ok(key)
    }

    /// Keeps the answer to a request for `key`: what is trusted first, then key and chain together
    /// in one step.
    ///
    /// # Errors
    /// [`KeystoreError`]; [`KeystoreError::Mismatch`] where the certificate is for another key. The
    /// old identity then stays in force.
    pub fn accept(
        &self,
        key: &TargetKey,
        answer: &Joined,
    ) -> Result<StoredIdentity, KeystoreError> {
        let path = self.identity_path();
        let chain: Vec<_> = answer
            .chain
            .iter()
            .cloned()
            .map(CertificateDer::from)
            .collect();
        leaf_of(&chain, key, &path)?;
        self.trust(&answer.roots, &answer.signing_keys)?;
        let mut pem: Zeroizing<String> = key.to_pem();
        pem.push_str(&armor::certificates_to_pem(&chain));
        file::replace(&path, &pem, Access::Owner)?;
        file::delete(&self.next_key_path())?;
        self.load()?.ok_or(KeystoreError::Missing { path })
    }

    /// The key that opens what is sealed to this target; a new one where there is none, or none that
    /// can be read: what was sealed to the one before is asked for again.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn sealing_key(&self) -> Result<SealingKey, KeystoreError> {
        let path = self.sealing_key_path();
        let kept = file::read_private(&path)?;
        if let Some(key) = kept.and_then(|text| SealingKey::from_hex(text.trim())) {
            return Ok(key);
        }
        let key = SealingKey::generate().map_err(|source| KeystoreError::Sealing {
            path: path.clone(),
            source,
        })?;
        file::replace(&path, &key.to_hex(), Access::Owner)?;
        Ok(key)
    }

    /// Replaces the roots and assignment keys that this target trusts.
    ///
    /// # Errors
    /// [`KeystoreError`]; nothing is written where any key or root is malformed, or there is none.
    pub fn trust(&self, roots: &[Vec<u8>], signing_keys: &[Vec<u8>]) -> Result<(), KeystoreError> {
        let (roots_path, keys_path) = (self.roots_path(), self.signing_keys_path());
        let roots: Vec<_> = roots
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let roots = armor::certificates_to_pem(&roots);
        check_roots(&roots, &roots_path)?;
        let keys: Result<Vec<_>, _> = signing_keys
            .iter()
            .map(|key| AssignmentVerifier::from_bytes(key))
            .collect();
        let lines: String = keys
            .at(&keys_path)?
            .iter()
            .map(|key| key.hex() + "\n")
            .collect();
        file::replace(&roots_path, &roots, Access::Everyone)?;
        file::replace(&keys_path, &lines, Access::Everyone)
    }

    /// Forgets everything: the target has left. The identity goes first.
    ///
    /// # Errors
    /// [`KeystoreError::Write`].
    pub fn forget(&self) -> Result<(), KeystoreError> {
        file::delete(&self.identity_path())?;
        file::delete(&self.next_key_path())?;
        file::delete(&self.sealing_key_path())?;
        file::delete(&self.signing_keys_path())?;
        file::delete(&self.roots_path())
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, KeystoreError> {
        let path = self.roots_path();
        let pem =
            file::read(&path)?.ok_or_else(|| KeystoreError::Missing { path: path.clone() })?;
        check_roots(&pem, &path)
    }

    fn signing_keys(&self) -> Result<Vec<AssignmentVerifier>, KeystoreError> {
        let path = self.signing_keys_path();
        let text =
            file::read(&path)?.ok_or_else(|| KeystoreError::Missing { path: path.clone() })?;
        text.lines()
            .map(AssignmentVerifier::from_hex)
            .collect::<Result<_, _>>()
            .at(&path)
    }

    fn identity_path(&self) -> PathBuf {
        self.directory.join("identity.pem")
    }

    fn next_key_path(&self) -> PathBuf {
        self.directory.join("next.key")
    }

    fn sealing_key_path(&self) -> PathBuf {
        self.directory.join("sealing.key")
    }

    fn roots_path(&self) -> PathBuf {
        self.directory.join("roots.pem")
    }

    fn signing_keys_path(&self) -> PathBuf {
        self.directory.join("signing-keys")
    }
}

/// The first certificate of `chain`, which must be for `key`.
fn leaf_of(
    chain: &[CertificateDer<'_>],
    key: &TargetKey,
    path: &Path,
) -> Result<TargetCertificate, KeystoreError> {
    let leaf = chain
        .first()
        .ok_or(armor::ArmorError::NoCertificate)
        .at(path)?;
    let leaf = TargetCertificate::read(leaf).at(path)?;
    if leaf.public_key != *key.public() {
        return Err(KeystoreError::Mismatch {
            path: path.to_owned(),
        });
    }
    Ok(leaf)
}

/// The roots in a PEM text; each must be an authority's certificate.
fn check_roots(pem: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, KeystoreError> {
    let roots = armor::certificates_from_pem(pem).at(path)?;
    let usable =
        |der: &CertificateDer<'_>| crate::certificate::parse(der).is_some_and(|root| root.is_ca());
    if !roots.iter().all(usable) {
        return Err(armor::ArmorError::NoCertificate).at(path);
    }
    Ok(roots)
}
