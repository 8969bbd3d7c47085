//! The coordinator's authorities on disk: read, or made where there are none.
//!
//! The file with the private key is the last to be written when something new is made, so as long
//! as it is not there nothing has been promised to anyone, and making starts again from the
//! beginning. What exists is never replaced.

use std::path::{Path, PathBuf};

use holdfast_protocol::name::EnvironmentName;
use holdfast_protocol::time::Timestamp;

use super::file::{self, Access};
use super::{At as _, KeystoreError};
use crate::authority::{AuthorityError, EnvironmentAuthority, Root};
use crate::identity::TrustDomain;
use crate::reset::ResetSecret;
use crate::sign::AssignmentKey;
use crate::vault::Vault;

/// The authorities below one data directory.
#[derive(Debug, Clone)]
pub struct Authorities {
    data: PathBuf,
}

/// What a coordinator holds for one environment.
#[derive(Debug)]
pub struct Environment {
    /// Certifies its targets.
    pub authority: EnvironmentAuthority,
    /// Signs their assignments.
    pub signing: AssignmentKey,
}

impl Authorities {
    /// The authorities of the coordinator with the data directory `data`, which is made if needed.
    ///
    /// # Errors
    /// [`KeystoreError::Directory`].
    pub fn open(data: &Path) -> Result<Self, KeystoreError> {
        let authorities = Self {
            data: data.to_owned(),
        };
        file::make_directory(&authorities.environments_directory())?;
        Ok(authorities)
    }

    /// Where the root's certificate is published.
    #[must_use]
    pub fn root_certificate_path(&self) -> PathBuf {
        self.data.join("ca.pem")
    }

