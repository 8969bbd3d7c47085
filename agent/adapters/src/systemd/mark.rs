//! The mark of ownership, as a section at the end of a unit that systemd itself passes over
//! (systemd.unit(5): "sections whose names begin with X-"). Pure.

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

/// Whose unit it is, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) service: ServiceName,
    /// The release, for people.
    pub(super) version: String,
    /// The body that it was made of.
    pub(super) body: Digest,
    /// The directory of the agent's adapters.
    pub(super) home: String,
}

const SECTION: &str = "\n[X-Holdfast]\n";

impl Mark {
    /// The whole unit: `content`, which ends with a line end, and the mark.
    pub(super) fn seal(&self, content: &str) -> String {
        let Self {
            service,
            version,
            body,
            home,
        } = self;
        format!(
            "{content}{SECTION}Service={service}\nVersion={version}\nBody={body}\nHome={home}\n"
        )
    }

    /// The mark of a unit, if it has one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (_, section) = text.rsplit_once(SECTION)?;
        let value = |key: &str| section.lines().find_map(|line| line.strip_prefix(key));
        Some(Self {
            service: ServiceName::parse(value("Service=")?).ok()?,
            version: value("Version=")?.to_owned(),
            body: value("Body=")?.parse().ok()?,
            home: value("Home=")?.to_owned(),
        })
    }
}

/// A unit without its mark: what systemd makes something of.
pub(super) fn content(text: &str) -> &str {
    text.rsplit_once(SECTION)
        .map_or(text, |(content, _)| content)
}

/// What differs between a unit as it was written and as it is found, for people: its first line that
/// does, and how many more.
pub(super) fn difference(written: &str, found: &str) -> Option<String> {
    if written == found {
        return None;
    }
    let lines = |text: &str| -> Vec<String> {
        let plain = |line: &&str| !line.trim().is_empty();
        text.lines().filter(plain).map(str::to_owned).collect()
    };
    let (written, found) = (lines(written), lines(found));
    let missing: Vec<_> = written.iter().filter(|l| !found.contains(l)).collect();
    let added: Vec<_> = found.iter().filter(|l| !written.contains(l)).collect();
    let told = |lines: &[&String]| lines.first().map(|line| without_value(line));
    let first = match (told(&added), told(&missing)) {
        (Some(added), Some(missing)) => format!("{added:?} stands in the place of {missing:?}"),
        (Some(added), None) => format!("{added:?} was added"),
        (None, Some(missing)) => format!("{missing:?} is missing"),
        (None, None) => "its lines are in another order".to_owned(),
    };
    let more = (added.len() + missing.len()).saturating_sub(2);
    Some(match more {
        0 => first,
        more => format!("{first}, and {more} more lines differ"),
    })
}

/// Directives in which people put passwords by hand: what is said of them leaves the target.
const MAY_BE_SECRET: [&str; 4] = ["Environment", "Exec", "SetCredential", "X-"];

/// A line of a unit, without a value that may be a secret.
fn without_value(line: &str) -> String {
    match line.split_once('=') {
        Some((name, _)) if MAY_BE_SECRET.iter().any(|one| name.starts_with(one)) => {
            format!("{name}=…")
        }
        Some(_) | None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            service: ServiceName::parse("web").unwrap(),
            version: "1.4.0".to_owned(),
            body: Digest::of(b"body"),
            home: "/var/lib/holdfast-agent/workloads".to_owned(),
        }
    }

    #[test]
    fn a_mark_is_read_back_and_is_no_part_of_the_content() {
        let content = "[Service]\nExecStart=\":/bin/true\"\n";
        let sealed = mark().seal(content);
        assert_eq!(Mark::read(&sealed), Some(mark()));
        assert_eq!(super::content(&sealed), content);
        assert_eq!(Mark::read(content), None);
        let broken = sealed.replace("Body=", "Body=x");
        assert_eq!(Mark::read(&broken), None);
    }

    #[test]
    fn what_differs_is_said_by_its_first_line() {
        let written = "[Service]\nRestart=always\nUser=web\n";
        let said = |found: &str| difference(written, found);
        assert_eq!(said(written), None);
        assert_eq!(
            said("[Service]\nRestart=no\nUser=web\n").unwrap(),
            "\"Restart=no\" stands in the place of \"Restart=always\""
        );
        assert_eq!(
            said("[Service]\nRestart=always\nUser=web\nNice=5\n").unwrap(),
            "\"Nice=5\" was added"
        );
        assert_eq!(
            said(&format!("{written}Environment=TOKEN=hunter2\n")).unwrap(),
            "\"Environment=…\" was added"
        );
        assert_eq!(
            said("[Service]\nUser=web\n").unwrap(),
            "\"Restart=always\" is missing"
        );
        assert_eq!(
            said("[Service]\nA=b\nC=d\n").unwrap(),
            "\"A=b\" stands in the place of \"Restart=always\", and 2 more lines differ"
        );
        assert_eq!(
            said("[Service]\nUser=web\nRestart=always\n").unwrap(),
            "its lines are in another order"
        );
    }
}
