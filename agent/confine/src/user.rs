//! The user that programs of checks run as, from `/etc/passwd`. Directories on the network are not
//! asked: a check must be answered while they are away.

use std::fs;

/// A user without rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, or the number where there is none.
    pub name: String,
    /// The number; never 0.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// The user that exists nearly everywhere and owns nothing.
pub const NOBODY: &str = "nobody";

/// Whom a caller's programs run as: `wanted`, or [`NOBODY`] for the superuser, or the caller itself
/// (none) where it has no right to be anybody else.
///
/// # Errors
/// In words, with what to do: the user does not exist, is the superuser, or cannot be become.
pub fn chosen(wanted: Option<&str>) -> Result<Option<User>, String> {
    let own = rustix::process::geteuid();
    if wanted.is_none() && !own.is_root() {
        return Ok(None);
    }
    let name = wanted.unwrap_or(NOBODY);
    let passwd = fs::read("/etc/passwd").map_err(|e| format!("cannot read /etc/passwd: {e}"))?;
    let user = find(name, &String::from_utf8_lossy(&passwd))
        .ok_or_else(|| format!("there is no user {name:?} here; set checks.user to one that is"))?;
    if user.uid == 0 {
        return Err("checks never run as root; set checks.user to another user".to_owned());
    }
    if user.uid == own.as_raw() {
        return Ok(None);
    }
    if own.is_root() {
        Ok(Some(user))
    } else {
        Err(format!(
            "cannot become user {name}: this program does not run as root; leave out checks.user"
        ))
    }
}

/// Whom a plugin runs as: the same, but for the superuser, whom whoever administers this machine may
/// name. `key` is where that is said, for messages.
///
/// # Errors
/// In words, with what to do: the user does not exist, or cannot be become.
pub fn administered(wanted: Option<&str>, key: &str) -> Result<Option<User>, String> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && matches!(wanted, Some("root" | "0")) {
        return Ok(None);
    }
    chosen(wanted).map_err(|why| why.replace("checks.user", key))
}

/// passwd(5). A number without an entry is a user without a name, in the group of the same number.
fn find(wanted: &str, passwd: &str) -> Option<User> {
    let number: Option<u32> = wanted.parse().ok();
    let known = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (*name == wanted || number == Some(uid)).then(|| User {
            name: (*name).to_owned(),
            uid,
            gid,
        })
    });
    known.or_else(|| {
        number.map(|uid| User {
            name: wanted.to_owned(),
            uid,
            gid: uid,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nweb:x:1001:1002:,,,:/srv/web:/bin/sh\n";
        let web = find("web", passwd).unwrap();
        assert_eq!((web.uid, web.gid), (1001, 1002));
        assert_eq!(find("1001", passwd), Some(web));
        assert_eq!(find("ghost", passwd), None);
        assert_eq!(find("4242", passwd).unwrap().gid, 4242);
    }

    #[test]
    fn the_superuser_is_refused_by_name_and_by_number() {
        for root in ["root", "0"] {
            assert!(
                chosen(Some(root))
                    .unwrap_err()
                    .contains("never run as root")
            );
        }
        assert!(
            chosen(Some("no-such-user"))
                .unwrap_err()
                .contains("checks.user")
        );
    }
}
