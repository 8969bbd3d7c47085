//! Where plugins lie, and which of them may be run: only what nobody but the superuser or the
//! agent's own user could have written.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use holdfast_protocol::digest::{Digest, Hasher};
use std::io::Read as _;

use super::{PREFIX, Settings, spec};
use crate::durable;

/// Largest executable, in bytes.
const EXECUTABLE_MAX_BYTES: u64 = 1 << 30;

/// A plugin that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Which file it is: changes with its content.
    pub(crate) stamp: Stamp,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    file: (u64, u64, u64),
    changed: (i64, i64),
}

/// Finds a plugin by its name.
///
/// # Errors
/// In words: there is none, or why it is not run.
pub fn find(settings: &Settings, name: &str) -> Result<Plugin, String> {
    if let Some(Err(why)) = spec::name(&format!("{PREFIX}{name}")) {
        return Err(why);
    }
    let directory = &settings.directory;
    let found = own(directory)?;
    if !found.is_dir() {
        return Err(format!("{} is not a directory", directory.display()));
    }
    let path = directory.join(name);
    let found = own(&path)?;
    if !found.is_file() {
        let what = if found.is_symlink() {
            "a link"
        } else {
            "no file"
        };
        return Err(format!(
            "{} is {what}; a plugin is a file in that directory itself",
            path.display()
        ));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{} is not executable", path.display()));
    }
    let stamp = Stamp {
        file: (found.dev(), found.ino(), found.len()),
        changed: (found.ctime(), found.ctime_nsec()),
    };
    Ok(Plugin {
        name: name.to_owned(),
        path,
        stamp,
    })
}

/// The names of everything in the directory that is called like a plugin.
///
/// # Errors
/// Where the directory cannot be read.
pub fn names(settings: &Settings) -> io::Result<Vec<String>> {
    let mut names = durable::names(&settings.directory)?;
    names.retain(|name| matches!(spec::name(&format!("{PREFIX}{name}")), Some(Ok(_))));
    names.sort_unstable();
    Ok(names)
}

/// The digest of an executable, which must be the one that `agent.toml` names, if it names one.
pub(crate) fn digest(settings: &Settings, plugin: &Plugin) -> Result<Digest, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", plugin.path.display());
    let mut file = fs::File::open(&plugin.path)
        .map_err(unreadable)?
        .take(EXECUTABLE_MAX_BYTES);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    let found = hasher.finish();
    let pinned = settings.own.get(&plugin.name).and_then(|own| own.digest);
    match pinned {
        Some(pinned) if pinned != found => Err(format!(
            "{} is {found}, and agent.toml allows {pinned} alone",
            plugin.path.display()
        )),
        Some(_) | None => Ok(found),
    }
}

/// What lies there, unless somebody else could have put it there.
fn own(path: &Path) -> Result<fs::Metadata, String> {
    let found = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {}; install it there, or name another `plugin-directory` in agent.toml",
            path.display()
        ),
        _ => format!("{} cannot be seen: {error}", path.display()),
    })?;
    let allowed = [0, rustix::process::geteuid().as_raw()];
    if !allowed.contains(&found.uid()) {
        return Err(format!(
            "{} belongs to user {}; it must be root's or the agent's own: chown it",
            path.display(),
            found.uid()
        ));
    }
    if !found.is_symlink() && found.permissions().mode() & 0o022 != 0 {
        return Err(format!(
            "{} can be written by others: chmod go-w it",
            path.display()
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn refused(settings: &Settings, name: &str, part: &str) {
        let why = find(settings, name).unwrap_err();
        assert!(why.contains(part), "{why}");
    }

    fn write(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_what_nobody_else_could_have_written_is_run() {
        let home = tempfile::tempdir().unwrap();
        let settings = Settings {
            directory: home.path().to_owned(),
            ..Settings::default()
        };
        let at = |name: &str| home.path().join(name);
        refused(&settings, "ghost", "ghost; install it there");
        refused(&settings, "../etc", "plugin \"../etc\"");
        write(&at("good"), 0o755);
        assert_eq!(find(&settings, "good").unwrap().path, at("good"));
        write(&at("open"), 0o775);
        refused(&settings, "open", "chmod go-w");
        write(&at("plain"), 0o644);
        refused(&settings, "plain", "not executable");
        symlink("/bin/sh", at("link")).unwrap();
        refused(&settings, "link", "is a link");
        fs::create_dir(at("folder")).unwrap();
        refused(&settings, "folder", "no file");
        assert_eq!(
            names(&settings).unwrap(),
            ["folder", "good", "link", "open", "plain"]
        );
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        refused(&settings, "good", "chmod go-w");
    }

    #[test]
    fn an_executable_that_is_not_the_allowed_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        write(&home.path().join("x"), 0o755);
        let mut settings = Settings {
            directory: home.path().to_owned(),
            ..Settings::default()
        };
        let plugin = find(&settings, "x").unwrap();
        let found = digest(&settings, &plugin).unwrap();
        let own = |digest| super::super::Own {
            digest: Some(digest),
            ..Default::default()
        };
        settings.own.insert("x".to_owned(), own(found));
        assert_eq!(digest(&settings, &plugin), Ok(found));
        settings.own.insert("x".to_owned(), own(Digest::of(b"")));
        let why = digest(&settings, &plugin).unwrap_err();
        assert!(why.contains("agent.toml allows"), "{why}");
    }
}
