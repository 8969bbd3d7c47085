//! What systemd's signals say to this adapter. Decides nothing else and touches nothing.

use holdfast_protocol::name::ServiceName;
use zbus::OwnedObjectPath;
use zbus::message::Message;

use crate::systemd::unit::PREFIX;

/// A job that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobEnd {
    /// The job's path on the bus.
    pub(super) job: String,
    /// systemd's word: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
    pub(super) result: String,
}

/// What one signal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A job of a workload is over.
    Job(JobEnd, ServiceName),
    /// Something about one workload changed.
    One(ServiceName),
    /// Something about any of them may have changed.
    Any,
    /// Nothing that concerns a workload.
    Nothing,
}

/// Reads one signal.
pub(super) fn hear(message: &Message) -> Heard {
    let header = message.header();
    let member = header.member().map(|member| member.as_str());
    let path = header.path().map(|path| path.as_str());
    let body = message.body();
    match member.unwrap_or_default() {
        "PropertiesChanged" => path.and_then(of_path).map_or(Heard::Nothing, Heard::One),
        "UnitRemoved" => {
            let unit = body.deserialize::<(String, OwnedObjectPath)>();
            let service = unit.ok().and_then(|(unit, _)| of_unit(&unit));
            service.map_or(Heard::Nothing, Heard::One)
        }
        "JobRemoved" => {
            let end = body.deserialize::<(u32, OwnedObjectPath, String, String)>();
            end.map_or(Heard::Nothing, |(_, job, unit, result)| {
                let end = JobEnd {
                    job: job.to_string(),
                    result,
                };
                of_unit(&unit).map_or(Heard::Nothing, |service| Heard::Job(end, service))
            })
        }
        // False is said at the end of one.
        "Reloading" if body.deserialize::<bool>() == Ok(false) => Heard::Any,
        "UnitFilesChanged" => Heard::Any,
        _ => Heard::Nothing,
    }
}

/// The workload of a unit's name.
pub(super) fn of_unit(unit: &str) -> Option<ServiceName> {
    let name = unit.strip_prefix(PREFIX)?;
    let name = name
        .strip_suffix(".service")
        .or_else(|| name.strip_suffix(".timer"))?;
    ServiceName::parse(name).ok()
}

/// The workload of a unit's path on the bus, where each byte that is no letter or digit is written
/// as `_` and two hexadecimal digits.
fn of_path(path: &str) -> Option<ServiceName> {
    let label = path.strip_prefix("/org/freedesktop/systemd1/unit/")?;
    of_unit(&label.replace("_2d", "-").replace("_2e", "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Option<ServiceName> {
        Some(ServiceName::parse(text).unwrap())
    }

    #[test]
    fn a_workload_is_known_by_its_unit_and_by_its_path() {
        assert_eq!(of_unit("holdfast-web-2.service"), name("web-2"));
        assert_eq!(of_unit("holdfast-web.timer"), name("web"));
        assert_eq!(of_unit("holdfast-web.socket"), None);
        assert_eq!(of_unit("ssh.service"), None);
        let path = "/org/freedesktop/systemd1/unit/holdfast_2dweb_2d2_2eservice";
        assert_eq!(of_path(path), name("web-2"));
        assert_eq!(
            of_path("/org/freedesktop/systemd1/unit/ssh_2eservice"),
            None
        );
    }

    #[test]
    fn signals_are_told_apart() {
        let (root, calls) = (
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        );
        let signal = |member: &'static str| Message::signal(root, calls, member);
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let removed = signal("JobRemoved")
            .build(&(7u32, &job, "holdfast-web.service", "done"))
            .unwrap();
        let end = JobEnd {
            job: job.to_string(),
            result: "done".to_owned(),
        };
        assert_eq!(hear(&removed), Heard::Job(end, name("web").unwrap()));
        assert_eq!(
            hear(&signal("Reloading").build(&true).unwrap()),
            Heard::Nothing
        );
        assert_eq!(
            hear(&signal("Reloading").build(&false).unwrap()),
            Heard::Any
        );
        let foreign = signal("UnitRemoved").build(&("ssh.service", &job)).unwrap();
        assert_eq!(hear(&foreign), Heard::Nothing);
        // What is not as systemd says it is no reason to fall over.
        assert_eq!(
            hear(&signal("JobRemoved").build(&"x").unwrap()),
            Heard::Nothing
        );
    }
}
