//! What was put of a release that is not the current one yet, on this target's disk: whatever cuts it off,
//! the next attempt goes on from there. Losing it costs putting the same again, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use holdfast_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::durable::failed;
use crate::failure::Failure;
use crate::static_files::bucket::record::{Entry, List};
use crate::unpack::ENTRIES_MAX;

/// The file, open at its end.
pub(super) struct Journal(File);

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    what: Digest,
    etag: String,
    page: bool,
}

/// Most lines that are read: several attempts, each of a whole release.
const LINES_MAX: usize = 4 * ENTRIES_MAX;

impl Journal {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        file.map(Self)
            .map_err(failed(format!("cannot write {}", path.display())))
    }

    /// Notes one object. Not synced: what a power cut takes is put again.
    pub(super) fn note(&mut self, key: &str, entry: &Entry) -> Result<(), Failure> {
        let line = Line {
            key: key.to_owned(),
            what: entry.what,
            etag: entry.etag.clone(),
            page: entry.is_page,
        };
        let mut bytes = serde_json::to_vec(&line).expect("a line is plain data");
        bytes.push(b'\n');
        self.0
            .write_all(&bytes)
            .map_err(failed("cannot note what was put"))
    }
}

/// What was noted; lines that were cut off are passed over.
pub(super) fn read(path: &Path) -> List {
    let Ok(file) = File::open(path) else {
        return List::new();
    };
    let lines = BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .take(LINES_MAX);
    let entry = |line: String| {
        let line: Line = serde_json::from_str(&line).ok()?;
        let entry = Entry {
            what: line.what,
            etag: line.etag,
            is_page: line.page,
        };
        Some((line.key, entry))
    };
    lines.filter_map(entry).collect()
}
