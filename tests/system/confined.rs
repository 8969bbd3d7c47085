//! Promise: what is deployed stays where it belongs. An archive that means harm is refused on the
//! target, by name; nothing is written outside, and what ran before goes on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use holdfast_protocol::api::deployment::Phase;
use holdfast_tests::archive;
use holdfast_tests::fleet::Fleet;
use holdfast_tests::manifest::ENVIRONMENTS;
use tar::EntryType;

/// What every harmful archive tries to leave somewhere.
const ESCAPED: &str = "escaped";
/// Zeros in one part of the archive that unpacks to 10 GB, in bytes.
const PART_BYTES: usize = 64 * 1024 * 1024;
/// How many such parts it has.
const PARTS: usize = 160;

/// A tar archive written header by header, since no library writes what is tested here.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &str, kind: EntryType, link: &str, size: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_size(size);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn file(self, name: &str) -> Self {
        let mut whole = self.entry(name, EntryType::Regular, "", 512);
        whole.0.extend_from_slice(&[b'x'; 512]);
        whole
    }

    fn gz(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        packed(&self.0)
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// 10 GB of zeros in 10 MB: one packed part, again and again, which is one stream (RFC 1952, 2.2).
fn bomb() -> Vec<u8> {
    let size = (PART_BYTES * PARTS) as u64;
    let head = Tar::default()
        .entry(ESCAPED, EntryType::Regular, "", size)
        .0;
    let part = packed(&vec![0; PART_BYTES]);
    [packed(&head), part.repeat(PARTS)].concat()
}

fn harmful(outside: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let beyond = outside.join(ESCAPED).display().to_string();
    let outside = outside.display().to_string();
    let tar = Tar::default;
    vec![
        ("a path through ..", tar().file("../../../../escaped").gz()),
        ("an absolute path", tar().file(&beyond).gz()),
        (
            "a link out of the root, and a file through it",
            tar()
                .entry("way", EntryType::Symlink, &outside, 0)
                .file("way/escaped")
                .gz(),
        ),
        (
            "a link upwards out of the root",
            tar()
                .entry("way", EntryType::Symlink, "../../..", 0)
                .file("way/escaped")
                .gz(),
        ),
        (
            "a hard link to a file outside",
            tar()
                .entry("way", EntryType::Link, &format!("{outside}/secret"), 0)
                .gz(),
        ),
        ("a device", tar().entry("null", EntryType::Char, "", 0).gz()),
        ("a pipe", tar().entry("pipe", EntryType::Fifo, "", 0).gz()),
        ("10 GB of zeros", bomb()),
        ("no archive at all", b"these are words".to_vec()),
    ]
}

#[test]
fn a_harmful_archive_is_refused_and_nothing_is_written_outside() {
    let mut fleet = Fleet::start();
    let www = fleet.directory().join("www");
    let outside = fleet.directory().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let site = format!(
        "apiVersion: holdfast/v1\nkind: Service\nmetadata: {{name: site, owner: w}}\nspec:\n  \
         artifacts: {{site: {{file: site.tar.gz}}}}\n  runtime: static\n  \
         template: {{path: \"{}/site\"}}\n",
        www.display()
    );
    fleet.apply(&[ENVIRONMENTS, &site].join("---\n"));
    fleet.join("staging-1", "staging", &[]);
    fleet.release("site", "1.0.0", &[("site", &archive::site("1.0.0"))]);
    fleet.wait_stable("site", "staging", "1.0.0");
    let served = fs::canonicalize(www.join("site")).unwrap();

    for (number, (what, bytes)) in harmful(&outside).into_iter().enumerate() {
        let version = format!("2.0.{number}");
        fleet.release("site", &version, &[("site", &bytes)]);
        let failed = fleet.wait_phase(("site", "staging"), &version, Phase::RolledBack);
        println!("{what}: {}", failed.reason);
        assert_eq!(
            fs::canonicalize(www.join("site")).unwrap(),
            served,
            "{what}"
        );
        let page = fs::read_to_string(www.join("site/index.html")).unwrap();
        assert_eq!(page, "<h1>1.0.0</h1>\n", "{what}");
        assert_eq!(names(&outside), ["secret"], "{what}");
        let escaped = found(fleet.directory(), ESCAPED);
        assert!(escaped.is_empty(), "{what}: {escaped:?}");
    }
    assert_eq!(
        fs::read_to_string(outside.join("secret")).unwrap(),
        "secret"
    );

    // A good one is taken after all that.
    fleet.release("site", "3.0.0", &[("site", &archive::site("3.0.0"))]);
    fleet.wait_stable("site", "staging", "3.0.0");
    let page = fs::read_to_string(www.join("site/index.html")).unwrap();
    assert_eq!(page, "<h1>3.0.0</h1>\n");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Every file of that name below a folder. What is removed meanwhile is not there.
fn found(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            all.push(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(found(&entry.path(), name));
        }
    }
    all
}
