//! Finding the manifest files that a command line names.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use holdfast_protocol::api::Diagnostic;
use holdfast_protocol::api::apply::{MANIFESTS_MAX_BYTES, ManifestFile};

use crate::error::Failure;

/// The content of all files that `paths` name: files as they are, folders with everything below them
/// that ends in `.yaml`, `.yml` or `.json` in sorted order, hidden entries left out; `-` is standard
/// input.
///
/// # Errors
/// A path does not exist (64), a folder holds no manifest, a file is no text, or all together are
/// larger than [`MANIFESTS_MAX_BYTES`] (65).
pub async fn gather(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, Failure> {
    let paths = paths.to_vec();
    // On a thread of its own: Ctrl-C must end the program while it reads standard input.
    tokio::task::spawn_blocking(move || read(&paths))
        .await
        .map_err(|error| Failure::failed(format!("reading broke off: {error}")))?
}

fn read(paths: &[PathBuf]) -> Result<Vec<ManifestFile>, Failure> {
    let mut gathered = Gathered::default();
    for path in paths {
        if path.as_os_str() == "-" {
            gathered.standard_input()?;
        } else if metadata(path)?.is_dir() {
            let before = gathered.files.len();
            gathered.folder(path, 0)?;
            if gathered.files.len() == before {
                return Err(whole(path, "this folder holds no manifest").help(
                    "manifests end in .yaml, .yml or .json; an empty folder never means that \
                     nothing is wanted",
                ));
            }
        } else {
            gathered.file(path)?;
        }
    }
    Ok(gathered.files)
}

#[derive(Default)]
struct Gathered {
    files: Vec<ManifestFile>,
    bytes: usize,
}

impl Gathered {
    fn folder(&mut self, folder: &Path, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(whole(folder, "folders are nested too deeply"));
        }
        let mut entries: Vec<fs::DirEntry> = fs::read_dir(folder)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(folder, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // A link to a folder could lead round in circles; a link to a file cannot.
            let kind = entry
                .file_type()
                .map_err(|error| unreadable(&path, &error))?;
            if hidden {
                continue;
            }
            if kind.is_dir() {
                self.folder(&path, depth + 1)?;
            } else if is_manifest(&path) && metadata(&path)?.is_file() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
        self.add(path, file)
    }

    fn standard_input(&mut self) -> Result<(), Failure> {
        self.add(Path::new("(standard input)"), std::io::stdin().lock())
    }

    fn add(&mut self, path: &Path, source: impl std::io::Read) -> Result<(), Failure> {
        let room = MANIFESTS_MAX_BYTES - self.bytes;
        let mut bytes = Vec::new();
        source
            .take(room as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(path, &error))?;
        if bytes.len() > room {
            let mib = MANIFESTS_MAX_BYTES / 1024 / 1024;
            return Err(whole(
                path,
                &format!("all manifests of one apply together may have at most {mib} MiB"),
            )
            .help("apply them as several input sets, each with its own --set NAME"));
        }
        if self.files.len() >= FILES_MAX {
            return Err(whole(
                path,
                &format!("there are more than {FILES_MAX} files"),
            ));
        }
        self.bytes += bytes.len();
        let content = String::from_utf8(bytes).map_err(|error| not_text(path, &error))?;
        self.files.push(ManifestFile {
            path: path.display().to_string(),
            content,
        });
        Ok(())
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json"))
}

fn metadata(path: &Path) -> Result<fs::Metadata, Failure> {
    fs::metadata(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
}

/// A diagnostic about a file as a whole.
fn whole(path: &Path, message: &str) -> Failure {
    Failure::manifests(vec![Diagnostic {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        length: 1,
        message: message.to_owned(),
        help: None,
        source: String::new(),
    }])
}

fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> Failure {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut failure = whole(path, "this is not text in UTF-8");
    for diagnostic in &mut failure.diagnostics {
        diagnostic.line = u32::try_from(line).unwrap_or(u32::MAX);
    }
    failure
}

/// Most folders within each other.
const DEPTH_MAX: usize = 32;
/// Most files of one apply.
const FILES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn names(files: &[ManifestFile], root: &Path) -> Vec<String> {
        let root = format!("{}/", root.display());
        files
            .iter()
            .map(|file| file.path.replace(&root, ""))
            .collect()
    }

    #[test]
    fn a_folder_is_read_in_sorted_order_with_everything_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "b/web.yml",
            "a.json",
            "c.yaml",
            "notes.txt",
            ".git/x.yaml",
            ".hidden.yaml",
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let files = read(&[root.to_owned()]).unwrap();
        assert_eq!(names(&files, root), ["a.json", "b/web.yml", "c.yaml"]);
        assert_eq!(files[0].content, "a.json");
    }

    #[test]
    fn an_empty_folder_is_an_invalid_manifest_and_a_missing_one_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        let empty = read(&[folder.path().to_owned()]).unwrap_err();
        assert_eq!(empty.exit, Exit::InvalidManifest);
        assert!(empty.help.is_some());
        let missing = read(&[folder.path().join("nothing")]).unwrap_err();
        assert_eq!(missing.exit, Exit::Usage);
    }

    #[test]
    fn too_much_and_no_text_are_refused_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large.yaml");
        fs::File::create(&large)
            .unwrap()
            .set_len(MANIFESTS_MAX_BYTES as u64 + 1)
            .unwrap();
        let failure = read(&[large]).unwrap_err();
        assert_eq!(failure.exit, Exit::InvalidManifest);
        assert!(failure.diagnostics[0].message.contains("32 MiB"));
        let binary = folder.path().join("binary.yaml");
        fs::write(&binary, b"a: 1\nb: \xff\n").unwrap();
        let failure = read(&[binary]).unwrap_err();
        assert_eq!(
            (failure.exit, failure.diagnostics[0].line),
            (Exit::InvalidManifest, 2)
        );
    }
}
