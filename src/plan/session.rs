//! The session's options: server, files, login. Secrets are read here, once, and shown nowhere.

use super::report::Report;
use super::templates::{Fields, Templates};
use crate::config::{Config, Diagnostic, Located, Secret, ServerUrl};
use crate::mqtt::{Login, Options, Server, TlsFiles};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why there is no session. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file of a password could not be read.
    #[error("the password file {} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An environment variable is not set, or not UTF-8.
    #[error("the password's environment variable `{0}` is not set to UTF-8 text")]
    Variable(String),
    /// There are no credentials, as the agent was not started by a unit with `LoadCredential=`.
    #[error("the credential `{0}` needs `LoadCredential=` in the systemd unit, `$CREDENTIALS_DIRECTORY` is not set")]
    NoCredentials(String),
    /// A credential's name is no plain file name.
    #[error("`{0}` is no name of a credential")]
    CredentialName(String),
    /// Nothing is in it.
    #[error("the password is empty")]
    Empty,
    /// The configuration has faults that [`super::build`] tells.
    #[error("the status topic is faulty, `board2mqtt check` tells why")]
    Status,
}

impl PlanError {
    /// As a fault of the configuration, at the key, with the remedy.
    pub fn diagnostic(&self, config: &Config) -> Diagnostic {
        let (key, origin) = match (self, &config.mqtt.password) {
            (Self::Status, _) => ("`status` in [topics]", &config.topics.status.origin),
            (_, Some(password)) => ("`password` in [mqtt]", &password.origin),
            (_, None) => ("[mqtt]", &config.mqtt.server.origin),
        };
        let why = std::error::Error::source(self).map(|why| format!(": {why}")).unwrap_or_default();
        Diagnostic::fault(origin, format!("{key} is unusable: {self}{why}")).help(self.remedy())
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::File { .. } => "put the password on its first line, and let the user of `run` read it",
            Self::Variable(_) => "set the variable for `run`, in a unit with `EnvironmentFile=`",
            Self::NoCredentials(_) => "add `LoadCredential=` to the unit, or write password = { file = \"…\" }",
            Self::CredentialName(_) => "a credential is named as in `LoadCredential=`, without a folder",
            Self::Empty => "write the password where this key says, or remove `password`",
            Self::Status => "a topic is a path such as `sensors/drone01/status`",
        }
    }
}

/// The options of the session; reads the password.
///
/// # Errors
/// [`PlanError`].
pub fn session(config: &Config) -> Result<Options, PlanError> {
    let mut report = Report::default();
    let templates = Templates::new(config, &mut report);
    let status_topic = templates.render(&templates.status, &Fields::default(), &mut report).ok_or(PlanError::Status)?;
    let mqtt = &config.mqtt;
    let path = |file: &Option<Located<PathBuf>>| file.as_ref().map(|file| file.value.clone());
    Ok(Options {
        server: match &mqtt.server.value {
            ServerUrl::Mqtt(host, port) => Server::Tcp { host: host.clone(), port: *port },
            ServerUrl::Mqtts(host, port) => Server::Tls { host: host.clone(), port: *port },
            ServerUrl::Unix(path) => Server::Unix(path.clone()),
        },
        tls: TlsFiles { ca: path(&mqtt.ca), cert: path(&mqtt.cert), key: path(&mqtt.key) },
        client_id: mqtt.client_id.value.clone(),
        login: login(config, &|name| std::env::var_os(name))?,
        keep_alive: mqtt.keep_alive,
        clean_session: mqtt.clean_session,
        status_topic,
        reconnect_min: mqtt.reconnect_min,
        reconnect_max: mqtt.reconnect_max,
    })
}

fn login(config: &Config, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Login>, PlanError> {
    let Some(username) = &config.mqtt.username else { return Ok(None) };
    let password = match &config.mqtt.password {
        Some(secret) => Some(reveal(secret, variable)?),
        None => None,
    };
    Ok(Some(Login { username: username.value.clone(), password }))
}

fn reveal(secret: &Secret, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<String, PlanError> {
    let text = match secret {
        Secret::Text(text) => text.clone(),
        Secret::Env(name) => {
            let value = variable(name).and_then(|value| value.into_string().ok());
            value.ok_or_else(|| PlanError::Variable(name.clone()))?
        }
        Secret::File(path) => {
            warn_if_public(path);
            first_line(path)?
        }
        Secret::Credential(name) => {
            if name.is_empty() || name.contains('/') || matches!(name.as_str(), "." | "..") {
                return Err(PlanError::CredentialName(name.clone()));
            }
            let folder = variable("CREDENTIALS_DIRECTORY").ok_or_else(|| PlanError::NoCredentials(name.clone()))?;
            first_line(&Path::new(&folder).join(name))?
        }
    };
    if text.is_empty() { Err(PlanError::Empty) } else { Ok(text) }
}

/// The first line without its end, as editors add one.
fn first_line(path: &Path) -> Result<String, PlanError> {
    let text = std::fs::read_to_string(path).map_err(|source| PlanError::File { path: path.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn warn_if_public(path: &Path) {
    const OTHERS_MAY_READ: u32 = 0o004;
    if std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS_MAY_READ != 0) {
        log::warn!(path:% = path.display(), remedy = "chmod o-r"; "password file is readable by everyone");
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn revealed(secret: &Secret, folder: &Path) -> Result<String, PlanError> {
        let directory = folder.as_os_str().to_owned();
        reveal(secret, &|name| match name {
            "B2M_PASSWORD" => Some("from the environment".into()),
            "CREDENTIALS_DIRECTORY" => Some(directory.clone()),
            _ => None,
        })
    }

    #[test]
    fn passwords_come_from_four_places() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("password"), "s3cret \r\nsecond line\n").expect("written");
        for (secret, expected) in [
            (Secret::Text("text".into()), "text"),
            (Secret::File(folder.path().join("password")), "s3cret "),
            (Secret::Env("B2M_PASSWORD".into()), "from the environment"),
            (Secret::Credential("password".into()), "s3cret "),
        ] {
            assert_eq!(revealed(&secret, folder.path()).expect("a password"), expected);
        }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("empty"), "\nsecond").expect("written");
        for (secret, expected) in [
            (Secret::File(folder.path().join("none")), "cannot be read"),
            (Secret::File(folder.path().join("empty")), "the password is empty"),
            (Secret::Env("NONE".into()), "`NONE` is not set"),
            (Secret::Credential("../password".into()), "is no name of a credential"),
            (Secret::Text(String::new()), "the password is empty"),
        ] {
            let error = revealed(&secret, folder.path()).expect_err("refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let bare = reveal(&Secret::Credential("x".into()), &|_| None).expect_err("no systemd");
        assert!(bare.to_string().contains("LoadCredential="));
    }

    #[test]
    fn options_are_the_configurations() {
        let mut config = fixture::config();
        config.mqtt.username = Some(fixture::located("pi"));
        config.mqtt.password = Some(fixture::at(Secret::Text("s3cret".into()), 0));
        let options = session(&config).expect("options");
        assert_eq!(options.server, Server::Tcp { host: "localhost".into(), port: 1883 });
        assert_eq!(options.status_topic, "board2mqtt/drone01/status");
        assert_eq!(options.login, Some(Login { username: "pi".into(), password: Some("s3cret".into()) }));
        assert!(!format!("{options:?}").contains("s3cret"));
        config.topics.status = fixture::located("{x}");
        assert!(matches!(session(&config), Err(PlanError::Status)));
    }
}
