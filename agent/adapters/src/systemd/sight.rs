//! Looking at workloads: their unit files against what was written, and what systemd says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_protocol::digest::Digest;
use holdfast_protocol::name::ServiceName;
use holdfast_protocol::time::Timestamp;

use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::process::files;
use crate::restart::Policy;
use crate::run::{Exit, Live, Observed};
use crate::systemd::bus::{BusError, Line, Loaded, SERVICE, UNIT};
use crate::systemd::job;
use crate::systemd::mark::{self, Mark};
use crate::systemd::place::{Place, Record};
use crate::systemd::signal::of_unit;
use crate::systemd::unit::{self, UNITS};

/// Where drop-ins of one unit may be put by hand or by `systemctl edit` and `set-property`. What a
/// package brings below `/usr`, and what the owner of the host sets for all of Holdfast's units in
/// `holdfast-.service.d`, is the host's own.
pub(super) const DROP_INS: [&str; 4] = [
    "/etc/systemd/system",
    "/etc/systemd/system.control",
    "/run/systemd/system",
    "/run/systemd/system.control",
];
/// Where a unit of the same name would stand before ours.
pub(super) const BEFORE: [&str; 4] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
];
/// Longest unit that is read, in bytes: longer than any that is written.
const READ_MAX_BYTES: u64 = 2 << 20;

/// How often a service that is just changing its state is asked about again.
const ASKED_AGAIN_MAX: u32 = 20;
/// Pause before that.
const ASKED_AGAIN_PAUSE: Duration = Duration::from_millis(5);

/// What lies where a unit belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    Absent,
    /// A link to nothing: systemd is told to start no such unit.
    Masked,
    Text(String),
}

/// What differs from what was made, and since when.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// For people, each thing by itself.
    pub(super) what: Vec<String>,
    /// The earliest moment at which something that a start reads was touched, in microseconds. What
    /// was started later may have been started from it.
    pub(super) touched: Option<u64>,
    /// systemd works by something else than what lies there.
    pub(super) stale: bool,
    /// The workload's own files differ.
    pub(super) files: bool,
}

/// What systemd says of all workloads, by unit.
pub(super) type Listing = BTreeMap<String, Loaded>;

pub(super) fn listing(line: &Line) -> Result<Listing, BusError> {
    let loaded = line.loaded()?.into_iter();
    Ok(loaded.map(|unit| (unit.name.clone(), unit)).collect())
}

pub(super) fn path_of(unit: &str) -> PathBuf {
    Path::new(UNITS).join(unit)
}

/// The link by which systemd starts a unit at boot.
pub(super) fn link_of(unit: &str) -> PathBuf {
    let wants = format!("{}.wants", unit::wanted_by(unit));
    Path::new(UNITS).join(wants).join(unit)
}

/// Whether a unit is started at boot, or by another one if it has a timer.
pub(super) fn is_enabled(unit: &str) -> bool {
    let target = fs::read_link(link_of(unit));
    target.is_ok_and(|target| target.file_name() == Some(unit.as_ref()))
}

