//! Applying a unified diff of manifests, as `diff -o patch` prints it: the set as it is on the
//! coordinator, changed, and applied as a whole.

use holdfast_protocol::api::apply::{ApplyRequest, InputSet, ManifestFile, PlanBase};
use holdfast_protocol::name::InputSetName;

use super::Session;
use crate::error::{Exit, Failure};

/// One file's part of a diff.
#[derive(Debug, PartialEq, Eq)]
struct Part<'p> {
    set: InputSetName,
    path: String,
    text: &'p str,
}

/// Whether a text is a diff of manifests rather than manifests.
#[must_use]
pub fn is_patch(text: &str) -> bool {
    text.lines().next().is_some_and(begins)
}

fn begins(line: &str) -> bool {
    line.starts_with("--- a/") || line == "--- /dev/null"
}

/// The request that carries a diff out. It names the revision that it was made against, so that what
/// somebody else applied meanwhile is not overwritten.
///
/// # Errors
/// The diff is of no set or of several, its lines are not those of the manifests in force, or the
/// coordinator does not answer.
pub async fn request(session: &Session<'_>, text: &str) -> Result<ApplyRequest, Failure> {
    let parts = parts(text)?;
    let set = one_set(&parts)?;
    let path = ["sets", set.as_str()];
    let in_force: InputSet = session.client.fetch(&path, &[]).await?;
    let mut files = in_force.files;
    for part in &parts {
        apply(&mut files, part)?;
    }
    Ok(ApplyRequest {
        set: in_force.set,
        files,
        dry_run: false,
        confirm_removal: false,
        plan: Some(PlanBase {
            revision: in_force.revision,
        }),
    })
}

fn one_set(parts: &[Part<'_>]) -> Result<InputSetName, Failure> {
    let first = parts
        .first()
        .ok_or_else(|| Failure::new(Exit::InvalidManifest, "the patch changes nothing"))?;
    if let Some(other) = parts.iter().find(|part| part.set != first.set) {
        return Err(Failure::new(
            Exit::InvalidManifest,
            format!(
                "the patch changes two input sets, {} and {}",
                first.set, other.set
            ),
        )
        .help("an apply speaks for one set: split the patch"));
    }
    Ok(first.set.clone())
}

/// Splits a diff into the parts of its files.
fn parts(text: &str) -> Result<Vec<Part<'_>>, Failure> {
    let mut starts = Vec::new();
    let mut place = 0;
    let mut before = "";
    for line in text.split_inclusive('\n') {
        // A removed line may look like a header; the one after a header never does.
        if line.starts_with("+++ ") && begins(before.trim_end()) {
            starts.push(place - before.len());
        }
        place += line.len();
        before = line;
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| part(&text[*start..end]))
        .collect()
}

fn part(text: &str) -> Result<Part<'_>, Failure> {
    let mut lines = text.lines();
    let header = |line: Option<&str>, sign: &str, side: &str| {
        let name = line?.strip_prefix(sign)?.trim_end();
        name.strip_prefix(side).map(ToOwned::to_owned)
    };
    let old = header(lines.next(), "--- ", "a/");
    let new = header(lines.next(), "+++ ", "b/");
    let named = new.or(old).ok_or_else(unreadable)?;
    let (set, path) = named.split_once('/').ok_or_else(unreadable)?;
    Ok(Part {
        set: set.parse().map_err(|error| {
            Failure::new(Exit::InvalidManifest, format!("in the patch: {error}"))
        })?,
        path: path.to_owned(),
        text,
    })
}

fn unreadable() -> Failure {
    Failure::new(
        Exit::InvalidManifest,
        "a header of the patch is not `--- a/SET/PATH` and `+++ b/SET/PATH`",
    )
    .help("`holdfast diff FROM TO -o patch` prints patches of this form")
}

fn apply(files: &mut Vec<ManifestFile>, part: &Part<'_>) -> Result<(), Failure> {
    let patch = diffy::Patch::from_str(part.text)
        .map_err(|error| Failure::new(Exit::InvalidManifest, format!("{}: {error}", part.path)))?;
    let place = files.iter().position(|file| file.path == part.path);
    let old = place.map_or("", |place| files[place].content.as_str());
    let content = diffy::apply(old, &patch).map_err(|_| {
        Failure::new(
            Exit::Conflict,
            format!(
                "the patch does not fit {} of set {} as it is in force",
                part.path, part.set
            ),
        )
        .help("somebody changed it since: make the patch again, or edit the manifests")
    })?;
    let removed = part.text.lines().nth(1) == Some("+++ /dev/null");
    match place {
        Some(place) if removed => {
            files.remove(place);
        }
        Some(place) => files[place].content = content,
        None => files.push(ManifestFile {
            path: part.path.clone(),
            content,
        }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "--- a/shop/web.yaml\n+++ b/shop/web.yaml\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n\
                         --- /dev/null\n+++ b/shop/new.yaml\n@@ -0,0 +1 @@\n+fresh\n\
                         --- a/shop/old.yaml\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";

    fn file(path: &str, content: &str) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            content: content.to_owned(),
        }
    }

    #[test]
    fn a_patch_changes_adds_and_removes_files() {
        let mut files = vec![
            file("web.yaml", "one\ntwo\nthree\n"),
            file("old.yaml", "gone\n"),
        ];
        let parts = parts(PATCH).unwrap();
        assert_eq!(one_set(&parts).unwrap().as_str(), "shop");
        for part in &parts {
            apply(&mut files, part).unwrap();
        }
        let expected = vec![
            file("web.yaml", "one\nzwei\nthree\n"),
            file("new.yaml", "fresh\n"),
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn a_patch_of_other_lines_than_those_in_force_is_refused() {
        let mut files = vec![file("web.yaml", "one\n2\nthree\n")];
        let parts = parts(PATCH).unwrap();
        let failure = apply(&mut files, &parts[0]).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert_eq!(files, [file("web.yaml", "one\n2\nthree\n")]);
    }

    #[test]
    fn a_patch_of_two_sets_is_refused() {
        let text = PATCH.replace("b/shop/new", "b/other/new");
        let parts = parts(&text).unwrap();
        assert!(one_set(&parts).is_err());
    }

    #[test]
    fn a_removed_line_that_looks_like_a_header_is_none() {
        let text = "--- a/shop/web.yaml\n+++ b/shop/web.yaml\n@@ -1,2 +1 @@\n--- a/x\n keep\n";
        assert_eq!(parts(text).unwrap().len(), 1);
    }

    #[test]
    fn manifests_are_no_patch() {
        assert!(is_patch(PATCH));
        assert!(!is_patch("---\nkind: Service\n"));
        assert!(!is_patch("kind: Service\n--- a/x\n"));
    }
}
