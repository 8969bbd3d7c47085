//! Archives by somebody who means harm: each is refused by name, and nothing outside is touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::Adapter;
use serde_json::json;
use tar::EntryType;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::{Home, runtime};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "every_harmful_archive_is_refused_and_nothing_outside_is_touched",
        every_harmful_archive_is_refused_and_nothing_outside_is_touched,
    ),
    (
        "good_archives_of_every_form_are_unpacked_with_plain_modes",
        good_archives_of_every_form_are_unpacked_with_plain_modes,
    ),
];

/// File name, content, and a part of the refusal.
type Harm = (&'static str, &'static str, Vec<u8>, &'static str);

/// A tar archive written byte by byte, since no library writes what is tested here.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, name: &[u8], kind: EntryType, mode: u32, link: &[u8], data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Regular, 0o644, b"", b"content")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(
            name.as_bytes(),
            EntryType::Symlink,
            0o777,
            target.as_bytes(),
            b"",
        )
    }

    fn special(self, name: &str, kind: EntryType) -> Self {
        self.entry(name.as_bytes(), kind, 0o644, b"file", b"")
    }

    fn long_name(self, name: &str) -> Self {
        let data = [name.as_bytes(), b"\0"].concat();
        self.entry(b"././@LongLink", EntryType::GNULongName, 0o644, b"", &data)
    }

    fn pax(self, kind: EntryType, key: &str, value: &str) -> Self {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        self.entry(
            b"PaxHeader",
            kind,
            0o644,
            b"",
            format!("{length}{body}").as_bytes(),
        )
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn tar() -> Tar {
    Tar::default().file("good")
}

fn gz(plain: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(plain).unwrap();
    gz.finish().unwrap()
}

/// Ten gigabytes of zeros, of which a part is compressed once and repeated.
fn bomb(compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    const PART: usize = 16 << 20;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(640 * PART as u64);
    header.set_cksum();
    let mut blob = compress(header.as_bytes());
    blob.extend(compress(&vec![0; PART]).repeat(640));
    blob
}

fn zip(write: impl Fn(&mut zip::ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    write(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn options() -> zip::write::SimpleFileOptions {
    zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated)
}

fn zip_file(name: &str, content: &[u8]) -> Vec<u8> {
    zip(|writer| {
        writer.start_file(name, options()).unwrap();
        writer.write_all(content).unwrap();
    })
}

/// A zip of one entry whose name is changed afterwards, to what the library would not write.
fn zip_renamed(written: &str, name: &str) -> Vec<u8> {
    assert_eq!(written.len(), name.len());
    let mut blob = zip_file(written, b"content");
    for at in 0..blob.len() - written.len() {
        if &blob[at..at + written.len()] == written.as_bytes() {
            blob[at..at + written.len()].copy_from_slice(name.as_bytes());
        }
    }
    blob
}

fn names() -> Vec<Harm> {
    let deep = vec!["d"; 66].join("/");
    let long_part = "n".repeat(256);
    let long_path = vec!["p".repeat(200); 21].join("/");
    vec![
        (
            "parent",
            "x.tar",
            tar().file("../canary/x").end(),
            "\"../canary/x\"",
        ),
        (
            "parent inside",
            "x.tar",
            tar().file("a/../../canary/x").end(),
            "the part ..",
        ),
        (
            "absolute",
            "x.tar",
            tar().file("/tmp/holdfast-canary").end(),
            "is absolute",
        ),
        (
            "duplicate",
            "x.tar",
            tar().file("good").end(),
            "\"good\" is there twice",
        ),
        (
            "case clash",
            "x.tar",
            tar().file("GOOD").end(),
            "only in case",
        ),
        (
            "case clash above",
            "x.tar",
            tar().file("a/x").file("A/y").end(),
            "only in case",
        ),
        (
            "device name",
            "x.tar",
            tar().file("lib/CON.txt").end(),
            "name of a device",
        ),
        (
            "backslash",
            "x.tar",
            tar().file("..\\canary").end(),
            "backslash",
        ),
        (
            "control",
            "x.tar",
            tar().file("a\nb").end(),
            "control character",
        ),
        (
            "not UTF-8",
            "x.tar",
            tar()
                .entry(b"\xff\xfe", EntryType::Regular, 0o644, b"", b"")
                .end(),
            "not UTF-8",
        ),
        (
            "NUL",
            "x.tar",
            tar()
                .pax(EntryType::XHeader, "path", "a\0b")
                .file("c")
                .end(),
            "control",
        ),
        (
            "deep",
            "x.tar",
            tar().long_name(&deep).file("x").end(),
            "64 directories deep",
        ),
        (
            "long part",
            "x.tar",
            tar().long_name(&long_part).file("x").end(),
            "255 bytes",
        ),
        (
            "long path",
            "x.tar",
            tar().long_name(&long_path).file("x").end(),
            "4096 bytes",
        ),
        (
            "zip parent",
            "x.zip",
            zip_renamed("xx/canary", "../canary"),
            "the part ..",
        ),
        (
            "zip absolute",
            "x.zip",
            zip_renamed("xtmp/canary", "/tmp/canary"),
            "is absolute",
        ),
        ("zip NUL", "x.zip", zip_renamed("a-b", "a\0b"), "control"),
    ]
}

fn kinds() -> Vec<Harm> {
    let with_mode =
        |name: &str, kind, mode| tar().entry(name.as_bytes(), kind, mode, b"", b"").end();
    let long = vec![b'x'; 1 << 20];
    vec![
        (
            "hard link",
            "x.tar",
            tar().special("h", EntryType::Link).end(),
            "\"h\" is a hard link",
        ),
        (
            "device",
            "x.tar",
            tar().special("c", EntryType::Char).end(),
            "\"c\" is a device",
        ),
        (
            "block device",
            "x.tar",
            tar().special("b", EntryType::Block).end(),
            "is a device",
        ),
        (
            "pipe",
            "x.tar",
            tar().special("p", EntryType::Fifo).end(),
            "\"p\" is a pipe",
        ),
        (
            "sparse",
            "x.tar",
            tar().special("s", EntryType::GNUSparse).end(),
            "\"s\" is sparse",
        ),
        (
            "unknown",
            "x.tar",
            tar().special("u", EntryType::new(b'Q')).end(),
            "unknown kind",
        ),
        (
            "setuid",
            "x.tar",
            with_mode("s", EntryType::Regular, 0o4755),
            "setuid",
        ),
        (
            "setgid",
            "x.tar",
            with_mode("s", EntryType::Directory, 0o2755),
            "setgid",
        ),
        (
            "pax sparse",
            "x.tar",
            tar()
                .pax(EntryType::XHeader, "GNU.sparse.major", "1")
                .file("s")
                .end(),
            "sparse",
        ),
        (
            "pax size",
            "x.tar",
            tar().pax(EntryType::XHeader, "size", "3").file("m").end(),
            "one size in its header",
        ),
        (
            "global path",
            "x.tar",
            tar()
                .pax(EntryType::XGlobalHeader, "path", "p")
                .file("m")
                .end(),
            "global header",
        ),
        (
            "long extension",
            "x.tar",
            tar()
                .entry(b"L", EntryType::GNULongName, 0o644, b"", &long)
                .file("m")
                .end(),
            "64 KiB",
        ),
        (
            "zip device",
            "x.zip",
            {
                // The kind lives in the upper half of the external attributes.
                let mut blob = zip_file("c", b"");
                let at = blob.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
                blob[at + 40..at + 42].copy_from_slice(&0o020_644_u16.to_le_bytes());
                blob
            },
            "device",
        ),
    ]
}

fn links() -> Vec<Harm> {
    vec![
        (
            "absolute link",
            "x.tar",
            tar().link("l", "/etc/passwd").end(),
            "absolute path",
        ),
        (
            "link out",
            "x.tar",
            tar().link("l", "../canary").end(),
            "leaves the archive",
        ),
        (
            "link far out",
            "x.tar",
            tar().link("a/l", "../../canary").end(),
            "leaves the archive",
        ),
        (
            "file through link",
            "x.tar",
            tar().link("l", "sub").file("l/x").end(),
            "lies below the link \"l\"",
        ),
        (
            "link over file",
            "x.tar",
            tar().link("good", "x").end(),
            "there twice",
        ),
        (
            "file over link",
            "x.tar",
            tar().link("l", "good").file("l").end(),
            "there twice",
        ),
        (
            "chain of links out",
            "x.tar",
            tar()
                .link("sub/a/d", ".")
                .link("e", "sub/a/d/../../../canary")
                .end(),
            "which is not inside",
        ),
        (
            "link to nothing",
            "x.tar",
            tar().link("l", "missing").end(),
            "not inside",
        ),
        (
            "loop",
            "x.tar",
            tar().link("l", "m").link("m", "l").end(),
            "not inside",
        ),
        (
            "zip link out",
            "x.zip",
            zip(|writer| writer.add_symlink("l", "../canary", options()).unwrap()),
            "leaves the archive",
        ),
    ]
}

fn sizes() -> Vec<Harm> {
    let mut many = Vec::new();
    let entry = Tar::default().special("./", EntryType::Directory).0;
    for _ in 0..=100_000 {
        many.extend_from_slice(&entry);
    }
    let whole = tar().file("last").end();
    vec![
        ("bomb gz", "x.tar.gz", bomb(gz), "unpacks to more than"),
        (
            "bomb zst",
            "x.tar.zst",
            bomb(|plain| zstd::encode_all(plain, 1).unwrap()),
            "unpacks to more than",
        ),
        (
            "bomb zip",
            "x.zip",
            zip_file("zeros", &vec![0; 64 << 20]),
            "unpacks to more than",
        ),
        (
            "many entries",
            "x.tar.gz",
            gz(&many),
            "more than 100000 entries",
        ),
        (
            "cut off",
            "x.tar",
            whole[..512 + 512 + 512 + 3].to_vec(),
            "\"last\" has 3 bytes",
        ),
        (
            "junk gz",
            "x.tar.gz",
            b"not an archive".to_vec(),
            "not a readable archive",
        ),
        (
            "junk zip",
            "x.zip",
            b"not an archive".to_vec(),
            "not a readable archive",
        ),
        ("empty", "x.tar", vec![0; 1024], "it is empty"),
    ]
}

/// Path to inode, mode, size and time of change of everything that no archive may touch.
fn snapshot(root: &Path, skip: &[&Path]) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if skip.contains(&path.as_path()) {
                continue;
            }
            let found = fs::symlink_metadata(&path).unwrap();
            let time = (found.mtime(), found.mtime_nsec());
            // A directory that holds what is skipped changes its own time.
            let time = if skip.iter().any(|s| s.parent() == Some(&path)) {
                (0, 0)
            } else {
                time
            };
            let line = format!(
                "{} {:o} {} {time:?}",
                found.ino(),
                found.mode(),
                found.size()
            );
            seen.insert(path.display().to_string(), line);
            if found.is_dir() {
                open.push(path);
            }
        }
    }
    seen
}

