//! What happened while nobody listened: the transitions of workloads, bounded, on disk, until the
//! coordinator has stored them.
//!
//! The file is appended to, each line with a checksum, so a torn end costs only itself. The newest
//! state of each workload is not here: it is observed again at any time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holdfast_protocol::codec;
use holdfast_protocol::digest::Digest;
use holdfast_protocol::observed::Transition;

use crate::cache::record::sync_directory;

/// Most transitions that are kept; the oldest are dropped first.
pub const TRANSITIONS_MAX: usize = 1_000;
/// Largest encoded transition, in bytes.
const LINE_MAX_BYTES: usize = 8 * 1024;
const SUM_BYTES: usize = 8;

/// The transitions that the coordinator has not stored yet, oldest first.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    entries: VecDeque<Transition>,
    file: Option<File>,
    unsynced: bool,
    /// A rename or a new file is not forced to disk yet.
    renamed: bool,
    /// What the file ends with is not known: half a line there would hide all that follows.
    torn: bool,
    dropped: u64,
    appended: usize,
}

impl Journal {
    /// Reads what was left by an earlier run, as far as it is whole.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let entries = read_lines(&bytes);
        let mut journal = Self {
            path: path.to_owned(),
            appended: entries.len(),
            entries,
            file: None,
            unsynced: false,
            renamed: false,
            torn: false,
            dropped: 0,
        };
        journal.bound();
        // A torn end would hide what is appended after it.
        if let Err(error) = journal.rewrite() {
            tracing::warn!(%error, "the journal cannot be written; it is kept in memory");
            journal.torn = true;
        }
        journal
    }

    /// Adds what happened. It is on disk, though not yet forced there, when this returns.
    ///
    /// # Errors
    /// What the file system said; the transition is kept in memory all the same.
    pub fn push(&mut self, transition: Transition) -> io::Result<()> {
        let line = line(&transition);
        self.entries.push_back(transition);
        self.bound();
        if self.torn || self.appended >= 2 * TRANSITIONS_MAX {
            return self.rewrite();
        }
        let appended = self.append(&line);
        self.torn = appended.is_err();
        appended
    }

    /// The oldest transitions, at most `count`.
    #[must_use]
    pub fn oldest(&self, count: usize) -> Vec<Transition> {
        self.entries.iter().take(count).cloned().collect()
    }

    /// Forgets the oldest `count`: they are stored elsewhere.
    ///
    /// # Errors
    /// What the file system said; they may be delivered again after a restart.
    pub fn forget(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.entries.drain(..count.min(self.entries.len()));
        if self.entries.is_empty() {
            self.dropped = 0;
        }
        self.rewrite()
    }

    /// Forgets those that were the oldest `count` when [`Journal::dropped`] was `dropped`: of these,
    /// some may have been dropped since.
    ///
    /// # Errors
    /// As [`Journal::forget`].
    pub fn delivered(&mut self, count: usize, dropped: u64) -> io::Result<()> {
        let gone = usize::try_from(self.dropped.saturating_sub(dropped)).unwrap_or(usize::MAX);
        self.forget(count.saturating_sub(gone))
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many were dropped since all were last delivered.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether something was written and not forced to disk.
    #[must_use]
    pub const fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Forces what was written to disk.
    ///
    /// # Errors
    /// What the file system said. The handle is not used again: after a failed fsync nobody knows
    /// what it holds.
    pub fn sync(&mut self) -> io::Result<()> {
        self.unsynced = false;
        let Some(file) = &self.file else {
            return Ok(());
        };
        let parent = self.path.parent().filter(|_| self.renamed);
        let synced = file
            .sync_data()
            .and_then(|()| parent.map_or(Ok(()), sync_directory));
        if synced.is_err() {
            self.file = None;
            self.torn = true;
        } else {
            self.renamed = false;
        }
        synced
    }

    /// Forgets everything, the file too.
    pub fn delete(&self) {
        // There is none where nothing ever happened.
        let _ = fs::remove_file(&self.path);
    }

    fn bound(&mut self) {
        while self.entries.len() > TRANSITIONS_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            empty @ None => {
                self.renamed = true;
                empty.insert(options().append(true).open(&self.path)?)
            }
        };
        file.write_all(line)?;
        self.appended += 1;
        self.unsynced = true;
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.file = None;
        if self.entries.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let temporary = self.path.with_extension("new");
        let mut file = options().write(true).truncate(true).open(&temporary)?;
        for transition in &self.entries {
            file.write_all(&line(transition))?;
        }
        if !self.entries.is_empty() {
            // What takes the place of forced content must not be lost with the power.
            file.sync_data()?;
        }
        fs::rename(&temporary, &self.path)?;
        (self.renamed, self.torn) = (true, false);
        self.appended = self.entries.len();
        self.unsynced = true;
        self.file = Some(file);
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

/// `length u32 | first 8 bytes of SHA-256 | transition`
fn line(transition: &Transition) -> Vec<u8> {
    let payload = codec::encode(transition);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let digest = Digest::of(&payload);
    let mut line = length.to_be_bytes().to_vec();
    line.extend_from_slice(&digest.as_bytes()[..SUM_BYTES]);
    line.extend_from_slice(&payload);
    line
}

fn read_lines(mut bytes: &[u8]) -> VecDeque<Transition> {
    let mut entries = VecDeque::new();
    while let Some((transition, rest)) = read_line(bytes) {
        entries.push_back(transition);
        bytes = rest;
    }
    entries
}

fn read_line(bytes: &[u8]) -> Option<(Transition, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<SUM_BYTES>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    if Digest::of(payload).as_bytes()[..SUM_BYTES] != *sum {
        return None;
    }
    Some((codec::decode(payload, LINE_MAX_BYTES).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_protocol::name::ServiceName;
    use holdfast_protocol::observed::State;
    use holdfast_protocol::time::Timestamp;

    fn at(millis: u64) -> Transition {
        Transition {
            service: ServiceName::parse("web").unwrap(),
            at: Timestamp::from_millis(millis),
            wanted: None,
            state: State::NotReady,
            message: format!("number {millis}"),
        }
    }

    fn times(journal: &Journal) -> Vec<u64> {
        journal
            .oldest(usize::MAX)
            .iter()
            .map(|t| t.at.as_millis())
            .collect()
    }

    #[test]
    fn what_was_not_stored_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path);
        for n in 1..=4 {
            journal.push(at(n)).unwrap();
        }
        journal.forget(1).unwrap();
        journal.push(at(5)).unwrap();
        assert_eq!(times(&Journal::open(&path)), [2, 3, 4, 5]);
        journal.forget(9).unwrap();
        assert_eq!(times(&Journal::open(&path)), [0u64; 0]);
    }

    #[test]
    fn a_torn_end_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path);
        for n in 1..=3 {
            journal.push(at(n)).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        let two = line(&at(1)).len() * 2;
        for length in two..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut journal = Journal::open(&path);
            assert_eq!(times(&journal), [1, 2]);
            journal.push(at(9)).unwrap();
            assert_eq!(times(&Journal::open(&path)), [1, 2, 9]);
        }
    }

    #[test]
    fn a_line_that_a_full_disk_cut_off_does_not_hide_the_lines_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path);
        journal.push(at(1)).unwrap();
        let half = &line(&at(2))[..20];
        let mut file = options().append(true).open(&path).unwrap();
        file.write_all(half).unwrap();
        // A handle that takes nothing stands for the disk that took half.
        journal.file = Some(File::open(&path).unwrap());
        assert!(journal.push(at(2)).is_err());
        journal.push(at(3)).unwrap();
        assert_eq!(times(&Journal::open(&path)), [1, 2, 3]);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::open(&path);
        for n in 0..2_500 {
            journal.push(at(n)).unwrap();
        }
        assert_eq!((journal.len(), journal.dropped()), (TRANSITIONS_MAX, 1_500));
        assert_eq!(journal.oldest(1)[0].at.as_millis(), 1_500);
        assert_eq!(times(&Journal::open(&path)), times(&journal));
    }

    #[test]
    fn what_is_dropped_while_it_is_delivered_takes_nothing_else_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&directory.path().join("journal"));
        for n in 0..TRANSITIONS_MAX as u64 {
            journal.push(at(n)).unwrap();
        }
        let dropped = journal.dropped();
        // The oldest 5 are under way; 3 of them are dropped meanwhile.
        for n in 0..3 {
            journal.push(at(10_000 + n)).unwrap();
        }
        journal.delivered(5, dropped).unwrap();
        assert_eq!(journal.oldest(1)[0].at.as_millis(), 5);
    }
}
