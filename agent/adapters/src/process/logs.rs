//! A workload's output: one file that it appends to itself, an index of when it grew, and a bound.
//!
//! Lines carry no time of their own, so the index does: each entry says how long the file was at
//! what time. A line's time is the first entry at or past its end, which is right to within the
//! second between two looks while the agent runs, and the time of its return where it did not.
//!
//! Past [`LOG_MAX_BYTES`] the content is copied to one earlier file and the current one is emptied:
//! the workload keeps its descriptor. What it writes between the last read of the copy and the
//! emptying, a few microseconds, is lost; the alternative is a process between it and its log.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::stream::{LOG_LINE_MAX_BYTES, LOG_TAIL_MAX_LINES, LogLine};
use holdfast_protocol::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::clock;
use crate::durable;
use crate::process::record::Place;
use crate::run::LogRequest;
use crate::turns;

/// Size past which a log is set aside, in bytes. One earlier file is kept.
pub(crate) const LOG_MAX_BYTES: u64 = 10 << 20;
/// Most entries of an index; past it the log is set aside as well.
const INDEX_MAX_ENTRIES: u64 = 1 << 16;
/// Time and size, each as 64 bits, little-endian.
const ENTRY_BYTES: usize = 16;
/// Most readers at a time.
pub(crate) const READERS_MAX: usize = 16;
/// Lines on their way to a reader.
const LINES_MAX: usize = 256;
/// How often a reader that follows looks for more.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// When a file was how long, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
struct Index(Vec<(Timestamp, u64)>);

/// A reader's place in the current file.
struct Cursor {
    place: Place,
    offset: u64,
    since: Option<Timestamp>,
    lines: mpsc::Sender<LogLine>,
}

pub(crate) fn current(place: &Place) -> PathBuf {
    place.root.join("output.log")
}

fn earlier(place: &Place) -> PathBuf {
    place.root.join("output.1.log")
}

fn index_of(log: &Path) -> PathBuf {
    log.with_extension("index")
}

/// Notes how long the log is now, and sets it aside when it is too long. Gives by how many bytes it
/// grew. Nothing that fails here concerns the workload: the log is then longer, or its lines have no
/// time.
pub(crate) fn note(place: &Place) -> u64 {
    let log = current(place);
    let Ok(size) = size_of(&log) else { return 0 };
    let (entries, before) = append_entry(&index_of(&log), size).unwrap_or((0, size));
    if size > LOG_MAX_BYTES || entries >= INDEX_MAX_ENTRIES {
        set_aside(place);
    }
    size.saturating_sub(before)
}

fn size_of(log: &Path) -> io::Result<u64> {
    fs::metadata(log).map(|found| found.len())
}

/// Gives the number of entries, and the size that the last one before said.
fn append_entry(index: &Path, size: u64) -> io::Result<(u64, u64)> {
    let mut file = File::options()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(index)?;
    let entries = file.metadata()?.len() / ENTRY_BYTES as u64;
    let mut last = [0; 8];
    if entries > 0 {
        file.read_exact_at(&mut last, entries * ENTRY_BYTES as u64 - 8)?;
    }
    let before = u64::from_le_bytes(last);
    if before == size {
        return Ok((entries, before));
    }
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&clock::now().as_millis().to_le_bytes());
    entry[8..].copy_from_slice(&size.to_le_bytes());
    file.write_all(&entry)?;
    Ok((entries + 1, before))
}

/// Copies the log aside and empties it. On a full disk the copy is given up, not the bound.
fn set_aside(place: &Place) {
    let (log, old) = (current(place), earlier(place));
    // Others look at the log as well: whoever waited here finds it emptied.
    let Ok(_turn) = durable::lock(&place.root.join("output.lock")) else {
        return;
    };
    let entries = size_of(&index_of(&log)).unwrap_or(0) / ENTRY_BYTES as u64;
    if size_of(&log).unwrap_or(0) <= LOG_MAX_BYTES && entries < INDEX_MAX_ENTRIES {
        return;
    }
    let copied = copy(&log, &place.root.join(".output.1.log.new"), &old);
    if let Err(error) = copied {
        tracing::warn!(log = %log.display(), %error, "earlier output was dropped");
        let _ = durable::remove_all(&old);
    }
    let emptied = File::options()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(0));
    if emptied.is_ok() {
        let _ = fs::rename(index_of(&log), index_of(&old));
    }
}

fn copy(from: &Path, fresh: &Path, to: &Path) -> io::Result<()> {
    let _ = fs::remove_file(fresh);
    let mut target = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(fresh)?;
    // A program that writes faster than this copies must not grow the copy without end.
    let mut source = File::open(from)?.take(2 * LOG_MAX_BYTES);
    let copied = io::copy(&mut source, &mut target).and_then(|_| fs::rename(fresh, to));
    if copied.is_err() {
        let _ = fs::remove_file(fresh);
    }
    copied
}

