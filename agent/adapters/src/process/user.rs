//! The user that a workload runs as, from `/etc/passwd` and `/etc/group`. Directories on the
//! network are not asked: a workload must start while the network is away.

use std::fs;

use crate::failure::Failure;
use crate::process::launch::User;

/// Looks a user up by name or number.
pub(crate) fn find(wanted: &str) -> Result<Option<User>, Failure> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    let found = parse(wanted, &passwd, &group)
        .ok_or_else(|| Failure::Permanent(format!("there is no user {wanted:?} on this target")))?;
    let own = rustix::process::geteuid();
    if own.as_raw() == found.uid {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(Failure::Permanent(format!(
            "cannot become user {wanted}: the agent does not run as root"
        )));
    }
    Ok(Some(found))
}

fn read(path: &str) -> Result<String, Failure> {
    let bytes =
        fs::read(path).map_err(|e| Failure::Retryable(format!("cannot read {path}: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// passwd(5) and group(5). A number without an entry is a user without a name, in the group of the
/// same number.
fn parse(wanted: &str, passwd: &str, group: &str) -> Option<User> {
    let number: Option<u32> = wanted.parse().ok();
    let known = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        let same = *name == wanted || number == Some(uid);
        let user = || User {
            name: (*name).to_owned(),
            home: (*home).to_owned(),
            uid,
            gid,
            groups: groups_of(name, gid, group),
        };
        same.then(user)
    });
    let nameless = |uid| User {
        name: wanted.to_owned(),
        home: "/".to_owned(),
        uid,
        gid: uid,
        groups: vec![uid],
    };
    known.or_else(|| number.map(nameless))
}

fn groups_of(user: &str, own: u32, group: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields.as_slice() else {
            return None;
        };
        members
            .split(',')
            .any(|m| m == user)
            .then(|| gid.parse().ok())
            .flatten()
    };
    let mut groups: Vec<u32> = group.lines().filter_map(member).collect();
    if !groups.contains(&own) {
        groups.insert(0, own);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nweb:x:1001:1002:,,,:/srv/web:/bin/sh\n";
        let group = "root:x:0:\nweb:x:1002:\nssl:x:110:mail,web\n";
        let web = parse("web", passwd, group).unwrap();
        assert_eq!(
            (web.uid, web.gid, web.home.as_str()),
            (1001, 1002, "/srv/web")
        );
        assert_eq!(web.groups, [1002, 110]);
        assert_eq!(parse("1001", passwd, group), Some(web));
        assert_eq!(parse("nobody-here", passwd, group), None);
        assert_eq!(parse("4242", passwd, group).unwrap().groups, [4242]);
    }
}
