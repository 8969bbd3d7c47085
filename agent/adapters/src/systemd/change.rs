//! One change of one workload: artifacts, units, files, and what systemd is then asked to do.

use std::collections::BTreeMap;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;

use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::process::files;
use crate::process::spec::StopSignal;
use crate::process::table;
use crate::run::Wanted;
use crate::secret::memory::Memory;
use crate::systemd::bus::{Ended, Line, SERVICE, UNIT};
use crate::systemd::converge::Act;
use crate::systemd::install::{remove_drop_in, remove_unit, set_enabled, write_unit};
use crate::systemd::place::{Begun, Place, Record};
use crate::systemd::plan::Plan;
use crate::systemd::spec::Reload;
use crate::systemd::{sight, unit, verify};
use crate::unpacked::Store;

/// A change, once all that can be refused was not.
pub(super) struct Change<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) place: &'a Place,
    pub(super) plan: &'a Plan,
    pub(super) before: Option<&'a Record>,
    pub(super) memory: &'a Memory,
    pub(super) line: &'a Line,
    /// systemd may not have read the units as they are.
    pub(super) stale: bool,
    /// Takes a word of progress.
    pub(super) say: &'a dyn Fn(String),
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

impl Change<'_> {
    /// Does all of it, in the order in which it can be cut off anywhere.
    pub(super) fn make(&self, act: Act, wanted: &Wanted, store: &Store) -> Result<(), Failure> {
        self.lay_artifacts(wanted, store)?;
        self.still_wanted()?;
        if self
            .before
            .is_none_or(|before| before.units != self.plan.units)
        {
            // Only now is there the program that a unit names.
            verify::verify(self.place, &self.plan.units)?;
        }
        self.end_other_kind()?;
        let act = self.stop_by_the_old_rule(act)?;
        self.memory.lay(&self.plan.secrets)?;
        self.write_units()?;
        self.lay_files()?;
        if self.plan.job {
            return self.begin();
        }
        self.act(act)?;
        self.settle()?;
        self.memory.sweep(self.service, Some(&self.plan.secrets))
    }

    /// Begins an attempt of a job. It is written down before that it is begun: an agent that is killed
    /// here finds the attempt, and begins no second one. The job's own end is not waited for.
    fn begin(&self) -> Result<(), Failure> {
        self.still_wanted()?;
        let attempt = "cannot note what is begun";
        let begun = Begun {
            boot: table::boot().to_owned(),
            micros: u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX),
        };
        let micros = begun.micros;
        let record = Record {
            begun: Some(begun),
            ..self.settled()
        };
        self.place.write(&record).map_err(failed(attempt))?;
        let unit = unit::service_unit(self.service);
        (self.say)(format!("running {unit}"));
        let result = match self.line.job("RestartUnit", &unit, self.cancelled)? {
            Ended::Done => return Ok(()),
            Ended::Otherwise(result) => result,
        };
        if self.has_run(&unit, micros)? {
            return Ok(());
        }
        self.failed_start(&unit, &result).inspect_err(|_| {
            // Where this note fails, an end that nobody saw is all that is known of the attempt.
            let _ = self.place.write(&unsettled(self.plan, self.before));
        })
    }

    /// Whether the program was executed since a moment, and ended. Where it ends at once, systemd may see that
    /// before it sees the start, and calls the start failed: but that was an attempt.
    fn has_run(&self, unit: &str, since_micros: u64) -> Result<bool, Failure> {
        let path = self.line.load(unit)?;
        let began: u64 = self
            .line
            .property(&path, SERVICE, "ExecMainStartTimestampMonotonic")?;
        let code: i32 = self.line.property(&path, SERVICE, "ExecMainCode")?;
        let status: i32 = self.line.property(&path, SERVICE, "ExecMainStatus")?;
        Ok(began >= since_micros && is_own_end(code, status))
    }

    /// What runs is stopped as its own unit says, where the new one says something else.
    fn stop_by_the_old_rule(&self, act: Act) -> Result<Act, Failure> {
        let unit = unit::service_unit(self.service);
        let written = self.before.and_then(|before| before.units.get(&unit));
        let same = written.is_none_or(|text| {
            self.plan
                .units
                .get(&unit)
                .is_some_and(|new| stop_rule(new) == stop_rule(text))
        });
        // A run that a schedule has begun ends by itself.
        if same || act != Act::Restart || self.plan.is_scheduled() {
            return Ok(act);
        }
        (self.say)(format!("stopping {unit}"));
        self.line.job("StopUnit", &unit, self.cancelled)?;
        Ok(Act::Start)
    }

    fn still_wanted(&self) -> Result<(), Failure> {
        if (self.cancelled)() {
            return Err(Failure::Cancelled);
        }
        Ok(())
    }

    fn lay_artifacts(&self, wanted: &Wanted, store: &Store) -> Result<(), Failure> {
        let (place, plan) = (self.place, self.plan);
        durable::make_directory(&place.root, 0o711)
            .map_err(failed(format!("cannot make {}", place.root.display())))?;
        // Until the units are written, the old ones are in force, with what they need.
        let mut noted = self.before.cloned().unwrap_or_else(|| Record {
            units: BTreeMap::new(),
            ..unsettled(plan, None)
        });
        noted.earlier.extend(plan.needs.iter().cloned());
        place
            .write(&noted)
            .map_err(failed("cannot note the artifacts it needs"))?;
        for artifact in &wanted.workload.artifacts {
            let blob = wanted.artifacts.get(&artifact.name).ok_or_else(|| {
                Failure::Retryable(format!("artifact {} is not here yet", artifact.name))
            })?;
            if store.lay(artifact, blob, self.cancelled)? {
                let (name, file) = (&artifact.name, &artifact.file);
                (self.say)(format!("laid down artifact {name} ({file})"));
            }
        }
        Ok(())
    }

    /// Writes the units, has systemd read them, and puts the old ones back where it refuses them.
    fn write_units(&self) -> Result<(), Failure> {
        self.place
            .write(&unsettled(self.plan, self.before))
            .map_err(failed("cannot note what is to be made"))?;
        let mut reload = self.stale;
        for (unit, text) in &self.plan.units {
            if write_unit(unit, text)? {
                (self.say)(format!("wrote {unit}"));
                reload = true;
            }
            for path in sight::drop_ins(unit)? {
                (self.say)(format!("removed {}", path.display()));
                remove_drop_in(&path)?;
                reload = true;
            }
            reload |= set_enabled(unit, self.plan.starts_by_itself(unit))?;
        }
        if !reload {
            return Ok(());
        }
        self.line.reload()?;
        for unit in self.plan.units.keys() {
            if let Some(why) = self.refusal(unit)? {
                self.put_back()?;
                return Err(Failure::Permanent(format!("systemd refuses {unit}: {why}")));
            }
        }
        Ok(())
    }

    /// Why systemd cannot work by a unit, where it cannot.
    fn refusal(&self, unit: &str) -> Result<Option<String>, Failure> {
        let path = self.line.load(unit)?;
        let state: String = self.line.property(&path, UNIT, "LoadState")?;
        if state == "loaded" {
            return Ok(None);
        }
        let error = self.line.load_error(&path)?;
        Ok(Some(if error.is_empty() { state } else { error }))
    }

    fn put_back(&self) -> Result<(), Failure> {
        let attempt = "cannot put the units before it back";
        for unit in self.plan.units.keys() {
            match self.before.and_then(|record| record.units.get(unit)) {
                Some(text) => {
                    write_unit(unit, text)?;
                }
                None => remove_unit(unit)?,
            }
        }
        if let Some(record) = self.before {
            for unit in record.units.keys() {
                set_enabled(unit, sight::is_started_at_boot(record, unit))?;
            }
        }
        self.line.reload()?;
        match self.before {
            Some(record) => self.place.write(record).map_err(failed(attempt)),
            None => durable::remove_all(&self.place.root).map_err(failed(attempt)),
        }
    }

    fn lay_files(&self) -> Result<(), Failure> {
        let directory = self.place.directory();
        let before = self.before.map(|record| record.files.clone());
        let user = self.plan.user.as_ref();
        let changed = files::make_directory(&directory, user)
            .and_then(|()| {
                let before: BTreeMap<String, Digest> = before.unwrap_or_default();
                files::lay(&directory, &self.plan.files, &before, user)
            })
            .and_then(|changed| {
                let before = self.before.map(|record| record.secrets.clone());
                let linked = self.plan.laid.link(&directory, &before.unwrap_or_default());
                linked.map(|()| changed)
            })
            .map_err(failed("cannot lay down its files"))?;
        for path in changed {
            (self.say)(format!("wrote file {path}"));
        }
        Ok(())
    }

    fn act(&self, act: Act) -> Result<(), Failure> {
        let unit = if self.plan.is_scheduled() {
            unit::timer_unit(self.service)
        } else {
            unit::service_unit(self.service)
        };
        let (word, call) = match act {
            Act::Nothing => return Ok(()),
            Act::Start => ("starting", "StartUnit"),
            Act::Restart => ("restarting", "RestartUnit"),
            Act::Reload => return self.reload(&unit),
        };
        self.still_wanted()?;
        (self.say)(format!("{word} {unit}"));
        match self.line.job(call, &unit, self.cancelled)? {
            Ended::Done => Ok(()),
            Ended::Otherwise(result) => self.failed_start(&unit, &result),
        }
    }

    /// A workload that got a schedule, or lost it, leaves what it was before, and by the rule of that:
    /// to what runs on a schedule, being told to end is a failure.
    fn end_other_kind(&self) -> Result<(), Failure> {
        let Some(before) = self.before else {
            return Ok(());
        };
        let timer = unit::timer_unit(self.service);
        let was_scheduled = before.units.contains_key(&timer);
        if was_scheduled == self.plan.is_scheduled() {
            return Ok(());
        }
        if was_scheduled {
            self.line.job("StopUnit", &timer, self.cancelled)?;
            remove_unit(&timer)?;
            self.line.reload()?;
        }
        let main = unit::service_unit(self.service);
        self.line.job("StopUnit", &main, self.cancelled)?;
        Ok(())
    }

    fn reload(&self, unit: &str) -> Result<(), Failure> {
        (self.say)(format!("telling {unit} to read its files again"));
        match &self.plan.template.reload {
            Some(Reload::Signal(signal)) => Ok(self.line.signal(unit, number(*signal))?),
            Some(Reload::Command(_)) => match self.line.job("ReloadUnit", unit, self.cancelled)? {
                Ended::Done => Ok(()),
                Ended::Otherwise(result) => Err(Failure::Retryable(format!(
                    "it could not be told to read its files again: {result}"
                ))),
            },
            None => Ok(()),
        }
    }

    /// Says why a start failed, in words that lead on. What can never start is not tried for ever.
    fn failed_start(&self, unit: &str, result: &str) -> Result<(), Failure> {
        let path = self.line.load(unit)?;
        let active: String = self.line.property(&path, UNIT, "ActiveState")?;
        if active == "active" {
            // Something else started it meanwhile, by the same unit.
            return Ok(());
        }
        if !unit.ends_with(".service") {
            return Err(Failure::Retryable(format!(
                "{unit} did not start: {result}"
            )));
        }
        let code: i32 = self.line.property(&path, SERVICE, "ExecMainCode")?;
        let status: i32 = self.line.property(&path, SERVICE, "ExecMainStatus")?;
        match hopeless(code, status) {
            Some(why) => {
                self.line.job("StopUnit", unit, self.cancelled)?;
                Err(Failure::Permanent(format!("{unit} cannot start: {why}")))
            }
            None => Err(Failure::Retryable(format!(
                "{unit} did not start: {result} (code {code}, status {status}); its log says more"
            ))),
        }
    }

    fn settle(&self) -> Result<(), Failure> {
        let noted = self.place.write(&self.settled());
        noted.map_err(failed("cannot note what was made"))
    }

    fn settled(&self) -> Record {
        Record {
            settled: Some(clock::now()),
            files: self.plan.digests(),
            secrets: self.plan.laid.clone(),
            ..unsettled(self.plan, self.before)
        }
    }
}

