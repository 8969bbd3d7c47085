//! What there is of each workload: recorded, alive, drifted, ended, or known by its mark alone.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_protocol::name::ServiceName;

use crate::clock;
use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::process::adapter::Inner;
use crate::process::record::{Place, Record};
use crate::process::table::{self, Marked};
use crate::process::{files, logs};
use crate::run::{Exit, Live, Observed};

/// All leaders of a session with this agent's mark, looked for at most once, and only when somebody asks.
pub(super) struct Scan<'a> {
    home: &'a str,
    found: OnceCell<Vec<Marked>>,
}

/// Time between two looks through all processes for workloads whose records are lost, while nothing
/// else asks for one. Each reads the environment of every process.
const SCAN_PAUSE: Duration = Duration::from_secs(300);
/// How long the note of an end may take to be written after the end was seen.
const NOTE_MAX: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) fn observe(&self) -> Result<Vec<Observed>, Failure> {
        let scan = self.scan();
        let mut services = self.known()?;
        if self.is_scan_due() {
            services.extend(scan.marked()?.iter().map(|found| found.service.clone()));
        }
        let mut seen = Vec::with_capacity(services.len());
        for service in services {
            seen.extend(self.look(service, &scan)?);
        }
        Ok(seen)
    }

    /// Whether it is time to look for workloads that no directory is left of.
    fn is_scan_due(&self) -> bool {
        let now = clock::monotonic().as_secs();
        let last = self.last_scan.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= SCAN_PAUSE.as_secs();
        if due {
            self.last_scan.store(now, Ordering::Relaxed);
        }
        due
    }

    /// What there is of one service; nothing where it was removed while this looked.
    fn look(&self, service: ServiceName, scan: &Scan<'_>) -> Result<Option<Observed>, Failure> {
        let place = self.place(&service);
        let running = self.running(&service, &place, scan)?;
        let recorded = running.clone().or_else(|| place.record());
        let live = match (&running, &recorded) {
            (Some(record), _) => {
                logs::note(&place);
                Self::live(&place, record)
            }
            (None, Some(record)) => self.ended(&service, &place, record),
            (None, None) if !place.root.is_dir() => return Ok(None),
            (None, None) => Live::Altered {
                what: "it was not started".to_owned(),
            },
        };
        let body = recorded.map(|record| record.body);
        Ok(Some(Observed {
            service,
            body,
            live,
        }))
    }

    fn live(place: &Place, record: &Record) -> Live {
        let (files, secrets) = place
            .placed()
            .map(|placed| (placed.files, placed.secrets))
            .unwrap_or_default();
        let directory = place.directory();
        let drift = files::drift(&directory, &files).or_else(|| secrets.drift(&directory));
        match drift {
            Some(what) => Live::Altered { what },
            None => Live::Running {
                since: record.started_at,
                pid: u32::try_from(record.process.pid).ok(),
            },
        }
    }

    fn ended(&self, service: &ServiceName, place: &Place, record: &Record) -> Live {
        // Its end may be seen here before the supervisor has written it down, or nobody watched.
        let mut note = place.ended(&record.process);
        if note.is_none()
            && self
                .supervisor
                .watch(service, place, &record.process)
                .is_ok()
        {
            for _ in 0..NOTE_MAX.as_millis() / 5 {
                note = place.ended(&record.process);
                if note.is_some() || !self.supervisor.watches(&record.process) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            note = note.or_else(|| place.ended(&record.process));
        }
        note.map_or_else(
            || Live::Ended {
                exit: Exit::Unknown,
                at: clock::now(),
            },
            |note| Live::Ended {
                exit: note.exit(),
                at: note.at,
            },
        )
    }

    /// The process that is this workload, if it lives; it is watched from now on. One that no record
    /// names is known by its mark, and written down again.
    pub(super) fn running(
        &self,
        service: &ServiceName,
        place: &Place,
        scan: &Scan<'_>,
    ) -> Result<Option<Record>, Failure> {
        let recorded = place.record().filter(|record| record.process.lives());
        let record = match recorded {
            Some(record) => Some(record),
            None => self.adopt(service, place, scan)?,
        };
        if let Some(record) = &record {
            self.supervisor
                .watch(service, place, &record.process)
                .map_err(failed(format!("cannot watch {service}")))?;
        }
        Ok(record)
    }

    fn adopt(
        &self,
        service: &ServiceName,
        place: &Place,
        scan: &Scan<'_>,
    ) -> Result<Option<Record>, Failure> {
        let own = scan
            .marked()?
            .iter()
            .filter(|found| found.service == *service);
        let Some(oldest) = own.min_by_key(|found| found.stat.start) else {
            return Ok(None);
        };
        let attempt = || format!("cannot adopt {service}");
        durable::make_directory(&place.root, 0o711).map_err(failed(attempt()))?;
        let _lock = place.lock().map_err(failed(attempt()))?;
        if let Some(record) = place.record().filter(|record| record.process.lives()) {
            return Ok(Some(record));
        }
        let process = oldest.stat.identity();
        if !process.lives() {
            return Ok(None);
        }
        let record = Record {
            process,
            body: oldest.body,
            started_at: oldest.stat.started_at(),
        };
        place.write_record(&record).map_err(failed(attempt()))?;
        tracing::info!(%service, pid = record.process.pid, "adopted by its mark");
        Ok(Some(record))
    }

    pub(super) const fn scan(&self) -> Scan<'_> {
        Scan {
            home: self.home.as_str(),
            found: OnceCell::new(),
        }
    }

    pub(super) fn known(&self) -> Result<BTreeSet<ServiceName>, Failure> {
        let names = durable::names(&self.services).map_err(failed("cannot list the workloads"))?;
        Ok(names
            .iter()
            .filter_map(|name| ServiceName::parse(name).ok())
            .collect())
    }
}

impl Scan<'_> {
    fn marked(&self) -> Result<&[Marked], Failure> {
        if self.found.get().is_none() {
            let found = table::marked_leaders(self.home).map_err(failed("cannot read /proc"))?;
            let _ = self.found.set(found);
        }
        Ok(self.found.get().map(Vec::as_slice).unwrap_or_default())
    }
}