/// The output that `request` asks for. Reads on a thread of its own, which ends with its receiver.
pub(crate) fn read(
    place: &Place,
    request: LogRequest,
    permit: OwnedSemaphorePermit,
) -> io::Result<mpsc::Receiver<LogLine>> {
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let cursor = Cursor {
        place: place.clone(),
        offset: 0,
        since: request.since,
        lines,
    };
    let tail = request
        .tail
        .min(usize::try_from(LOG_TAIL_MAX_LINES).unwrap_or(usize::MAX));
    turns::thread(move || {
        let _permit = permit;
        let mut next = cursor.past(tail, request.follow).filter(|_| request.follow);
        while let Some(cursor) = next.filter(|cursor| !cursor.lines.is_closed()) {
            std::thread::sleep(FOLLOW_PAUSE);
            next = cursor.more();
        }
    })?;
    Ok(receiver)
}

impl Cursor {
    /// Sends the last `tail` lines; gives the place after them, or nothing when nobody listens.
    fn past(mut self, tail: usize, follow: bool) -> Option<Self> {
        note(&self.place);
        let (log, old) = (current(&self.place), earlier(&self.place));
        let (from, found) = last_lines(&log, tail).unwrap_or((0, 0));
        if found < tail {
            let (from, _) = last_lines(&old, tail - found).unwrap_or((0, 0));
            self.send(&old, from, true)?;
        }
        self.offset = self.send(&log, from, !follow)?;
        Some(self)
    }

    /// Sends what came since.
    fn more(mut self) -> Option<Self> {
        let log = current(&self.place);
        let size = fs::metadata(&log).map(|found| found.len()).ok()?;
        if size < self.offset {
            // It was set aside: the rest of the old content is at the end of the earlier file.
            self.send(&earlier(&self.place), self.offset, true)?;
            self.offset = 0;
        }
        if size != self.offset {
            note(&self.place);
            self.offset = self.send(&log, self.offset, false)?;
        }
        Some(self)
    }

    /// Sends the lines of `log` from `offset`; `all` counts a last line without an end as one. Gives
    /// the offset after the last line sent, or nothing when nobody listens.
    fn send(&self, log: &Path, offset: u64, all: bool) -> Option<u64> {
        let index = Index::read(&index_of(log));
        let Ok(mut file) = File::open(log) else {
            return Some(offset);
        };
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut reader = BufReader::new(file);
        let mut end = offset;
        while let Ok(Some((text, length, complete))) = read_line(&mut reader) {
            if !complete && !all {
                break;
            }
            end += length;
            let at = index.at(end);
            if at.is_none() || self.since.is_none() || at > self.since {
                self.lines.blocking_send(LogLine { at, text }).ok()?;
            }
        }
        Some(end)
    }
}

impl Index {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let entry = |bytes: &[u8]| {
            let (at, size) = bytes.split_at(8);
            (Timestamp::from_millis(number(at)), number(size))
        };
        Self(bytes.chunks_exact(ENTRY_BYTES).map(entry).collect())
    }

    /// When the file was first seen to be at least `size` long.
    fn at(&self, size: u64) -> Option<Timestamp> {
        let first = self.0.partition_point(|(_, noted)| *noted < size);
        self.0.get(first).map(|(at, _)| *at)
    }
}

/// One line without its end, its length with it, and whether it has one; a line longer than what
/// travels is cut, and its rest skipped.
fn read_line(reader: &mut BufReader<File>) -> io::Result<Option<(String, u64, bool)>> {
    let mut bytes = Vec::new();
    let limit = LOG_LINE_MAX_BYTES as u64 - 4;
    let mut length = reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? as u64;
    if length == 0 {
        return Ok(None);
    }
    let mut complete = bytes.last() == Some(&b'\n');
    let cut = !complete && length == limit;
    if cut {
        let rest = skip_line(reader)?;
        length += rest.0;
        complete = rest.1;
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    while text.len() > LOG_LINE_MAX_BYTES - 4 {
        text.pop();
    }
    if cut {
        text.push('…');
    }
    Ok(Some((text, length, complete)))
}

fn skip_line(reader: &mut BufReader<File>) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((skipped, false));
        }
        let end = buffer.iter().position(|b| *b == b'\n');
        let taken = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(taken);
        skipped += taken as u64;
        if end.is_some() {
            return Ok((skipped, true));
        }
    }
}

/// Where the last `count` lines of a file begin, and how many there are.
fn last_lines(path: &Path, count: usize) -> io::Result<(u64, usize)> {
    const STEP: u64 = 64 << 10;
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if count == 0 || size == 0 {
        return Ok((size, 0));
    }
    let mut found = 0;
    // The end of the last line is not the beginning of another.
    let mut end = size - 1;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        for (i, _) in bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            found += 1;
            if found == count {
                return Ok((start + i as u64 + 1, count));
            }
        }
        end = start;
    }
    Ok((0, found + 1))
}