pub(super) fn read(path: &Path) -> Result<File, Failure> {
    let attempt = || format!("cannot read {}", path.display());
    if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(File::Masked);
    }
    // Opening a pipe that somebody put there must not wait for its other end.
    let opened = fs::File::options()
        .read(true)
        .custom_flags(files::NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::Absent),
        Err(error) => return Err(failed(attempt())(error)),
    };
    let mut bytes = Vec::new();
    file.take(READ_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed(attempt()))?;
    Ok(File::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Every service that has a directory here, or a unit with this agent's mark.
pub(super) fn known(services: &Path, home: &str) -> Result<BTreeSet<ServiceName>, Failure> {
    let list = |path: &Path| {
        durable::names(path).map_err(failed(format!("cannot list {}", path.display())))
    };
    let mut known: BTreeSet<ServiceName> = list(services)?
        .iter()
        .filter_map(|name| ServiceName::parse(name).ok())
        .collect();
    for name in list(Path::new(UNITS))? {
        let Some(service) = of_unit(&name).filter(|service| !known.contains(service)) else {
            continue;
        };
        let ours = |mark: &Mark| mark.home == home && mark.service == service;
        if mark_of(&name)?.as_ref().is_some_and(ours) {
            known.insert(service);
        }
    }
    Ok(known)
}

pub(super) fn mark_of(unit: &str) -> Result<Option<Mark>, Failure> {
    match read(&path_of(unit))? {
        File::Text(text) => Ok(Mark::read(&text)),
        File::Absent | File::Masked => Ok(None),
    }
}

/// Looks at one service.
pub(super) fn observe(
    service: ServiceName,
    place: &Place,
    listing: &Listing,
    line: &Line,
) -> Result<Observed, Failure> {
    let main = unit::service_unit(&service);
    let found = read(&path_of(&main))?;
    let mark = match &found {
        File::Text(text) => Mark::read(text),
        File::Absent | File::Masked => None,
    };
    let record = place.record();
    if job::is_one(&main, record.as_ref(), &found) {
        return job::observe(service, place, (record.as_ref(), mark), listing, line);
    }
    let altered = |body: Option<Digest>, what: &str| Observed {
        service: service.clone(),
        body,
        live: Live::Altered {
            what: what.to_owned(),
        },
    };
    let Some(record) = record else {
        let body = mark.map(|mark| mark.body);
        return Ok(altered(body, "what was known of it here is lost"));
    };
    let Some(settled) = record.settled else {
        // Before the first unit is written, it is not even known whether it is a job.
        let body = (!record.units.is_empty()).then_some(record.body);
        return Ok(altered(body, "a change of it was not finished"));
    };
    let drift = drift(place, &record, listing, line)?;
    let live = if drift.what.is_empty() {
        live(&service, &record, settled, listing, line)?
    } else {
        Live::Altered {
            what: drift.what.join("; "),
        }
    };
    Ok(Observed {
        service,
        body: Some(record.body),
        live,
    })
}

/// What somebody else changed of a workload that was settled.
pub(super) fn drift(
    place: &Place,
    record: &Record,
    listing: &Listing,
    line: &Line,
) -> Result<Drift, Failure> {
    let mut drift = Drift::default();
    for (unit, written) in &record.units {
        look_at_file(&mut drift, unit, written)?;
        look_for_drop_ins(&mut drift, unit)?;
        if is_started_at_boot(record, unit) && !is_enabled(unit) {
            drift.what.push(format!("{unit} was disabled"));
        }
        if drift.what.is_empty() && is_stale(unit, listing, line)? {
            drift
                .what
                .push(format!("systemd has not read {unit} again"));
            drift.touched = Some(0);
        }
    }
    if let Some(what) = files::drift(&place.directory(), &record.files) {
        drift.files = true;
        drift.what.push(what);
    }
    // What runs has its own copies; whatever is started next needs them again.
    drift.what.extend(record.secrets.drift(&place.directory()));
    Ok(drift)
}

/// A workload with a timer is started by that alone.
pub(super) fn is_started_at_boot(record: &Record, unit: &str) -> bool {
    let text = record.units.get(unit).map(String::as_str);
    unit.ends_with(".timer") || (record.units.len() == 1 && !text.is_some_and(unit::is_job))
}

fn look_at_file(drift: &mut Drift, unit: &str, written: &str) -> Result<(), Failure> {
    let path = path_of(unit);
    let what = match read(&path)? {
        File::Absent => Some(format!("{unit} was removed")),
        File::Masked => Some(format!("{unit} was masked")),
        File::Text(found) => {
            mark::difference(written, &found).map(|what| format!("{unit} was edited: {what}"))
        }
    };
    if let Some(what) = what {
        drift.what.push(what);
        drift.touch(&path);
    }
    for directory in BEFORE {
        let before = Path::new(directory).join(unit);
        if fs::symlink_metadata(&before).is_ok() {
            let what = format!("{} stands before it", before.display());
            drift.what.push(what);
            drift.touch(&before);
        }
    }
    Ok(())
}

fn look_for_drop_ins(drift: &mut Drift, unit: &str) -> Result<(), Failure> {
    for path in drop_ins(unit)? {
        drift.what.push(format!("{} was added", path.display()));
        drift.touch(&path);
    }
    Ok(())
}

/// Everything that somebody put beside a unit to change it.
pub(super) fn drop_ins(unit: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for directory in DROP_INS {
        let directory = Path::new(directory).join(format!("{unit}.d"));
        let names = durable::names(&directory)
            .map_err(failed(format!("cannot list {}", directory.display())))?;
        let drop_in = |name: &String| name.ends_with(".conf");
        found.extend(
            names
                .iter()
                .filter(|n| drop_in(n))
                .map(|n| directory.join(n)),
        );
    }
    Ok(found)
}

/// Whether systemd works by an older text than the one that lies there.
fn is_stale(unit: &str, listing: &Listing, line: &Line) -> Result<bool, Failure> {
    let Some(loaded) = listing.get(unit) else {
        return Ok(false);
    };
    gone_is(false, line.property(&loaded.path, UNIT, "NeedDaemonReload"))
}

/// A unit may be forgotten by systemd between two questions about it.
pub(super) fn gone_is<T>(otherwise: T, answer: Result<T, BusError>) -> Result<T, Failure> {
    match answer {
        Err(error) if error.is_unknown_unit() => Ok(otherwise),
        other => Ok(other?),
    }
}

fn live(
    service: &ServiceName,
    record: &Record,
    settled: Timestamp,
    listing: &Listing,
    line: &Line,
) -> Result<Live, Failure> {
    let main = unit::service_unit(service);
    let timer = unit::timer_unit(service);
    let loaded = listing.get(&main);
    if record.units.contains_key(&timer) {
        return live_timer(settled, loaded, listing.get(&timer), line);
    }
    let Some(loaded) = loaded else {
        return Ok(stopped(record, Exit::Unknown, clock::now()));
    };
    let (loaded, run) = settled_run(loaded, line)?;
    Ok(match (loaded.active.as_str(), loaded.sub.as_str()) {
        ("active" | "reloading", _) => run.running(),
        ("activating", sub) if sub != "auto-restart" => run.unready(&starting(&loaded, line)?),
        ("inactive", _) => stopped(record, run.exit, run.ended),
        ("deactivating", _) if loaded.job == "stop" => stopped(record, run.exit, run.ended),
        _ => Live::Ended {
            exit: run.exit,
            at: run.ended,
        },
    })
}

/// Why a unit that is being started is not ready, in its own words where it has said some (`STATUS=` of
/// sd_notify(3)).
fn starting(loaded: &Loaded, line: &Line) -> Result<String, Failure> {
    let said = line.property::<String>(&loaded.path, SERVICE, "StatusText");
    let said = gone_is(String::new(), said)?;
    let begun = "systemd is still starting it";
    Ok(match said.as_str() {
        "" => begun.to_owned(),
        said => format!("{begun}: {said}"),
    })
}

/// State and run that belong together. They are asked for one after the other, and systemd hears of
/// a process's end a moment after it: what is active and has no live process is asked about again.
pub(super) fn settled_run(listed: &Loaded, line: &Line) -> Result<(Loaded, Run), Failure> {
    let mut loaded = listed.clone();
    let mut run = Run::ask(&loaded, line)?;
    for _ in 0..ASKED_AGAIN_MAX {
        if loaded.active != "active" || run.pid.is_some_and(lives) {
            return Ok((loaded, run));
        }
        std::thread::sleep(ASKED_AGAIN_PAUSE);
        let state = |name| line.property::<String>(&loaded.path, UNIT, name);
        let (active, sub) = (state("ActiveState")?, state("SubState")?);
        (loaded.active, loaded.sub) = (active, sub);
        run = Run::ask(&loaded, line)?;
    }
    Ok((loaded, run))
}

/// Whether a process is there and has not ended (proc(5): the state follows the name in brackets).
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// It does not run, and nothing went wrong. Where systemd itself would have started it again, only
/// somebody's word can have ended it.
fn stopped(record: &Record, exit: Exit, at: Timestamp) -> Live {
    let always = format!("Restart={}\n", unit::policy(Policy::Always));
    if record.units.values().any(|text| text.contains(&always)) {
        return Live::Altered {
            what: "it was stopped".to_owned(),
        };
    }
    Live::Ended { exit, at }
}

/// A scheduled workload is there when its timer is; how its last run went is its readiness.
fn live_timer(
    settled: Timestamp,
    main: Option<&Loaded>,
    timer: Option<&Loaded>,
    line: &Line,
) -> Result<Live, Failure> {
    let Some(timer) = timer.filter(|timer| timer.active == "active") else {
        return Ok(Live::Altered {
            what: "its timer was stopped".to_owned(),
        });
    };
    let entered = gone_is(0, line.property(&timer.path, UNIT, "ActiveEnterTimestamp"))?;
    let since = of_micros(entered);
    let Some(main) = main.filter(|main| main.active == "failed") else {
        return Ok(Live::Running { since, pid: None });
    };
    let run = Run::ask(main, line)?;
    // The next run may have begun since the state was asked for.
    let state = line.property::<String>(&main.path, UNIT, "ActiveState");
    if run.since < settled || gone_is(String::new(), state)? != "failed" {
        // The body before it failed; this one has not.
        return Ok(Live::Running { since, pid: None });
    }
    Ok(Live::Unready {
        since,
        pid: None,
        why: format!(
            "its last run ended at {} with {}",
            run.ended,
            said(run.exit)
        ),
        failing: true,
    })
}

fn said(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::Unknown => "a failure".to_owned(),
    }
}

