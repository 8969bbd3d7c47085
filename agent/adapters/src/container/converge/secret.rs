//! What secrets stand for in a container: files in memory that are mounted into it, and variables where
//! this target lets them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard::models::ContainerCreateBody;
use holdfast_protocol::name::SecretName;

use super::{Inner, Template, Wanted, Way, body, image};
use crate::failure::Failure;
use crate::secret::Secret;
use crate::secret::memory::{Files, Owner};

impl Inner {
    /// What secrets stand for in its environment, where this target lets them.
    pub(super) fn variables(
        &self,
        wanted: &Wanted,
        template: &Template,
    ) -> Result<Vec<(String, Secret)>, Failure> {
        let secrets = template.secret_environment.iter();
        let one = |(variable, secret): (&String, &SecretName)| {
            if !self.settings.secrets_in_environment {
                return Err(Failure::Permanent(format!(
                    "environment.{variable}: a container engine writes the environment of its \
                     containers on its disk: name {secret} under files instead, or allow it with \
                     secrets-in-environment under [container] in agent.toml"
                )));
            }
            let value = wanted.secrets.text(secret)?;
            Ok((variable.clone(), Secret::copy(value.as_bytes())))
        };
        secrets.map(one).collect()
    }
}

impl Way<'_> {
    /// Lays down the files of secrets, and says where each is that is to be mounted, by its path inside.
    pub(super) async fn lay_secrets(&self) -> Result<(Files, BTreeMap<String, PathBuf>), Failure> {
        if self.template.files.is_empty() {
            return Ok((Files::default(), BTreeMap::new()));
        }
        let (memory, secrets) = (&self.inner.memory, &self.wanted.secrets);
        let owner = self.owner().await?;
        let mut files = memory.files(&self.wanted.workload.service, secrets, owner)?;
        let laid = self.template.files.iter();
        let laid = laid.map(|(inside, secret)| Ok((inside.clone(), files.add(secret, secrets)?)));
        let laid: Result<_, Failure> = laid.collect();
        let laid = laid?;
        memory.lay(&files)?;
        Ok((files, laid))
    }

    /// Who reads the files of secrets: whom the container runs as, by number.
    async fn owner(&self) -> Result<Option<Owner>, Failure> {
        let user = match &self.template.user {
            Some(user) => user.clone(),
            None => image::user(&self.engine, &self.template.image).await?,
        };
        let (uid, gid) = user.split_once(':').unwrap_or((&user, ""));
        let number = |text: &str| match text {
            "" | "root" => Ok(0),
            number => number.parse::<u32>(),
        };
        match (number(uid), number(gid)) {
            (Ok(0), _) => Ok(None),
            (Ok(uid), Ok(gid)) => Ok(Some(Owner { uid, gid })),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(Failure::Permanent(format!(
                "files of secrets are for one user alone, and {user:?} is a name that only the image \
                 knows: say user: by number"
            ))),
        }
    }

    /// Removes files of secrets that the container needs no more.
    pub(super) async fn sweep_secrets(&self) -> Result<(), Failure> {
        let (files, _) = self.lay_secrets().await?;
        let service = &self.wanted.workload.service;
        self.inner.memory.sweep(service, Some(&files))
    }

    /// What the engine is asked to make, with `secrets` mounted.
    pub(super) fn create(
        &self,
        name: &str,
        secrets: &BTreeMap<String, PathBuf>,
    ) -> ContainerCreateBody {
        body::create(&body::Made {
            agent: &self.inner.agent,
            name,
            wanted: self.wanted,
            template: &self.template,
            sources: &self.sources,
            variables: &self.variables,
            secrets,
        })
    }
}