    /// The root; on an empty directory a new one, with a new trust domain. `ca.pem` is brought up to
    /// date.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn root(&self, now: Timestamp) -> Result<Root, KeystoreError> {
        let path = self.data.join("ca").join("root.key");
        let root = match file::read_private(&path)? {
            Some(pem) => Root::from_pem(&pem).at(&path)?,
            None => self.create_root(&path, now)?,
        };
        publish(&self.root_certificate_path(), &root.certificate_pem())?;
        Ok(root)
    }

    /// The authority and the signing key of `environment`; new ones where it has none yet.
    ///
    /// # Errors
    /// [`KeystoreError`], also where one of the two files is gone: a new signing key would not be
    /// believed by any target, and a new authority would shut all of them out.
    pub fn environment(
        &self,
        root: &Root,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Result<Environment, KeystoreError> {
        let path = self.environment_file(environment, AUTHORITY_SUFFIX);
        let Some(pem) = file::read_private(&path)? else {
            return self.create_environment(root, environment, now);
        };
        let authority =
            EnvironmentAuthority::from_pem(root.trust_domain(), environment, &pem).at(&path)?;
        let signing_path = self.environment_file(environment, SIGNING_SUFFIX);
        let Some(pem) = file::read_private(&signing_path)? else {
            return Err(KeystoreError::Missing { path: signing_path });
        };
        let signing = AssignmentKey::from_pem(&pem).at(&signing_path)?;
        self.publish_environment(&authority)?;
        Ok(Environment { authority, signing })
    }

    /// The environments that have an authority, sorted by name.
    ///
    /// # Errors
    /// [`KeystoreError::Directory`].
    pub fn environments(&self) -> Result<Vec<EnvironmentName>, KeystoreError> {
        let names = file::names(&self.environments_directory())?;
        let name =
            |file: &String| EnvironmentName::parse(file.strip_suffix(AUTHORITY_SUFFIX)?).ok();
        Ok(names.iter().filter_map(name).collect())
    }

    /// The secret behind stateless resets; made where there is none or it cannot be read, since all
    /// that is lost with it is that targets notice a restart later.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn reset_secret(&self) -> Result<ResetSecret, KeystoreError> {
        let path = self.data.join("ca").join("reset.key");
        let kept = file::read_private(&path)?;
        if let Some(secret) = kept.and_then(|text| ResetSecret::from_hex(text.trim())) {
            return Ok(secret);
        }
        let secret = ResetSecret::generate()
            .map_err(AuthorityError::Random)
            .at(&path)?;
        file::replace(&path, &secret.to_hex(), Access::Owner)?;
        Ok(secret)
    }

    /// The keys that values of secrets are kept under; one is made where there is none.
    ///
    /// # Errors
    /// [`KeystoreError`], also where the file cannot be read: another key would open nothing.
    pub fn vault(&self) -> Result<Vault, KeystoreError> {
        let path = self.vault_path();
        let failed = |source| KeystoreError::Vault {
            path: path.clone(),
            source,
        };
        if let Some(text) = file::read_private(&path)? {
            return Vault::from_text(&text).map_err(failed);
        }
        let vault = Vault::generate().map_err(|error| failed(error.into()))?;
        file::replace(&path, &vault.to_text(), Access::Owner)?;
        Ok(vault)
    }

    /// Keeps the keys of secrets as they are now.
    ///
    /// # Errors
    /// [`KeystoreError::Write`]; the file before stays.
    pub fn keep_vault(&self, vault: &Vault) -> Result<(), KeystoreError> {
        file::replace(&self.vault_path(), &vault.to_text(), Access::Owner)
    }

    fn vault_path(&self) -> PathBuf {
        self.data.join("ca").join("secrets.key")
    }

    fn create_root(&self, path: &Path, now: Timestamp) -> Result<Root, KeystoreError> {
        if file::read(&self.root_certificate_path())?.is_some() {
            return Err(KeystoreError::Missing {
                path: path.to_owned(),
            });
        }
        let domain = TrustDomain::generate()
            .map_err(AuthorityError::Random)
            .at(path)?;
        let root = Root::create(domain, now).at(path)?;
        file::replace(path, &root.to_pem(), Access::Owner)?;
        Ok(root)
    }

    fn create_environment(
        &self,
        root: &Root,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Result<Environment, KeystoreError> {
        let path = self.environment_file(environment, AUTHORITY_SUFFIX);
        if file::read(&self.environment_file(environment, CERTIFICATE_SUFFIX))?.is_some() {
            return Err(KeystoreError::Missing { path });
        }
        let signing_path = self.environment_file(environment, SIGNING_SUFFIX);
        let signing = AssignmentKey::generate().at(&signing_path)?;
        let pem = signing.to_pem().at(&signing_path)?;
        file::replace(&signing_path, &pem, Access::Owner)?;
        let authority = root.create_environment(environment, now).at(&path)?;
        file::replace(&path, &authority.to_pem(), Access::Owner)?;
        self.publish_environment(&authority)?;
        Ok(Environment { authority, signing })
    }

    fn publish_environment(&self, authority: &EnvironmentAuthority) -> Result<(), KeystoreError> {
        let path = self.environment_file(authority.environment(), CERTIFICATE_SUFFIX);
        publish(&path, &authority.certificate_pem())
    }

    fn environments_directory(&self) -> PathBuf {
        self.data.join("ca").join("env")
    }

    fn environment_file(&self, environment: &EnvironmentName, suffix: &str) -> PathBuf {
        self.environments_directory()
            .join(format!("{environment}{suffix}"))
    }
}

/// Writes a public file where it is missing or differs.
fn publish(path: &Path, content: &str) -> Result<(), KeystoreError> {
    if file::read(path)?.as_deref() == Some(content) {
        return Ok(());
    }
    file::replace(path, content, Access::Everyone)
}

/// Ends the name of the file with an authority's private key and certificate. Environment names hold
/// no dot, so none of these can be taken for another.
const AUTHORITY_SUFFIX: &str = ".key";
/// Ends the name of the file with an assignment key.
const SIGNING_SUFFIX: &str = ".sign.key";
/// Ends the name of the file with an authority's certificate.
const CERTIFICATE_SUFFIX: &str = ".pem";
