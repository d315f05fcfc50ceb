//! What systemd hands to a service as files: its folders and its credentials (systemd.exec(5)).
//!
//! It creates nothing. Invariant: a credential's name never leads out of its folder.

use super::{Environment, process_environment};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::PathBuf;

/// The longest credential in bytes: MQTT gives a password's length in 16 bits.
const MAX_CREDENTIAL: u64 = 65_535;

/// The folder of `StateDirectory=`, the first where there are several; `None` outside such a unit.
pub fn state_directory() -> Option<PathBuf> {
    first_directory(&process_environment, "STATE_DIRECTORY")
}

/// The folder of `RuntimeDirectory=`, the first where there are several; `None` outside such a unit.
pub fn runtime_directory() -> Option<PathBuf> {
    first_directory(&process_environment, "RUNTIME_DIRECTORY")
}

/// The first line of the credential that `LoadCredential=` or `SetCredential=` gives the unit under `name`.
///
/// Fails where the unit has no such credential, where the name is not one, or where it is not UTF-8 of at most
/// 65,535 bytes; no error shows its content.
pub fn credential(name: &str) -> Result<String> {
    read_credential(&process_environment, name)
}

fn first_directory(environment: Environment<'_>, variable: &str) -> Option<PathBuf> {
    let folders = environment(variable)?;
    std::env::split_paths(&folders).find(|folder| folder.is_absolute())
}

fn read_credential(environment: Environment<'_>, name: &str) -> Result<String> {
    let fault = |kind, what: &str| Error::new(kind, format!("credential `{}`: {what}", name.escape_debug()));
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(fault(ErrorKind::InvalidInput, "not a name, allowed is a file name without `/`"));
    }
    let Some(folder) = environment("CREDENTIALS_DIRECTORY") else {
        let what = "systemd has given this process none, the unit needs LoadCredential=";
        return Err(fault(ErrorKind::NotFound, what));
    };
    let file = File::open(PathBuf::from(folder).join(name)).map_err(|error| fault(error.kind(), &error.to_string()))?;
    let mut text = String::new();
    let read = file.take(MAX_CREDENTIAL + 1).read_to_string(&mut text);
    // The text itself is left out: it may be half of a secret.
    read.map_err(|error| fault(error.kind(), &error.to_string()))?;
    if text.len() as u64 > MAX_CREDENTIAL {
        return Err(fault(ErrorKind::InvalidData, "more than 65535 bytes"));
    }
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::path::Path;

    fn only(name: &'static str, value: &Path) -> impl Fn(&str) -> Option<OsString> {
        let value = value.as_os_str().to_owned();
        move |asked| (asked == name).then(|| value.clone())
    }

    #[test]
    fn the_first_of_several_folders_counts() {
        let two = only("STATE_DIRECTORY", Path::new("/var/lib/board2mqtt:/var/lib/other"));
        assert_eq!(first_directory(&two, "STATE_DIRECTORY"), Some(PathBuf::from("/var/lib/board2mqtt")));
        assert_eq!(first_directory(&two, "RUNTIME_DIRECTORY"), None);
        assert_eq!(first_directory(&only("STATE_DIRECTORY", Path::new("")), "STATE_DIRECTORY"), None);
    }

    #[test]
    fn a_credential_is_its_first_line() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("mqtt"), "s3cret word\r\nrest\n").expect("written");
        std::fs::write(folder.path().join("empty"), "").expect("written");
        let environment = only("CREDENTIALS_DIRECTORY", folder.path());
        assert_eq!(read_credential(&environment, "mqtt").expect("read"), "s3cret word");
        assert_eq!(read_credential(&environment, "empty").expect("read"), "");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        std::fs::write(folder.path().join("outside"), "x").expect("written");
        for name in ["", ".", "..", "../outside", "/etc/hostname", "a\0b"] {
            let error = read_credential(&only("CREDENTIALS_DIRECTORY", &inner), name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
        }
    }

    #[test]
    fn refusals_say_what_is_missing_and_never_the_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let environment = only("CREDENTIALS_DIRECTORY", folder.path());
        let none = read_credential(&|_| None, "mqtt").expect_err("no systemd");
        assert!(none.to_string().contains("LoadCredential="), "{none}");
        let absent = read_credential(&environment, "mqtt").expect_err("no file");
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        assert!(absent.to_string().starts_with("credential `mqtt`: "), "{absent}");
        for (name, content) in [("long", vec![b'x'; 65_536]), ("binary", b"hunter2\xff".to_vec())] {
            std::fs::write(folder.path().join(name), content).expect("written");
            let error = read_credential(&environment, name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("xxx"), "{error}");
        }
    }
}
