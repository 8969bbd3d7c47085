//! Output that changes kept, for `logs`: lines with their time in two files of the workload's
//! directory, of which the older one goes when the newer is full.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use holdfast_protocol::time::Timestamp;

use crate::call::Call;
use crate::{Failure, Lines};

/// Most that one of the two files holds, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Most lines of the past that are shown.
const TAIL_MAX_LINES: usize = 10_000;
/// Time between two looks for new lines.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The output of one workload.
pub struct Journal {
    newer: PathBuf,
    older: PathBuf,
}

impl Journal {
    /// The one in a workload's directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self {
            newer: directory.join("output.log"),
            older: directory.join("output.log.1"),
        }
    }

    /// Keeps a line. Output is for people to read: where it cannot be kept, the change goes on.
    pub fn keep(&self, text: &str) {
        if fs::metadata(&self.newer).is_ok_and(|file| file.len() > FILE_MAX_BYTES) {
            drop(fs::rename(&self.newer, &self.older));
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.newer);
        let line = format!("{} {}\n", wall().as_millis(), text.replace('\n', " "));
        drop(file.and_then(|mut file| file.write_all(line.as_bytes())));
    }

    fn past(&self, lines: &Lines) -> VecDeque<(Timestamp, String)> {
        let tail = lines.tail.min(TAIL_MAX_LINES);
        let mut past = VecDeque::new();
        let files = [&self.older, &self.newer]
            .into_iter()
            .filter_map(|path| File::open(path).ok());
        let read = files.flat_map(|file| BufReader::new(file).split(b'\n').map_while(Result::ok));
        for entry in read.filter_map(|line| parse(&line)) {
            if lines.since.is_some_and(|since| entry.0 <= since) {
                continue;
            }
            past.push_back(entry);
            if past.len() > tail {
                past.pop_front();
            }
        }
        past
    }
}

/// Shows what is kept, and new lines too where they are asked for, until nobody listens.
///
/// # Errors
/// None; there is always an output, if an empty one.
pub fn show<T>(call: &Call<'_, T>, lines: &Lines) -> Result<(), Failure> {
    let journal = Journal::of(call.directory());
    let mut place = Place::end_of(&journal.newer);
    for (at, text) in journal.past(lines) {
        if !call.line(Some(at), &text) {
            return Ok(());
        }
    }
    while lines.follow && !call.left().is_zero() {
        std::thread::sleep(FOLLOW_PAUSE.min(call.left()));
        let fresh = place.fresh(&journal);
        if !fresh
            .into_iter()
            .all(|(at, text)| call.line(Some(at), &text))
        {
            return Ok(());
        }
    }
    Ok(())
}

/// How far the newer file has been read; it is held, so that its renaming loses nothing.
struct Place {
    file: Option<BufReader<File>>,
    path: PathBuf,
    rest: Vec<u8>,
}

impl Place {
    fn end_of(path: &Path) -> Self {
        use std::io::{Seek as _, SeekFrom};
        let mut file = File::open(path).ok();
        if let Some(file) = &mut file {
            drop(file.seek(SeekFrom::End(0)));
        }
        Self {
            file: file.map(BufReader::new),
            path: path.to_owned(),
            rest: Vec::new(),
        }
    }

    fn fresh(&mut self, journal: &Journal) -> Vec<(Timestamp, String)> {
        let mut fresh = self.read();
        if self.was_replaced() {
            self.file = File::open(&journal.newer).ok().map(BufReader::new);
            fresh.extend(self.read());
        }
        fresh
    }

    fn read(&mut self) -> Vec<(Timestamp, String)> {
        let mut fresh = Vec::new();
        let Some(file) = &mut self.file else {
            return fresh;
        };
        while file
            .read_until(b'\n', &mut self.rest)
            .is_ok_and(|read| read > 0)
        {
            if self.rest.last() == Some(&b'\n') {
                fresh.extend(parse(&std::mem::take(&mut self.rest)));
            }
        }
        fresh
    }

    fn was_replaced(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let held = self
            .file
            .as_ref()
            .and_then(|file| file.get_ref().metadata().ok());
        let there = fs::metadata(&self.path).ok();
        there.is_some() && held.map(|file| file.ino()) != there.map(|file| file.ino())
    }
}

fn parse(line: &[u8]) -> Option<(Timestamp, String)> {
    let line = String::from_utf8_lossy(line);
    let (at, text) = line.trim_end_matches('\n').split_once(' ')?;
    Some((Timestamp::from_millis(at.parse().ok()?), text.to_owned()))
}

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "a line has the time at which it was written, and a plugin is nothing but a driver"
)]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_across_both_files() {
        let room = tempfile::tempdir().unwrap();
        let journal = Journal::of(room.path());
        let long = "x".repeat(200_000);
        for number in 0..20 {
            journal.keep(&format!("{number} {long}"));
        }
        let kept = |tail, since| {
            let lines = Lines {
                tail,
                since,
                follow: false,
            };
            journal.past(&lines)
        };
        let first = |text: &str| text.split(' ').next().unwrap().to_owned();
        let last: Vec<String> = kept(3, None).iter().map(|(_, text)| first(text)).collect();
        assert_eq!(last, ["17", "18", "19"]);
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        let most = 2 * (FILE_MAX_BYTES + 300_000);
        assert!(size(&journal.newer) + size(&journal.older) < most);
        assert!(kept(100, Some(Timestamp::from_millis(u64::MAX))).is_empty());
    }

    #[test]
    fn new_lines_are_found_also_where_the_file_is_another() {
        let room = tempfile::tempdir().unwrap();
        let journal = Journal::of(room.path());
        let mut place = Place::end_of(&journal.newer);
        journal.keep("one");
        fs::rename(&journal.newer, &journal.older).unwrap();
        journal.keep("two");
        let fresh = place.fresh(&journal);
        assert_eq!(fresh.last().unwrap().1, "two");
        journal.keep("three");
        assert_eq!(place.fresh(&journal)[0].1, "three");
        assert!(place.fresh(&journal).is_empty());
    }
}
