//! What a target says of itself, as labels under `host.`: coarse values only, so that a label changes
//! when the machine does and not with its load.

use holdfast_protocol::name::{LabelKey, LabelValue};
use holdfast_protocol::observed::{Facts, Labels};

/// The labels that follow from facts. A fact that is not known, or that a label cannot hold, gives
/// none.
#[must_use]
pub fn labels(facts: &Facts) -> Labels {
    let gib = |bytes: u64| format!("{}GiB", bytes.div_ceil(1 << 30));
    let values = [
        ("host.os", facts.os.clone()),
        ("host.os-version", facts.os_version.clone()),
        ("host.kernel", facts.kernel.clone()),
        ("host.arch", facts.arch.clone()),
        ("host.name", facts.hostname.clone()),
        ("host.cores", facts.cores.to_string()),
        ("host.memory", gib(facts.memory_bytes)),
        ("host.disk", gib(facts.disk_bytes)),
    ];
    let known = values
        .into_iter()
        .filter(|(_, value)| !value.is_empty() && value != "0");
    known
        .filter_map(|(key, value)| {
            Some((LabelKey::parse(key).ok()?, LabelValue::parse(&value).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_become_labels_and_unknown_ones_do_not() {
        let facts = Facts {
            os: "debian".to_owned(),
            cores: 2,
            memory_bytes: (23 << 30) + 5,
            hostname: "not a label!".to_owned(),
            ..Facts::default()
        };
        let labels = labels(&facts);
        let value = |key: &str| labels.get(key).map(LabelValue::as_str);
        assert_eq!(value("host.os"), Some("debian"));
        assert_eq!(value("host.cores"), Some("2"));
        assert_eq!(value("host.memory"), Some("24GiB"));
        assert_eq!(value("host.arch"), None);
        assert_eq!(value("host.name"), None);
    }
}