/// The present or last run of a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) since: Timestamp,
    /// In microseconds since 1970, as systemd has it.
    pub(super) since_micros: u64,
    pid: Option<u32>,
    pub(super) exit: Exit,
    pub(super) ended: Timestamp,
}

impl Run {
    pub(super) fn ask(unit: &Loaded, line: &Line) -> Result<Self, Failure> {
        let number = |name| gone_is(0, line.property::<u64>(&unit.path, SERVICE, name));
        let code = |name| gone_is(0, line.property::<i32>(&unit.path, SERVICE, name));
        let since_micros = number("ExecMainStartTimestamp")?;
        let pid = gone_is(0, line.property::<u32>(&unit.path, SERVICE, "MainPID"))?;
        let mut run = Self {
            since: of_micros(since_micros),
            since_micros,
            pid: (pid != 0).then_some(pid),
            exit: Exit::Unknown,
            ended: clock::now(),
        };
        let over = unit.sub == "exited";
        if over || !matches!(unit.active.as_str(), "active" | "reloading") {
            run.exit = exit(code("ExecMainCode")?, code("ExecMainStatus")?);
            let ended = number("ExecMainExitTimestamp")?;
            if ended > 0 {
                run.ended = of_micros(ended);
            }
        }
        Ok(run)
    }

