//! Takes a workload away: its units, its files, what it kept.

use std::path::{Path, PathBuf};

use holdfast_protocol::name::ServiceName;

use crate::durable::{self, failed};
use crate::failure::Failure;
use crate::systemd::adapter::Inner;
use crate::systemd::bus::{Ended, Line};
use crate::systemd::install::{remove_drop_in, remove_unit};
use crate::systemd::sight;
use crate::systemd::unit::{self, STATE};

impl Inner {
    pub(super) fn remove(
        &self,
        service: &ServiceName,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        let place = self.place(service);
        let record = place.record();
        let mut units = Vec::new();
        for unit in [unit::timer_unit(service), unit::service_unit(service)] {
            let recorded = record.as_ref().is_some_and(|r| r.units.contains_key(&unit));
            let mark = sight::mark_of(&unit)?;
            if recorded || mark.is_some_and(|mark| mark.home == self.home) {
                units.push(unit);
            }
        }
        if !units.is_empty() {
            let line = self.bus.line()?;
            stop(&units, &line, cancelled)?;
            for unit in &units {
                for path in sight::drop_ins(unit)? {
                    remove_drop_in(&path)?;
                }
                remove_unit(unit)?;
            }
            line.reload()?;
            for unit in &units {
                // It fails where systemd has forgotten the unit, which is what is wanted.
                let _ = line.forget_failure(unit);
            }
            for path in kept(service) {
                durable::remove_all(&path)
                    .map_err(failed(format!("cannot remove {}", path.display())))?;
                if let Some(all) = path.parent().filter(|parent| parent.ends_with(STATE)) {
                    // It stays where there is more in it.
                    let _ = std::fs::remove_dir(all);
                }
            }
        }
        self.memory.sweep(service, None)?;
        self.forget(service)?;
        self.store.sweep(|| self.needed());
        Ok(())
    }

    fn forget(&self, service: &ServiceName) -> Result<(), Failure> {
        let place = self.place(service);
        durable::remove_all(&place.root)
            .map_err(failed(format!("cannot remove {}", place.root.display())))
    }
}

/// The timer first: it would start the service again.
fn stop(units: &[String], line: &Line, cancelled: &dyn Fn() -> bool) -> Result<(), Failure> {
    let listing = sight::listing(line)?;
    for unit in units.iter().filter(|unit| listing.contains_key(*unit)) {
        match line.job("StopUnit", unit, cancelled)? {
            Ended::Done => {}
            Ended::Otherwise(result) => {
                return Err(Failure::Retryable(format!("{unit} did not stop: {result}")));
            }
        }
    }
    Ok(())
}

/// What systemd made for the workload: its directory of state, which is a link to a private one
/// where its user was made up, and when its timer last ran out.
fn kept(service: &ServiceName) -> [PathBuf; 3] {
    let state = Path::new("/var/lib");
    let timer = unit::timer_unit(service);
    [
        state.join(STATE).join(service.as_str()),
        state.join("private").join(STATE).join(service.as_str()),
        state.join("systemd/timers").join(format!("stamp-{timer}")),
    ]
}
