//! Words for people about device files: who may open one, what a refused system call means. No hardware is touched here.

use crate::sample::{Failure, Reason};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The name that a table such as `/etc/group` or `/etc/passwd` under `root` has for a number, else the number.
///
/// Users and groups that only a directory service knows stay numbers; those of device files and daemons are local ones.
fn name_of(root: &Path, table: &str, number: u32) -> String {
    let wanted = number.to_string();
    let known = fs::read_to_string(root.join(table)).unwrap_or_default();
    known
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&wanted.as_str()))
        .map_or_else(|| format!("number {wanted}"), |fields| fields[0].to_owned())
}

/// Who was refused.
struct Asker {
    name: String,
    root: bool,
    groups: Vec<u32>,
}

impl Asker {
    /// This process, by the names of `root`'s `/etc/passwd`.
    fn this(root: &Path) -> Self {
        let mut groups = [0; 64];
        let room = libc::c_int::try_from(groups.len()).expect("64 is a number");
        // SAFETY: `groups` has room for as many as are asked for; the other two calls take and give plain numbers.
        let (count, user, group) =
            unsafe { (libc::getgroups(room, groups.as_mut_ptr()), libc::geteuid(), libc::getegid()) };
        let known = &groups[..usize::try_from(count).unwrap_or(0)];
        let groups = known.iter().copied().chain([group]).collect();
        Self { name: name_of(root, "etc/passwd", user), root: user == 0, groups }
    }
}

/// `permission`, naming the group that owns the file and how to join it.
pub(super) fn permission(root: &Path, file: &Path) -> Failure {
    let detail = match fs::metadata(file) {
        Ok(owner) => {
            let group = name_of(root, "etc/group", owner.gid());
            forbidden(file, owner.gid(), owner.mode(), &group, &Asker::this(root))
        }
        Err(_) => format!("{} may not be opened by this user", file.display()),
    };
    Failure::new(Reason::Permission, detail)
}

/// Why `asker` may not open a file of that group and mode, and what to do.
fn forbidden(file: &Path, gid: u32, mode: u32, group: &str, asker: &Asker) -> String {
    let (file, user) = (file.display(), &asker.name);
    // Everything opened here is written to; a PWM chip's `export` is for writing alone.
    let group_may = mode & 0o020 != 0;
    if asker.root || (group_may && asker.groups.contains(&gid)) {
        // A unit's device policy refuses with the same errno as a file's mode does elsewhere.
        return format!("{file} is kept from this process: the unit's DeviceAllow, or the container, leaves it out");
    }
    if gid == 0 || !group_may {
        return format!("{file} may be opened by root alone: install 60-board2mqtt.rules, which gives it to a group");
    }
    format!(
        "{file} may be opened by the group {group}, which {user} is not in: sudo usermod -aG {group} {user}, then log \
         in again or restart the service"
    )
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

    fn told(gid: u32, mode: u32, asker: &Asker) -> String {
        forbidden(Path::new("/dev/i2c-1"), gid, mode, "i2c", asker)
    }

    #[test]
    fn whoever_is_not_in_the_group_is_told_how_to_join_it() {
        let asker = Asker { name: "board2mqtt".into(), root: false, groups: vec![997, 996] };
        assert_eq!(
            told(994, 0o20_660, &asker),
            "/dev/i2c-1 may be opened by the group i2c, which board2mqtt is not in: sudo usermod -aG i2c board2mqtt, \
             then log in again or restart the service"
        );
        assert!(told(994, 0o220, &asker).contains("sudo usermod -aG i2c board2mqtt"));
        for (gid, mode) in [(0, 0o660), (994, 0o600), (994, 0o640)] {
            assert!(told(gid, mode, &asker).contains("install 60-board2mqtt.rules"), "{gid} {mode:o}");
        }
    }

    #[test]
    fn whoever_could_open_the_file_is_kept_out_by_something_else() {
        let member = Asker { name: "board2mqtt".into(), root: false, groups: vec![994] };
        let root = Asker { name: "root".into(), root: true, groups: vec![0] };
        for asker in [member, root] {
            assert!(told(994, 0o660, &asker).contains("DeviceAllow"), "{}", asker.name);
        }
    }

    #[test]
    fn numbers_have_names_where_the_tables_know_them() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("etc")).expect("a folder");
        fs::write(root.path().join("etc/group"), "root:x:0:\ni2c:x:994:pi\n").expect("a file");
        assert_eq!(name_of(root.path(), "etc/group", 994), "i2c");
        assert_eq!(name_of(root.path(), "etc/group", 4_000_000), "number 4000000");
        assert_eq!(name_of(root.path(), "etc/passwd", 0), "number 0");
    }

    #[test]
    fn a_refusal_of_a_file_is_a_question_of_permission() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("i2c-1");
        let refused = |errno| refused(root.path(), &file, "opening", &io::Error::from_raw_os_error(errno)).reason;
        assert_eq!([refused(libc::EACCES), refused(libc::EPERM)], [Reason::Permission; 2]);
        assert_eq!(refused(libc::ENOENT), Reason::Absent);
        fs::write(&file, "").expect("a file");
        assert_eq!(refused(libc::EACCES), Reason::Permission);
    }
}
