//! What Holdfast did not make, or another agent did, and so is not touched.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::systemd::adapter::Inner;
use crate::systemd::mark::Mark;
use crate::systemd::place::Record;
use crate::systemd::plan::Plan;
use crate::systemd::sight::{self, BEFORE, File};

/// Where the host's own units come from, beside those directories that stand before ours.
const OF_THE_HOST: [&str; 4] = [
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

impl Inner {
    /// Nothing that Holdfast did not make is replaced, and nothing of another agent that is there.
    pub(super) fn refuse_foreign(
        &self,
        plan: &Plan,
        before: Option<&Record>,
    ) -> Result<(), Failure> {
        for unit in plan.units.keys() {
            let recorded = before.is_some_and(|record| record.units.contains_key(unit));
            for directory in BEFORE.iter().chain(&OF_THE_HOST) {
                let path = Path::new(directory).join(unit);
                let counts = !recorded || BEFORE.contains(directory);
                if counts && fs::symlink_metadata(&path).is_ok() {
                    let path = path.display();
                    return Err(Failure::Permanent(format!(
                        "{path} is a unit of the host; move it away or rename the service"
                    )));
                }
            }
            if !recorded {
                self.refuse_foreign_file(unit)?;
            }
        }
        Ok(())
    }

    fn refuse_foreign_file(&self, unit: &str) -> Result<(), Failure> {
        let path = sight::path_of(unit);
        let foreign = |what: &str| {
            let path = path.display();
            Err(Failure::Permanent(format!("{path} {what}; move it away")))
        };
        match sight::read(&path)? {
            File::Absent => Ok(()),
            File::Masked => foreign("is masked"),
            File::Text(text) => match Mark::read(&text) {
                None => foreign("was not made by Holdfast"),
                Some(mark) if mark.home == self.home => Ok(()),
                Some(mark) if Path::new(&mark.home).is_dir() => {
                    foreign(&format!("belongs to the agent in {}", mark.home))
                }
                // The agent that made it is gone.
                Some(_) => Ok(()),
            },
        }
    }
}
