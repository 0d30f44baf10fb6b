//! Drain: asks the machine of an instance to stop its work, and waits for it, but
//! never longer than it may. What is decided is pure; the rest waits.

use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::callback;
use crate::{
    model::{
        Callback, Change, Decision, Instance, InstanceId, InstanceState, Mac, Progress, Timestamp,
    },
    state::State,
    store::{Store, Unwritable},
};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spi) enum Drained {
    /// There was nothing to stop: it does not run, has stopped before, or is no
    /// more.
    Before,
    /// Its machine has reported that it stopped, or runs it no more.
    Reported,
    /// Its machine has answered so.
    Answered,
    /// It has not stopped in time.
    Late,
}

/// What the machine of an instance was asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    id: InstanceId,
    mac: Mac,
    callback: Option<Callback>,
}

/// Asks the machine of this instance to stop its work, and returns when it has,
/// or `patience` is over. Returns at once if there is nothing to stop.
pub(in crate::spi) async fn drain(
    store: &Store,
    id: &str,
    patience: Duration,
    now: Timestamp,
) -> Result<Drained, Unwritable> {
    let asked = store.decide(|state| ask(state, id, now)).await?;
    // What another call has asked or heard may still be on its way to the disk.
    store.look_durably(|_| ()).await?;
    let Some(asked) = asked else { return Ok(Drained::Before) };
    let Asked { id, mac, callback } = &asked;
    let reported = store.look_until(|state| has_stopped(state, *id).then_some(()));
    let waited = tokio::time::timeout(patience, async {
        tokio::select! {
            () = reported => Drained::Reported,
            () = answered(&asked) => Drained::Answered,
        }
    })
    .await;
    let drained = waited.unwrap_or(Drained::Late);
    match drained {
        Drained::Answered => {
            let now = Timestamp::from(SystemTime::now());
            store.decide(|state| answered_at(state, *id, now)).await?;
            info!(%id, %mac, "drained, as its machine answered");
        }
        Drained::Reported => info!(%id, %mac, "drained, as its machine reported"),
        Drained::Before | Drained::Late => {
            let has_callback = callback.is_some();
            warn!(%id, %mac, ?patience, has_callback, "not drained in time; it goes on without");
        }
    }
    Ok(drained)
}

/// Ends when the machine has answered that it stopped; never, if it cannot be
/// asked or answers something else: it may still report.
async fn answered(Asked { id, mac, callback }: &Asked) {
    if let Some(callback) = callback {
        match callback::call(callback).await {
            Ok(()) => return,
            Err(problem) => {
                let (address, port) = (callback.address, callback.port);
                warn!(%id, %mac, %address, port, %problem, "the machine did not take the request to stop");
            }
        }
    }
    std::future::pending().await
}

/// That the machine of this instance is asked to stop from now on; nothing if
/// there is nothing to stop.
fn ask(state: &State, id: &str, now: Timestamp) -> Decision<Option<Asked>> {
    let Some(instance) = id.parse().ok().and_then(|id| state.instances.find(id)) else {
        return Decision::only(None);
    };
    if is_stopped(instance) {
        return Decision::only(None);
    }
    let callback = instance.progress.drain.callback.clone();
    // An address that was given to another machine since is that machine's.
    let is_own = |callback: &Callback| {
        state
            .machine_at(callback.address, now)
            .is_none_or(|card| state.machines.of_card(card) == instance.mac)
    };
    let asked = Asked { id: instance.id, mac: instance.mac, callback: callback.filter(is_own) };
    changed(instance, instance.progress.drain_asked(now), Some(asked))
}

/// That its machine has answered that it stopped, if it is still the same boot.
fn answered_at(state: &State, id: InstanceId, now: Timestamp) -> Decision<()> {
    match state.instances.find(id) {
        Some(instance) if instance.progress.drain.asked_at.is_some() => {
            changed(instance, instance.progress.drained(now), ())
        }
        Some(_) | None => Decision::only(()),
    }
}

