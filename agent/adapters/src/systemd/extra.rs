//! Directives of a unit that a template may set beside its fields, by an allow-list. Pure.
//!
//! What the adapter itself decides by (what is run, when it is started again, how it is stopped) is
//! a field of the template and refused here; so is what would make it another kind of service.

use serde_json::Value;

use crate::fields::{Fields, Reading, join, kind, unknown};

/// Directives in the order in which they are written, by section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// Of section `Unit`.
    pub unit: Vec<(String, String)>,
    /// Of section `Service`.
    pub service: Vec<(String, String)>,
}

/// Longest value in bytes.
const VALUE_MAX_BYTES: usize = 4096;
/// Most values of one directive.
const VALUES_MAX: usize = 64;

const UNIT: &[&str] = &[
    "After",
    "Before",
    "BindsTo",
    "Documentation",
    "Requires",
    "RequiresMountsFor",
    "Wants",
];

const SERVICE: &[&str] = &[
    "AmbientCapabilities",
    "BindPaths",
    "BindReadOnlyPaths",
    "CPUAffinity",
    "CPUSchedulingPolicy",
    "CPUSchedulingPriority",
    "CPUWeight",
    "CacheDirectory",
    "CacheDirectoryMode",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "DevicePolicy",
    "Group",
    "IOSchedulingClass",
    "IOSchedulingPriority",
    "IOWeight",
    "IPAddressAllow",
    "IPAddressDeny",
    "InaccessiblePaths",
    "KillMode",
    "LimitAS",
    "LimitCORE",
    "LimitCPU",
    "LimitDATA",
    "LimitFSIZE",
    "LimitMEMLOCK",
    "LimitNICE",
    "LimitNPROC",
    "LimitRTPRIO",
    "LimitSTACK",
    "LockPersonality",
    "LogRateLimitBurst",
    "LogRateLimitIntervalSec",
    "LogsDirectory",
    "LogsDirectoryMode",
    "MemoryDenyWriteExecute",
    "MemoryHigh",
    "MemoryLow",
    "MemorySwapMax",
    "Nice",
    "NoNewPrivileges",
    "NotifyAccess",
    "OOMPolicy",
    "OOMScoreAdjust",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "Slice",
    "SuccessExitStatus",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "TasksMax",
    "TemporaryFileSystem",
    "TimeoutStartSec",
    "Type",
    "UMask",
    "WatchdogSec",
];

/// Directives that a field of the template stands for.
const FIELDS: &[(&str, &str)] = &[
    ("CPUQuota", "limits.cpu"),
    ("DynamicUser", "user"),
    ("Environment", "environment"),
    ("EnvironmentFile", "environment"),
    ("ExecReload", "reload.command"),
    ("ExecStart", "command"),
    ("FinalKillSignal", "stop.signal"),
    ("KillSignal", "stop.signal"),
    ("LimitNOFILE", "limits.openFiles"),
    ("MemoryMax", "limits.memory"),
    ("Restart", "restart.policy"),
    ("RestartSec", "restart.backoff.initial"),
    ("TimeoutSec", "stop.grace"),
    ("TimeoutStopSec", "stop.grace"),
    ("User", "user"),
    ("WorkingDirectory", "workingDirectory"),
];

/// Reads the field `unit`. A scheduled workload has no type of its own to choose.
pub(super) fn read(reading: &Reading<'_>, fields: &Fields<'_>, scheduled: bool) -> Extra {
    let Some(sections) = fields.object("unit", &["Unit", "Service"]) else {
        return Extra::default();
    };
    let section = |name: &str, known: &[&str]| {
        sections.value(name).map_or_else(Vec::new, |value| {
            read_section(reading, &sections.at(name), value, known)
        })
    };
    let extra = Extra {
        unit: section("Unit", UNIT),
        service: section("Service", SERVICE),
    };
    for (name, value) in &extra.service {
        if let Err(message) =
            reading.unless_open(value, |value| check_meaning(name, value, scheduled))
        {
            reading.problem(format!("unit.Service.{name}"), message);
        }
    }
    extra
}