fn converge(adapter: &dyn Adapter, wanted: &holdfast_adapters::run::Wanted) -> Result<(), Failure> {
    let (progress, _told) = mpsc::channel(16);
    runtime().block_on(adapter.converge(wanted, &progress, &CancellationToken::new()))
}

fn every_harmful_archive_is_refused_and_nothing_outside_is_touched() {
    let all = [names(), kinds(), links(), sizes()].concat();
    println!("{} harmful archives", all.len());
    let home = Home::new();
    fs::create_dir_all(home.path().join("www/canary")).unwrap();
    fs::create_dir(home.path().join("canary")).unwrap();
    fs::write(home.path().join("canary/file"), "untouched").unwrap();
    fs::write(home.path().join("www/canary/file"), "untouched").unwrap();
    let link = home.path().join("www/site");
    let versions = home.path().join("www/.site.holdfast");
    let (sites, programs) = (home.open("static"), home.open("process"));
    let agent = home.agent();
    for (what, file, blob, expected) in all {
        let artifact = || home.artifact("x", file, &blob);
        let site = json!({"path": &link});
        let wanted = home.wanted("site", "static", &site, vec![artifact()]);
        let program = home.wanted(
            "p",
            "process",
            &json!({"command": ["./good"]}),
            vec![artifact()],
        );
        let before = snapshot(home.path(), &[&agent, &versions]);
        for (adapter, wanted) in [(&sites, &wanted), (&programs, &program)] {
            let refused = converge(&**adapter, wanted);
            let Err(Failure::Permanent(why)) = refused else {
                panic!("{what}: {refused:?}")
            };
            assert!(why.contains(expected), "{what}: {why}");
        }
        assert_eq!(
            snapshot(home.path(), &[&agent, &versions]),
            before,
            "{what}"
        );
        let left: Vec<_> = fs::read_dir(&versions)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(left, ["owner.json"], "{what}");
        assert_eq!(
            fs::read_dir(agent.join("process/unpacked"))
                .unwrap()
                .count(),
            0,
            "{what}"
        );
        assert!(home.marked("p").is_empty(), "{what}");
    }
    assert!(!Path::new("/tmp/holdfast-canary").exists());
}

