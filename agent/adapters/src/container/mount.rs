//! Which paths of this machine a workload may mount: what the agent's own configuration allows.

use std::path::{Path, PathBuf};

use super::Settings;

/// Sockets that give away the machine to whoever may write to them.
const SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
];

/// What may be mounted here.
pub(super) struct Mounts {
    /// Only these, where there are any.
    allowed: Vec<PathBuf>,
    /// Never what leads to one of these, unless it is allowed by name.
    guarded: Vec<PathBuf>,
}

impl Mounts {
    /// `own` is the directory of the adapters; `secrets` are those in which secrets lie.
    pub(super) fn new(settings: &Settings, own: &Path, secrets: &[PathBuf]) -> Self {
        let sockets = SOCKETS.iter().map(PathBuf::from);
        let named = settings.socket.iter().cloned();
        let told = settings.guarded.iter().cloned();
        let secrets = secrets.iter().cloned();
        let own = [own.to_owned()];
        let guarded = sockets.chain(named).chain(told).chain(secrets).chain(own);
        Self {
            allowed: settings.mounts.iter().map(|path| real(path)).collect(),
            guarded: guarded.map(|path| real(&path)).collect(),
        }
    }

    /// Whether `path` may be mounted.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn check(&self, path: &Path) -> Result<(), String> {
        let found = real(path);
        let shown = path.display();
        if self
            .allowed
            .iter()
            .any(|allowed| found.starts_with(allowed))
        {
            return Ok(());
        }
        if !self.allowed.is_empty() {
            return Err(format!(
                "{shown} may not be mounted here: container.mounts in agent.toml does not name it"
            ));
        }
        let leads = |guarded: &&PathBuf| guarded.starts_with(&found) || found.starts_with(guarded);
        match self.guarded.iter().find(leads) {
            None => Ok(()),
            Some(guarded) => Err(format!(
                "{shown} may not be mounted: it leads to {}, and with it to this whole machine; \
                 container.mounts in agent.toml can allow it",
                guarded.display()
            )),
        }
    }
}

/// The path with its links followed as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut rest = PathBuf::new();
    let mut begin = path;
    loop {
        if let Ok(found) = std::fs::canonicalize(begin) {
            return if rest.as_os_str().is_empty() {
                found
            } else {
                found.join(rest)
            };
        }
        let (Some(parent), Some(name)) = (begin.parent(), begin.file_name()) else {
            return path.to_owned();
        };
        let mut longer = PathBuf::from(name);
        if !rest.as_os_str().is_empty() {
            longer.push(&rest);
        }
        rest = longer;
        begin = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_an_engine_or_to_the_agent_is_not_mounted() {
        let own = tempfile::tempdir().unwrap();
        let mounts = Mounts::new(
            &Settings::default(),
            own.path(),
            &["/dev/shm/holdfast-x".into()],
        );
        assert!(mounts.check(Path::new("/dev/shm/holdfast-x/a")).is_err());
        assert!(mounts.check(Path::new("/dev")).is_err());
        for refused in ["/", "/run", "/run/docker.sock", "/var/run/docker.sock"] {
            assert!(mounts.check(Path::new(refused)).is_err(), "{refused}");
        }
        assert!(mounts.check(own.path()).is_err());
        assert!(mounts.check(&own.path().join("identity/key.pem")).is_err());
        assert!(mounts.check(own.path().parent().unwrap()).is_err());
        assert!(mounts.check(Path::new("/srv/holdfast-no-such")).is_ok());
        let link = own.path().with_extension("link");
        std::os::unix::fs::symlink(own.path(), &link).unwrap();
        let through = mounts.check(&link);
        std::fs::remove_file(&link).unwrap();
        assert!(through.is_err(), "a link is followed");
    }

    #[test]
    fn a_list_of_what_is_allowed_is_the_whole_list() {
        let own = tempfile::tempdir().unwrap();
        let settings = Settings {
            mounts: vec!["/srv/shared".into(), "/run/docker.sock".into()],
            ..Settings::default()
        };
        let mounts = Mounts::new(&settings, own.path(), &[]);
        assert!(mounts.check(Path::new("/srv/shared/x")).is_ok());
        assert!(mounts.check(Path::new("/run/docker.sock")).is_ok());
        for refused in ["/srv/sharedx", "/srv", "/tmp", "/run"] {
            assert!(mounts.check(Path::new(refused)).is_err(), "{refused}");
        }
    }
}