/// The lines of a unit that say how it is stopped.
fn stop_rule(text: &str) -> Vec<&str> {
    const NAMES: [&str; 3] = ["KillMode=", "KillSignal=", "TimeoutStopSec="];
    let named = |line: &&str| NAMES.iter().any(|name| line.starts_with(name));
    text.lines().filter(named).collect()
}

/// A record of a change that is under way.
fn unsettled(plan: &Plan, before: Option<&Record>) -> Record {
    Record {
        body: plan.body,
        settled: None,
        units: plan.units.clone(),
        files: before
            .map(|before| before.files.clone())
            .unwrap_or_default(),
        secrets: before
            .map(|before| before.secrets.clone())
            .unwrap_or_default(),
        needs: plan.needs.clone(),
        earlier: before
            .map(|before| before.needs.clone())
            .unwrap_or_default(),
        begun: None,
    }
}

/// Whether a program ended so, and not what systemd does in its place before it is executed:
/// systemd.exec(5), "Process Exit Codes", from 200 on.
const fn is_own_end(code: i32, status: i32) -> bool {
    const EXITED: i32 = 1;
    const KILLED: i32 = 2;
    const DUMPED: i32 = 3;
    match code {
        EXITED => status < 200 || status > 245,
        KILLED | DUMPED => true,
        _ => false,
    }
}

