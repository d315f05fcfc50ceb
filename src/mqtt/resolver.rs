//! Names to addresses by the system's resolver, which may hang for minutes and cannot be told to stop.
//!
//! So it is asked on a thread of its own, which neither the main thread nor the end of the runtime waits for. Invariant: one
//! question is out at a time. An attempt that gave up leaves it to the next, since another question would hang as well and
//! each would keep a thread.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::sync::{Mutex, oneshot};

type Answer = io::Result<Vec<SocketAddr>>;

/// Who is asked.
type Ask = fn(&str, u16) -> Answer;

/// The resolver of one session.
pub(super) struct Resolver {
    ask: Ask,
    question: Mutex<Option<Question>>,
}

/// What was asked and is not answered yet.
struct Question {
    host: String,
    port: u16,
    answer: oneshot::Receiver<Answer>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::asking(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }
}

impl Resolver {
    fn asking(ask: Ask) -> Self {
        Self { ask, question: Mutex::default() }
    }

    /// The addresses of `host`. Dropping it leaves the question open for the next one who asks the same.
    ///
    /// # Errors
    /// The resolver's own; or there is no thread left to ask on.
    pub async fn addresses(&self, host: &str, port: u16) -> Answer {
        let mut open = self.question.lock().await;
        let same = open.take().filter(|question| (question.host.as_str(), question.port) == (host, port));
        let question = open.insert(match same {
            Some(question) => question,
            None => self.question(host.to_owned(), port)?,
        });
        let answer = (&mut question.answer).await;
        *open = None;
        answer.unwrap_or_else(|_| Err(io::Error::other("the resolver ended without an answer")))
    }

    fn question(&self, host: String, port: u16) -> io::Result<Question> {
        let (tell, answer) = oneshot::channel();
        let (ask, name) = (self.ask, host.clone());
        // Nobody listens any more where the configuration has another server by now.
        let run = move || drop(tell.send(ask(&name, port)));
        std::thread::Builder::new().name("resolver".into()).spawn(run)?;
        Ok(Question { host, port, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static ANSWERS: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// A name server that is not reached until [`answers`]; `nowhere` is known to be no name at once. Questions about
    /// `broker.lan` are counted.
    fn hangs(host: &str, port: u16) -> Answer {
        if host == "nowhere" {
            return Err(io::ErrorKind::NotFound.into());
        }
        if host == "broker.lan" {
            ASKED.fetch_add(1, Ordering::SeqCst);
        }
        let answers = ANSWERS.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(ANSWERS.1.wait_while(answers, |answers| !*answers).unwrap_or_else(PoisonError::into_inner));
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
    }

    fn answers() {
        *ANSWERS.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ANSWERS.1.notify_all();
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_asked_once_however_many_attempts_give_up() {
        let resolver = Resolver::asking(hangs);
        for _ in 0..5 {
            let attempt = tokio::time::timeout(Duration::from_millis(10), resolver.addresses("broker.lan", 1883)).await;
            assert!(attempt.is_err(), "there is no answer yet");
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        answers();
        let addresses = resolver.addresses("broker.lan", 1883).await.expect("an answer");
        assert_eq!((addresses.as_slice(), ASKED.load(Ordering::SeqCst)), (&[([10, 0, 0, 1], 1883).into()][..], 1));
        resolver.addresses("broker.lan", 1883).await.expect("an answer");
        assert_eq!(ASKED.load(Ordering::SeqCst), 2, "an answer serves one attempt: addresses change");
    }

    #[tokio::test]
    async fn another_name_is_another_question() {
        let resolver = Resolver::asking(hangs);
        let attempt = tokio::time::timeout(Duration::from_millis(10), resolver.addresses("elsewhere", 1)).await;
        drop(attempt);
        let error = resolver.addresses("nowhere", 1).await.expect_err("no name");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
