//! Keys and certificates in files: modes, atomic replacement. The only I/O of this crate.
//!
//! ```text
//! coordinator  DIR/ca.pem                 root certificate, for people and their programs     0644
//!              DIR/ca/root.key            root: private key and certificate                   0600
//!              DIR/ca/env/NAME.key        authority of an environment: key and certificate    0600
//!              DIR/ca/env/NAME.sign.key   the key that signs its assignments                  0600
//!              DIR/ca/env/NAME.pem        certificate of the authority                        0644
//!              DIR/ca/secrets.key         keys that values of secrets are kept under          0600
//! agent        DIR/identity/identity.pem  private key and certificate chain, replaced together 0600
//!              DIR/identity/next.key      key of a request that was not yet answered          0600
//!              DIR/identity/sealing.key   opens the secrets that are sealed to this target    0600
//!              DIR/identity/roots.pem     roots that vouch for coordinators                   0644
//!              DIR/identity/signing-keys  public keys of assignments, one a line              0644
//! ```
//! *Guarantees:* a file is its old content or its new one, whatever happens between; a private key
//! and its certificate are in one file, so they always belong together; a private key is never
//! readable by others, not for an instant, and one that has become so is not used. *Assumption:* one
//! process at a time has the directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::armor::ArmorError;
use crate::authority::AuthorityError;
use crate::certificate::CertificateError;
use crate::key::KeyError;
use crate::seal::SealError;
use crate::sign::SigningKeyError;
use crate::vault::VaultError;

pub mod agent;
pub mod coordinator;
mod file;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A directory could not be made or read.
    #[error("cannot make or read the directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written; its old content, if any, stays.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read a private key.
    #[error(
        "the private key {path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that belongs to one that exists is gone.
    #[error("{path} is missing: put it back from a backup")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// An authority's file.
    #[error("{path} does not hold a usable authority")]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// An assignment key's file.
    #[error("{path} does not hold a usable signing key")]
    Signing {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SigningKeyError,
    },
    /// A target's key file.
    #[error("{path} does not hold a usable private key")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The key that opens what is sealed to this target.
    #[error("{path} cannot have a key for secrets")]
    Sealing {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The keys of secrets.
    #[error("{path} does not hold usable keys of secrets")]
    Vault {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: VaultError,
    },
    /// A target's certificate.
    #[error("{path} does not hold a target's certificate")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// A target's key and certificate.
    #[error("the private key in {path} does not belong to the certificate in it")]
    Mismatch {
        /// Which.
        path: PathBuf,
    },
    /// A file of certificates.
    #[error("{path} does not hold certificates")]
    Armor {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArmorError,
    },
}

/// An error of content, with the path of the file that has it.
trait At<T> {
    fn at(self, path: &Path) -> Result<T, KeystoreError>;
}

impl<T> At<T> for Result<T, AuthorityError> {
    fn at(self, path: &Path) -> Result<T, KeystoreError> {
        self.map_err(|source| KeystoreError::Authority {
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> At<T> for Result<T, SigningKeyError> {
    fn at(self, path: &Path) -> Result<T, KeystoreError> {
        self.map_err(|source| KeystoreError::Signing {
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> At<T> for Result<T, KeyError> {
    fn at(self, path: &Path) -> Result<T, KeystoreError> {
        self.map_err(|source| KeystoreError::Key {
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> At<T> for Result<T, CertificateError> {
    fn at(self, path: &Path) -> Result<T, KeystoreError> {
        self.map_err(|source| KeystoreError::Certificate {
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> At<T> for Result<T, ArmorError> {
    fn at(self, path: &Path) -> Result<T, KeystoreError> {
        self.map_err(|source| KeystoreError::Armor {
            path: path.to_owned(),
            source,
        })
    }
}