fn changed<Answer>(instance: &Instance, after: Progress, answer: Answer) -> Decision<Answer> {
    if after == instance.progress {
        return Decision::only(answer);
    }
    Decision::with(answer, Change::Progress(instance.id, after))
}

fn has_stopped(state: &State, id: InstanceId) -> bool {
    state.instances.find(id).is_none_or(is_stopped)
}

/// Whether there is no work to stop. What does not run has none; what runs has
/// reported in, so its machine can be expected to report again.
fn is_stopped(instance: &Instance) -> bool {
    instance.progress.state != InstanceState::Running || instance.progress.drain.done_at.is_some()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        model::{Destroyed, Lease, LeaseState, Reason},
        spi::answer::tests::{NOW, instance, mac},
    };

    /// Long enough for everything that ends by itself.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// Short enough to be waited for to its end.
    const IMPATIENCE: Duration = Duration::from_millis(300);

    fn at(port: u16) -> Callback {
        Callback { address: Ipv4Addr::LOCALHOST.into(), port, path: "/stop?now=1".to_owned() }
    }

    fn running(callback: Option<Callback>) -> Instance {
        let one = instance(5, 1, &[]);
        Instance { progress: one.progress.script(true, NOW).ready(callback, NOW), ..one }
    }

    async fn store_with(directory: &tempfile::TempDir, instance: &Instance) -> Store {
        let store = Store::open(directory.path(), None).expect("a new store");
        let change = Change::Instance(instance.clone());
        store.decide(|_| Decision::with((), change)).await.expect("written");
        store
    }

    async fn step(store: &Store, id: InstanceId, step: impl FnOnce(&Progress) -> Progress) {
        let decision = |state: &State| {
            let before = &state.instances.find(id).expect("it lives").progress;
            Decision::with((), Change::Progress(id, step(before)))
        };
        store.decide(decision).await.expect("written");
    }

    /// A machine that takes one call and answers this; then it tells what it was
    /// asked. If it has answered, that is when its caller has read that.
    async fn machine(answer: &'static str) -> (u16, tokio::task::JoinHandle<(String, TcpStream)>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a head"));
            }
            stream.write_all(answer.as_bytes()).await.expect("sent");
            if !answer.is_empty() {
                let hung_up = stream.read_u8().await;
                assert!(hung_up.is_err(), "it says no more");
            }
            (String::from_utf8(request).expect("text"), stream)
        });
        (port, asked)
    }

    #[tokio::test]
    async fn what_does_not_run_is_drained_at_once() {
        let new = instance(5, 1, &[]);
        let of = |progress: Progress| Instance { progress, ..new.clone() };
        let booting = new.progress.script(true, NOW);
        let ready = booting.ready(None, NOW);
        for instance in [
            of(new.progress.clone()),
            of(booting),
            of(ready.failed("disk", NOW)),
            of(ready.drain_asked(NOW).drained(NOW)),
        ] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = store_with(&directory, &instance).await;
            for id in [instance.id.to_string(), "nosuch".to_owned(), String::new()] {
                let drained = drain(&store, &id, PATIENCE, NOW).await.expect("written");
                assert_eq!(drained, Drained::Before, "{id}");
            }
            let after = store.look(|state| state.instances.find(instance.id).cloned());
            assert_eq!(after.as_ref(), Some(&instance), "nobody was asked");
        }
    }

    #[tokio::test]
    async fn a_machine_that_polls_is_waited_for_until_it_reports() {
        let one = running(None);
        for ending in ["drained", "failed", "booted", "destroyed"] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let store = store_with(&directory, &one).await;
            let id = one.id.to_string();
            let reports = async {
                let asked = |state: &State| {
                    state.instances.find(one.id)?.progress.drain.asked_at.is_some().then_some(())
                };
                store.look_until(asked).await;
                match ending {
                    "drained" => step(&store, one.id, |progress| progress.drained(NOW)).await,
                    "failed" => step(&store, one.id, |progress| progress.failed("x", NOW)).await,
                    "booted" => step(&store, one.id, |progress| progress.script(true, NOW)).await,
                    _ => {
                        let destroyed = Destroyed {
                            id: one.id,
                            at: NOW,
                            reason: Reason::Terminate,
                            mac: one.mac,
                            report: one.secrets.report,
                        };
                        let change = Change::Destroyed(destroyed);
                        store.decide(|_| Decision::with((), change)).await.expect("written");
                    }
                }
            };
            let (drained, ()) = tokio::join!(drain(&store, &id, PATIENCE, NOW), reports);
            assert_eq!(drained.expect("written"), Drained::Reported, "{ending}");
        }
    }

    #[tokio::test]
    async fn a_machine_that_never_reports_is_waited_for_no_longer_than_said() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let one = running(None);
        let store = store_with(&directory, &one).await;
        let drained = drain(&store, &one.id.to_string(), IMPATIENCE, NOW).await;
        assert_eq!(drained.expect("written"), Drained::Late);
        store.close();
        drop(store);
        let store = Store::open(directory.path(), None).expect("the same store");
        let asked = store.look(|state| state.instances.find(one.id).cloned()).expect("it lives");
        assert_eq!(asked.progress.drain.asked_at, Some(NOW), "it is on disk that it was asked");
    }

    #[tokio::test]
    async fn a_machine_with_a_callback_has_stopped_when_it_says_so_by_any_success() {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.0 204 Gone\r\n\r\n"]
        {
            let (port, asked) = machine(answer).await;
            let directory = tempfile::tempdir().expect("a temporary directory");
            let one = running(Some(at(port)));
            let store = store_with(&directory, &one).await;
            let id = one.id.to_string();
            let drained = drain(&store, &id, PATIENCE, NOW).await;
            assert_eq!(drained.expect("written"), Drained::Answered, "{answer}");
            let (request, _) = asked.await.expect("it was called");
            assert!(request.starts_with("POST /stop?now=1 HTTP/1.1\r\n"), "{request}");
            let host = format!("host: 127.0.0.1:{port}\r\n");
            let lower = request.to_lowercase();
            assert!(lower.contains(&host), "{request}");
            assert_eq!(lower.matches("content-length: 0\r\n").count(), 1, "{request}");
            // Nobody is called again: it has stopped.
            let again = drain(&store, &id, PATIENCE, NOW).await.expect("written");
            assert_eq!(again, Drained::Before);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_success_means_that_it_may_still_report() {
        for answer in [
            "",
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            let (port, asked) = machine(answer).await;
            let directory = tempfile::tempdir().expect("a temporary directory");
            let one = running(Some(at(port)));
            let store = store_with(&directory, &one).await;
            let id = one.id.to_string();
            let reports = async {
                let called = asked.await.expect("it was called");
                step(&store, one.id, |progress| progress.drained(NOW)).await;
                called
            };
            let (drained, _) = tokio::join!(drain(&store, &id, PATIENCE, NOW), reports);
            assert_eq!(drained.expect("written"), Drained::Reported, "{answer}");
        }
        // Nobody listens there.
        let (port, asked) = machine("").await;
        asked.abort();
        let _ = asked.await;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let one = running(Some(at(port)));
        let store = store_with(&directory, &one).await;
        let late = drain(&store, &one.id.to_string(), IMPATIENCE, NOW).await.expect("written");
        assert_eq!(late, Drained::Late);
    }

    #[test]
    fn an_address_that_another_machine_has_now_is_not_called() {
        let lease = |last| {
            Change::Lease(Lease {
                address: Ipv4Addr::LOCALHOST,
                mac: mac(last),
                state: LeaseState::Bound,
                expires: NOW.after(Duration::from_secs(60)),
            })
        };
        let one = running(Some(at(80)));
        for (holder, expected) in [(1, Some(at(80))), (2, None)] {
            let mut state = State::new(None);
            state.apply(&Change::Instance(one.clone()));
            state.apply(&lease(holder));
            let asked = ask(&state, &one.id.to_string(), NOW).answer.expect("it runs");
            assert_eq!(asked.callback, expected);
        }
    }
}