/// systemd's exit codes for what it could not set up (systemd.exec(5), "Process Exit Codes"), where
/// trying again cannot help.
fn hopeless(code: i32, status: i32) -> Option<&'static str> {
    const EXITED: i32 = 1;
    match (code, status) {
        (EXITED, 200) => Some("its working directory cannot be entered"),
        (EXITED, 203) => Some("its program is missing or cannot be executed"),
        (EXITED, 216) => Some("its group does not exist"),
        (EXITED, 217) => Some("its user does not exist"),
        _ => None,
    }
}

const fn number(signal: StopSignal) -> i32 {
    use rustix::process::Signal;
    match signal {
        StopSignal::Term => Signal::TERM.as_raw(),
        StopSignal::Int => Signal::INT.as_raw(),
        StopSignal::Quit => Signal::QUIT.as_raw(),
        StopSignal::Hup => Signal::HUP.as_raw(),
        StopSignal::Usr1 => Signal::USR1.as_raw(),
        StopSignal::Usr2 => Signal::USR2.as_raw(),
        StopSignal::Kill => Signal::KILL.as_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ended_at_once_is_told_from_one_that_was_never_executed() {
        for (code, status) in [(1, 0), (1, 3), (1, 199), (1, 255), (2, 9), (3, 11)] {
            assert!(is_own_end(code, status), "{code} {status}");
        }
        for (code, status) in [(0, 0), (1, 200), (1, 203), (1, 217), (1, 243)] {
            assert!(!is_own_end(code, status), "{code} {status}");
        }
    }
}
