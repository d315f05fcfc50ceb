//! The control socket in the runtime folder: `board2mqtt set` drives an output of the running daemon, under its guard.
//!
//! One request a connection, one line of JSON each way. Only this user and root may connect, whatever the folder and the
//! umask allow.

use super::core::Core;
use crate::command;
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The socket's name in the runtime folder.
pub const FILE_NAME: &str = "control.sock";
/// Longer requests are refused.
const MAX_REQUEST: u64 = 8192;
/// A client that says nothing is dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients served at once; more wait to be accepted.
const CLIENTS: usize = 64;

/// What a client asks: a command for an output, in the words of the command topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The output's name.
    pub output: String,
    /// `ON`, `40`, `{"state":"ON","for":"5s"}`…
    pub command: String,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The command was carried out; the output's state now, where it is known.
    Done {
        /// `ON`, `OFF`, or a percentage.
        state: Option<String>,
    },
    /// The output's limits or its line do not allow it now.
    Refused {
        /// The word of [`command::Refusal::as_str`].
        reason: String,
    },
    /// There is no such output, or it is no command.
    Wrong {
        /// What is allowed.
        detail: String,
    },
}

/// What is said of a name no output has.
pub fn no_such_output<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    match names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => format!("no output is called `{name}`, none is configured"),
        names => format!("no output is called `{name}`, there are {names}"),
    }
}

/// A request on its way to the agent.
pub struct Request {
    ask: Ask,
    answer: oneshot::Sender<Answer>,
}

/// The socket; its file goes with it.
pub struct Listener {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        // Best effort: a file left behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens in `folder`; `None`, with a warning, where that is not possible.
pub fn listen(folder: &Path, requests: mpsc::Sender<Request>) -> Option<Listener> {
    let path = folder.join(FILE_NAME);
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            log::warn!(path:% = path.display(), error:% = error; "no control socket, `board2mqtt set` cannot reach this daemon");
            return None;
        }
    };
    let task = tokio::spawn(accept(listener, requests));
    Some(Listener { path, task })
}

/// Serves one client after the other, and goes on when there was no descriptor left for one.
async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    // Nobody closes the semaphore.
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug!(error:% = error; "control connection not accepted");
                tokio::time::sleep(PATIENCE).await;
                continue;
            }
        };
        let requests = requests.clone();
        tokio::spawn(async move {
            let served = tokio::time::timeout(PATIENCE, serve(stream, requests)).await;
            if !matches!(served, Ok(Ok(()))) {
                log::debug!("control connection ended early");
            }
            drop(place);
        });
    }
}

/// A socket that only this user and root can connect to.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = replace(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes the place of a socket whose process is gone, not of one that lives.
fn replace(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(error.kind(), "another agent listens there"));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

async fn serve(stream: UnixStream, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line).await?;
    let ask = serde_json::from_str::<Ask>(&line)?;
    let (answer, answered) = oneshot::channel();
    requests.send(Request { ask, answer }).await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&answered.await.map_err(io::Error::other)?)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Carries a request out.
pub fn answer(core: &mut Core, request: Request) {
    let answer = run(core, &request.ask).unwrap_or_else(|wrong| wrong);
    // The client may be gone; the command was carried out all the same.
    let _ = request.answer.send(answer);
}

fn run(core: &mut Core, ask: &Ask) -> Result<Answer, Answer> {
    let outputs = &core.plan().outputs;
    let names = || outputs.iter().map(|output| output.spec.name.as_str());
    let index = names().position(|name| name == ask.output);
    let index = index.ok_or_else(|| Answer::Wrong { detail: no_such_output(&ask.output, names()) })?;
    let pwm = outputs[index].spec.drive.is_pwm();
    let command = command::parse(ask.command.as_bytes(), pwm);
    let command = command.map_err(|malformed| Answer::Wrong { detail: malformed.to_string() })?;
    let refused = |refusal: command::Refusal| Answer::Refused { reason: refusal.as_str().to_owned() };
    let level = core.command(index, &command).map_err(refused)?;
    Ok(Answer::Done { state: level.map(|level| command::state_text(level, pwm).into_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    #[tokio::test]
    async fn only_its_user_may_connect_and_silent_clients_do_not_pile_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE_NAME);
        let (sender, mut requests) = mpsc::channel(8);
        let listener = listen(folder.path(), sender).expect("a socket");
        let file = std::fs::metadata(&path).expect("its file");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);

        let mut silent = Vec::new();
        for _ in 0..CLIENTS {
            silent.push(UnixStream::connect(&path).await.expect("a connection"));
        }
        let mut late = UnixStream::connect(&path).await.expect("a place in the queue");
        let ask = Ask { output: "lamp".into(), command: "ON".into() };
        let line = format!("{}\n", serde_json::to_string(&ask).expect("JSON"));
        late.write_all(line.as_bytes()).await.expect("written");
        let early = tokio::time::timeout(Duration::from_millis(50), requests.recv()).await;
        assert!(early.is_err(), "all places are taken");
        silent.clear();
        let request = tokio::time::timeout(Duration::from_secs(10), requests.recv()).await.expect("a place is free");
        assert_eq!(request.expect("a request").ask, ask);
        drop(listener);
        assert!(!path.exists());
    }
}
