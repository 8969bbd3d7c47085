//! Units as systemd itself judges them, before they lie where it reads them: it passes over what it
//! does not understand in a unit, and only its log says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::systemd::place::Place;

const PROGRAM: &str = "/usr/bin/systemd-analyze";
/// How long it may take; it takes a hundredth of a second.
const VERIFY_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// Most of what it says that is read, in bytes.
const SAID_MAX_BYTES: u64 = 64 << 10;
/// Most complaints that are passed on.
const COMPLAINTS_MAX: usize = 5;

/// Refuses units that systemd would only take in part. Where it cannot be asked, it will say itself
/// what it cannot load.
pub(super) fn verify(place: &Place, units: &BTreeMap<String, String>) -> Result<(), Failure> {
    let directory = place.root.join("verify");
    let said = ask(&directory, units);
    durable::remove_all(&directory).map_err(failed("cannot remove what was verified"))?;
    let said = match said {
        Ok(said) => said,
        Err(error) => {
            tracing::debug!(%error, "the units could not be verified");
            return Ok(());
        }
    };
    for unit in units.keys() {
        let complaints = complaints(&said, &directory, unit);
        if !complaints.is_empty() {
            return Err(Failure::Permanent(format!(
                "systemd refuses {unit}: {}",
                complaints.join("; ")
            )));
        }
    }
    Ok(())
}

fn ask(directory: &Path, units: &BTreeMap<String, String>) -> io::Result<String> {
    durable::remove_all(directory)?;
    durable::make_directory(directory, 0o700)?;
    let paths: Vec<PathBuf> = units.keys().map(|unit| directory.join(unit)).collect();
    for (path, text) in paths.iter().zip(units.values()) {
        fs::write(path, text)?;
    }
    let said = directory.join("said");
    let child = Command::new(PROGRAM)
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&paths)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said)?)
        .spawn()?;
    end(child)?;
    let mut text = Vec::new();
    File::open(&said)?
        .take(SAID_MAX_BYTES)
        .read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Waits for a program to end by itself, and ends it where that takes too long.
fn end(mut child: Child) -> io::Result<()> {
    let looks = VERIFY_MAX.as_millis() / PAUSE.as_millis();
    for _ in 0..looks {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    child.kill()?;
    child.wait()?;
    Err(io::ErrorKind::TimedOut.into())
}

/// What was said of one unit: by its path and line, or by its name.
fn complaints(said: &str, directory: &Path, unit: &str) -> Vec<String> {
    let path = directory.join(unit);
    let of_line = format!("{}:", path.display());
    let of_unit = format!("{unit}: ");
    let about = |line: &str| {
        line.strip_prefix(&of_line)
            .map(|rest| format!("line {rest}"))
            .or_else(|| line.strip_prefix(&of_unit).map(str::to_owned))
    };
    said.lines()
        .filter_map(about)
        .take(COMPLAINTS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_unit_itself_is_a_complaint() {
        let said = "/x/verify/holdfast-a.service:3: Invalid memory limit 'lots', ignoring\n\
                    holdfast-a.service: Command /nowhere/x is not executable\n\
                    /etc/systemd/system/other.service:1: Unknown section\n\
                    systemd-analyze: unrecognized option '--recursive-errors=no'\n";
        assert_eq!(
            complaints(said, Path::new("/x/verify"), "holdfast-a.service"),
            [
                "line 3: Invalid memory limit 'lots', ignoring",
                "Command /nowhere/x is not executable"
            ]
        );
        assert!(complaints(said, Path::new("/x/verify"), "holdfast-b.service").is_empty());
    }
}
