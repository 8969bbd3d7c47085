//! What this machine is and how it does: sampled by `sysinfo`, judged by pure functions.

use std::path::Path;
use std::time::Duration;

use holdfast_protocol::observed::{Facts, TargetConditionKind};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Pause between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(60);
/// The disk is under pressure below this share of its size, in hundredths, ...
pub const DISK_LOW_PERCENT: u64 = 5;
/// ... or below this many bytes.
pub const DISK_LOW_BYTES: u64 = 100 * 1024 * 1024;
/// Memory is under pressure when less than this share is available, in hundredths.
pub const MEMORY_LOW_PERCENT: u64 = 5;
/// The load is high when it is this many times the number of cores.
pub const LOAD_HIGH_PER_CORE: u32 = 4;
/// A clock this far from the coordinator's is reported.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// Looks at this machine; `data` is the directory whose file system counts.
#[must_use]
pub fn sample(data: &Path) -> Facts {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh).ok();
    let (memory, available) = system.map_or((0, 0), |system| {
        (system.total_memory(), system.available_memory())
    });
    let disk = rustix::fs::statvfs(data).ok();
    let load = System::load_average().map_or(0.0, |load| load.one);
    let hundredths = (load * 100.0).clamp(0.0, f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped above"
    )]
    let load_hundredths = hundredths as u32;
    Facts {
        os: System::distribution_id(),
        os_version: System::os_version().unwrap_or_default(),
        kernel: System::kernel_version().unwrap_or_default(),
        arch: std::env::consts::ARCH.to_owned(),
        hostname: System::host_name().unwrap_or_default(),
        cores: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory,
        memory_available_bytes: available,
        disk_bytes: disk
            .as_ref()
            .map_or(0, |d| d.f_blocks.saturating_mul(d.f_frsize)),
        disk_available_bytes: disk
            .as_ref()
            .map_or(0, |d| d.f_bavail.saturating_mul(d.f_frsize)),
        load_hundredths,
    }
}

/// What is wrong with a machine like this, with a message for each.
#[must_use]
pub fn pressures(facts: &Facts) -> Vec<(TargetConditionKind, String)> {
    let mut found = Vec::new();
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    if facts.disk_bytes > 0 && disk_is_low(facts) {
        let (left, all) = (
            mebibytes(facts.disk_available_bytes),
            mebibytes(facts.disk_bytes),
        );
        found.push((
            TargetConditionKind::DiskPressure,
            format!("{left} of {all} MiB are left"),
        ));
    }
    let memory_low = facts.memory_bytes.saturating_mul(MEMORY_LOW_PERCENT) / 100;
    if facts.memory_bytes > 0 && facts.memory_available_bytes < memory_low {
        let (left, all) = (
            mebibytes(facts.memory_available_bytes),
            mebibytes(facts.memory_bytes),
        );
        let message = format!("{left} of {all} MiB are available");
        found.push((TargetConditionKind::MemoryPressure, message));
    }
    let high = facts
        .cores
        .saturating_mul(LOAD_HIGH_PER_CORE)
        .saturating_mul(100);
    if facts.cores > 0 && facts.load_hundredths > high {
        let load = f64::from(facts.load_hundredths) / 100.0;
        let message = format!("a load of {load:.1} on {} cores", facts.cores);
        found.push((TargetConditionKind::LoadHigh, message));
    }
    found
}

/// Whether facts differ enough to be worth a message: another machine, or a tenth of a size.
#[must_use]
pub fn differ(old: &Facts, new: &Facts) -> bool {
    let tenth = |old: u64, new: u64| old.abs_diff(new) > old.max(new) / 10;
    let steady = |facts: &Facts| Facts {
        memory_available_bytes: 0,
        disk_available_bytes: 0,
        load_hundredths: 0,
        ..facts.clone()
    };
    let cores = u64::from(new.cores.max(1));
    let load = u64::from(old.load_hundredths.abs_diff(new.load_hundredths));
    steady(old) != steady(new)
        || tenth(old.memory_available_bytes, new.memory_available_bytes)
        || tenth(old.disk_available_bytes, new.disk_available_bytes)
        || load > cores * 50
}

fn disk_is_low(facts: &Facts) -> bool {
    let share = facts.disk_bytes.saturating_mul(DISK_LOW_PERCENT) / 100;
    // A small disk is not under pressure for being small.
    let least = DISK_LOW_BYTES.min(facts.disk_bytes / 4);
    facts.disk_available_bytes < share.max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roomy() -> Facts {
        Facts {
            cores: 2,
            memory_bytes: 8 << 30,
            memory_available_bytes: 4 << 30,
            disk_bytes: 100 << 30,
            disk_available_bytes: 50 << 30,
            load_hundredths: 120,
            ..Facts::default()
        }
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = sample(Path::new("/"));
        assert!(
            facts.cores > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0,
            "{facts:?}"
        );
        assert!(!facts.os.is_empty() && !facts.kernel.is_empty());
    }

    #[test]
    fn pressure_is_named() {
        assert_eq!(pressures(&roomy()), []);
        let pressed = Facts {
            disk_available_bytes: 1 << 30,
            memory_available_bytes: 100 << 20,
            load_hundredths: 900,
            ..roomy()
        };
        let kinds: Vec<_> = pressures(&pressed)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(
            kinds,
            [
                TargetConditionKind::DiskPressure,
                TargetConditionKind::MemoryPressure,
                TargetConditionKind::LoadHigh
            ]
        );
    }

    #[test]
    fn small_changes_are_not_worth_a_message() {
        assert!(!differ(
            &roomy(),
            &Facts {
                disk_available_bytes: 49 << 30,
                ..roomy()
            }
        ));
        assert!(differ(
            &roomy(),
            &Facts {
                disk_available_bytes: 40 << 30,
                ..roomy()
            }
        ));
        assert!(differ(
            &roomy(),
            &Facts {
                kernel: "7".to_owned(),
                ..roomy()
            }
        ));
        assert!(!differ(
            &roomy(),
            &Facts {
                load_hundredths: 180,
                ..roomy()
            }
        ));
    }
}