    pub(super) const fn running(&self) -> Live {
        Live::Running {
            since: self.since,
            pid: self.pid,
        }
    }

    pub(super) fn unready(&self, why: &str) -> Live {
        Live::Unready {
            since: self.since,
            pid: self.pid,
            why: why.to_owned(),
            failing: false,
        }
    }
}

/// As in `siginfo_t`: 1 is an exit, 2 and 3 are signals.
const fn exit(code: i32, status: i32) -> Exit {
    match code {
        1 => Exit::Code(status),
        2 | 3 => Exit::Signal(status),
        _ => Exit::Unknown,
    }
}

const fn of_micros(micros: u64) -> Timestamp {
    Timestamp::from_millis(micros / 1000)
}

impl Drift {
    /// Notes when a file was touched, which nobody can set back. One that is gone starts nothing.
    fn touch(&mut self, path: &Path) {
        let micros = |found: &fs::Metadata| {
            let seconds = u64::try_from(found.ctime()).ok()?;
            let nanos = u64::try_from(found.ctime_nsec()).ok()?;
            Some(
                seconds
                    .saturating_mul(1_000_000)
                    .saturating_add(nanos / 1000),
            )
        };
        let changed = fs::symlink_metadata(path).ok();
        let changed = changed.as_ref().and_then(micros);
        self.touched = self.touched.into_iter().chain(changed).min();
    }
}
