//! Words for people about device files: who may open one, what a refused system call means. No hardware is touched here.

use crate::sample::{Failure, Reason};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The name of group `gid` by `root`'s `/etc/group`, else its number.
///
/// Groups that only a directory service knows stay numbers; the groups of device files are local ones.
fn group_name(root: &Path, gid: u32) -> String {
    let wanted = gid.to_string();
    let known = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    known
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&wanted.as_str()))
        .map_or_else(|| format!("with number {wanted}"), |fields| fields[0].to_owned())
}

/// `permission`, naming the group that owns the file and how to join it.
pub(super) fn permission(root: &Path, file: &Path) -> Failure {
    let Ok(owner) = fs::metadata(file) else {
        return Failure::new(Reason::Permission, format!("{} may not be opened by this user", file.display()));
    };
    let detail = if owner.gid() == 0 || owner.mode() & 0o060 == 0 {
        format!("{} may be opened by root alone; a udev rule must give it to a group", file.display())
    } else {
        let group = group_name(root, owner.gid());
        // A unit's DeviceAllow refuses with the same errno as the kernel does elsewhere.
        format!(
            "{} may be opened by the group {group}: this user is not in it, or the unit's DeviceAllow leaves it out",
            file.display()
        )
    };
    Failure::new(Reason::Permission, detail)
}

/// A refused operation on a file whose errno says nothing special: `permission`, `absent`, `busy`, `timeout`, else `driver`.
pub(super) fn refused(root: &Path, file: &Path, what: &str, error: &io::Error) -> Failure {
    let reason = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => return permission(root, file),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Reason::Absent,
        Some(libc::EBUSY) => Reason::Busy,
        Some(libc::ETIMEDOUT) => Reason::Timeout,
        _ => Reason::Driver,
    };
    Failure::new(reason, format!("{what} on {} failed: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn permission_names_the_group_of_the_file() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("i2c-1");
        fs::write(&file, "").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).expect("a mode");
        let gid = fs::metadata(&file).expect("metadata").gid();
        fs::create_dir(root.path().join("etc")).expect("a folder");
        fs::write(root.path().join("etc/group"), format!("root:x:99999:\ni2c:x:{gid}:pi\n")).expect("a file");
        let failure = permission(root.path(), &file);
        assert_eq!(failure.reason, Reason::Permission);
        // The tests may run as root, whose group is number 0.
        let expected = if gid == 0 { "root alone" } else { "group i2c" };
        assert!(failure.detail.contains(expected), "{failure}");
        assert_eq!(group_name(root.path(), gid), "i2c");
        assert_eq!(group_name(root.path(), 4_000_000), "with number 4000000");
    }
}