fn good_archives_of_every_form_are_unpacked_with_plain_modes() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let plain = Tar::default()
        .special("./", EntryType::Directory)
        .entry(b"bin/", EntryType::Directory, 0o700, b"", b"")
        .entry(b"./bin/run", EntryType::Regular, 0o700, b"", b"#!")
        .entry(b"conf", EntryType::Regular, 0o666, b"", b"x=1")
        .link("bin/conf", "../conf")
        .link("current", "bin")
        .long_name(&long)
        .file("x")
        .pax(EntryType::XHeader, "path", "from-pax")
        .file("y")
        .end();
    let zipped = zip(|writer| {
        writer.add_directory("bin", options()).unwrap();
        writer
            .start_file("bin/run", options().unix_permissions(0o700))
            .unwrap();
        writer.write_all(b"#!").unwrap();
        writer
            .start_file("conf", options().unix_permissions(0o666))
            .unwrap();
        writer.write_all(b"x=1").unwrap();
        writer
            .add_symlink("bin/conf", "../conf", options())
            .unwrap();
        writer.add_symlink("current", "bin", options()).unwrap();
        for name in [long.as_str(), "from-pax"] {
            writer.start_file(name, options()).unwrap();
            writer.write_all(b"content").unwrap();
        }
    });
    let home = Home::new();
    let adapter = home.open("static");
    for (file, blob) in [
        ("x.tar", plain.clone()),
        ("x.tar.gz", gz(&plain)),
        ("x.tar.zst", zstd::encode_all(&plain[..], 1).unwrap()),
        ("x.zip", zipped),
    ] {
        let link = home.path().join(format!("link-{file}"));
        let artifact = home.artifact("x", file, &blob);
        let service = file.replace('.', "-");
        let wanted = home.wanted(&service, "static", &json!({"path": &link}), vec![artifact]);
        converge(&*adapter, &wanted).unwrap();
        let mode =
            |path: &str| fs::metadata(link.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode("bin"), mode("bin/run"), mode("conf")),
            (0o755, 0o755, 0o644),
            "{file}"
        );
        assert_eq!(
            fs::read_to_string(link.join("current/conf")).unwrap(),
            "x=1",
            "{file}"
        );
        assert_eq!(
            fs::read_to_string(link.join(&long)).unwrap(),
            "content",
            "{file}"
        );
        assert_eq!(
            fs::read_to_string(link.join("from-pax")).unwrap(),
            "content",
            "{file}"
        );
    }
}