fn read_section(
    reading: &Reading<'_>,
    path: &str,
    value: &Value,
    known: &[&str],
) -> Vec<(String, String)> {
    let Value::Object(map) = value else {
        reading.problem(path, format!("expected an object, found {}", kind(value)));
        return Vec::new();
    };
    let mut directives = Vec::new();
    for (name, value) in map {
        let place = join(path, name);
        if known.contains(&name.as_str()) {
            let values = read_values(reading, &place, value);
            directives.extend(values.into_iter().map(|value| (name.clone(), value)));
        } else {
            reading.problem(place, refused(name, known));
        }
    }
    directives
}

fn refused(name: &str, known: &[&str]) -> String {
    let field = FIELDS.iter().find(|(directive, _)| *directive == name);
    if let Some((_, field)) = field {
        return format!("is set by the template's field {field}");
    }
    if name.starts_with("Exec") {
        return "a workload runs its command alone; put more steps into a program".to_owned();
    }
    match unknown(name, known) {
        near if near.contains("did you mean") => near,
        _ => "is not a directive that a workload may set; docs/adapters.md lists them".to_owned(),
    }
}

fn read_values(reading: &Reading<'_>, path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) if items.len() > VALUES_MAX => {
            reading.problem(path, format!("holds more than {VALUES_MAX} values"));
            Vec::new()
        }
        Value::Array(items) => {
            let place = |i: usize| format!("{path}[{i}]");
            let read = |(i, item)| read_value(reading, &place(i), item);
            items.iter().enumerate().filter_map(read).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            read_value(reading, path, value).into_iter().collect()
        }
    }
}

fn read_value(reading: &Reading<'_>, path: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            reading.problem(path, format!("expected text, found {}", kind(value)));
            return None;
        }
    };
    match reading.unless_open(&text, check_value) {
        Ok(()) => Some(text),
        Err(message) => {
            reading.problem(path, message);
            None
        }
    }
}

/// Refuses what would not stay within its line, or would mean something else than it says.
pub(super) fn check_value(text: &str) -> Result<(), String> {
    if text.len() > VALUE_MAX_BYTES {
        return Err(format!("is longer than {VALUE_MAX_BYTES} bytes"));
    }
    if text.contains(char::is_control) || text.contains('\\') {
        return Err("may not hold line breaks, control characters or backslashes".to_owned());
    }
    // systemd puts names of its own for %x; a share such as 50% is plain.
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let share = before.is_some_and(|b: char| b.is_ascii_digit())
            && rest.peek().is_none_or(|next| *next == ' ');
        if c == '%' && !share {
            return Err("may hold % only after a number, as in 50%".to_owned());
        }
        before = Some(c);
    }
    Ok(())
}

fn check_meaning(name: &str, value: &str, scheduled: bool) -> Result<(), String> {
    let one_of = |known: &[&str]| {
        if known.contains(&value) {
            return Ok(());
        }
        Err(format!("{value:?} is not {}", known.join(" or ")))
    };
    match name {
        "Type" if scheduled => Err("a scheduled workload runs to its end".to_owned()),
        "Type" => one_of(&["exec", "notify", "simple"]),
        "KillMode" => one_of(&["control-group", "mixed"]),
        "MemoryHigh" | "MemoryLow" | "MemorySwapMax" if !value.ends_with('%') => {
            super::spec::check_size(value)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_hold_no_directive_twice() {
        for list in [UNIT, SERVICE] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
        for (managed, _) in FIELDS {
            assert!(!SERVICE.contains(managed), "{managed}");
        }
    }

    #[test]
    fn a_value_stays_within_its_line() {
        for good in [
            "",
            "50%",
            "10% 20%",
            "AF_INET AF_UNIX",
            "~@mount",
            "/srv/data:/data:rbind",
        ] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in [
            "a\nExecStart=/bin/sh",
            "a\r",
            "a\u{1b}[1m",
            "a\\",
            "%h",
            "%%",
            "5%h",
            "%",
        ] {
            assert!(check_value(bad).is_err(), "{bad:?}");
        }
    }
}
