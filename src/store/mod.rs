//! The one handle to the state: a lock, and a disk behind it.
//!
//! `decide` runs a pure decision on the state, applies its changes, hands them
//! to the writer thread and waits until they are on disk; the writer appends
//! all that has gathered meanwhile at once. Knows no protocol and no policy.

mod ahead;
mod disk;
mod frame;
mod later;
mod log;
#[doc(hidden)]
pub mod measured;
mod problem;
mod promise;
mod promised;
mod queue;
mod rows;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
};

use tokio::sync::watch;

pub use disk::FILE_NAME;
pub use problem::OpenError;
pub use promised::{Decided, Promised, SoFar, Written};

use crate::{
    events::Bus,
    model::{Change, Decision, Pool},
    state::State,
};
use ahead::{kept_lease, step_ahead};
use disk::Disk;
use promise::{Promises, RestsOn};
use queue::Queue;

/// The state could not be written down; nothing more will be decided.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state cannot be written to disk: {0}")]
pub struct Unwritable(Arc<str>);

/// A handle to the state, cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    /// Many look at a time, and one decides.
    inner: RwLock<Inner>,
    progress: watch::Receiver<Progress>,
    /// Says that the disk has refused, and nothing else, so that who waits for that alone
    /// is not woken by each commit.
    failure: watch::Receiver<Option<Unwritable>>,
    /// Says that a decision has changed the state.
    changed: watch::Sender<()>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    events: Bus,
}

struct Inner {
    state: State,
    /// How many decisions were handed to the writer; the number of the last.
    handed: u64,
    promises: Promises,
    /// None when all is closed.
    to_writer: Option<Arc<Queue>>,
}

impl Inner {
    /// What an answer rests on that may be ahead of the lease among its changes; none if
    /// it may not, or not before a change that is added here. When nothing is written
    /// any more, no answer is ahead.
    fn ahead(&self, changes: &mut Vec<Change>) -> Option<RestsOn> {
        self.to_writer.as_ref()?;
        let lease = kept_lease(&self.state, changes)?;
        if let Some(step) = step_ahead(&self.state, &lease) {
            changes.push(step);
            return None;
        }
        Some(self.promises.before(&lease))
    }

    /// Somebody waits for what was handed to the writer.
    fn hurry(&self) {
        if let Some(to_writer) = &self.to_writer {
            to_writer.hurry();
        }
    }

    /// Writes that all that was acknowledged is on disk, behind all of it, and nothing
    /// after it. What those who ran before have lost stays so.
    fn end(&mut self) {
        let Some(to_writer) = self.to_writer.take() else { return };
        let lost_until = self.state.addresses.lost_until();
        if self.state.addresses.ahead() > lost_until {
            to_writer.push(vec![Change::Ahead(lost_until)], false);
        }
        to_writer.close();
    }
}

impl Drop for Inner {
    /// The writer ends when nobody is left who could hand it anything.
    fn drop(&mut self) {
        self.end();
    }
}

/// How far the writer has come.
#[derive(Debug, Clone)]
enum Progress {
    /// All decisions up to this number are on disk.
    Written(u64),
    /// The disk refused; the daemon must stop.
    Failed(Unwritable),
}

impl Store {
    /// Opens the store in `directory` (made if it is not there), and reads all
    /// of it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if another daemon has it open, if it is damaged or of
    /// another version, or if the directory cannot be used. Nothing is changed
    /// on disk then.
    pub fn open(
        directory: &Path,
        pools: impl IntoIterator<Item = Pool>,
    ) -> Result<Self, OpenError> {
        Self::open_over(directory, State::new(pools))
    }

    /// The same over a state that is empty but for the networks it serves.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_over(directory: &Path, state: State) -> Result<Self, OpenError> {
        let (disk, log, state) = Disk::open(directory, state)?;
        let queue = Arc::new(Queue::default());
        let (report, progress) = watch::channel(Progress::Written(0));
        let (fail, failure) = watch::channel(None);
        let writer = writer::start(disk, log, Arc::clone(&queue), (report, fail))
            .map_err(OpenError::Thread)?;
        let promises = Promises::default();
        let inner = Inner { state, handed: 0, promises, to_writer: Some(queue) };
        Ok(Self {
            shared: Arc::new(Shared {
                inner: RwLock::new(inner),
                progress,
                failure,
                changed: watch::Sender::new(()),
                writer: Mutex::new(Some(writer)),
                events: Bus::default(),
            }),
        })
    }

    /// Decides on the state as it is now, carries out what was decided, and
    /// returns the answer when every promise in it is on disk.
    ///
    /// Two decisions never see the same state, so two of them cannot give away
    /// the same thing. A caller that is dropped while it waits loses the answer,
    /// not the change.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] if the disk refuses; the answer must not be given then.
    pub async fn decide<Answer>(
        &self,
        decision: impl FnOnce(&State) -> Decision<Answer>,
    ) -> Result<Answer, Unwritable> {
        let (answer, wait_for) = self.decide_now(decision);
        if let Some(number) = wait_for {
            self.is_written(number).await?;
        }
        Ok(answer)
    }

    /// The same for what mostly changes nothing, such as a script that is asked for once
    /// more: so long many do it at the same time. Where there is a change it is
    /// decided again, since others may have decided meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Self::decide`].
    pub async fn look_or_decide<Answer>(
        &self,
        decision: impl Fn(&State) -> Decision<Answer>,
    ) -> Result<Answer, Unwritable> {
        // Without a change no answer waits for anything.
        match self.look(&decision) {
            Decision { answer, changes } if changes.is_empty() => Ok(answer),
            _stale => self.decide(decision).await,
        }
    }

    /// As [`Self::decide`] without waiting: an answer that has to wait is kept in a
    /// [`Promised`], which [`Self::written`] opens. For who has many at a time.
    pub fn decide_at_once<Answer>(
        &self,
        decision: impl FnOnce(&State) -> Decision<Answer>,
    ) -> Decided<Answer> {
        match self.decide_now(decision) {
            (answer, Some(number))
                if self.written_up_to().is_none_or(|written| written < number) =>
            {
                Decided::Promised(Promised::new(answer, number))
            }
            (answer, _) => Decided::Now(answer),
        }
    }

    /// How far the writer has come.
    #[must_use]
    pub fn written(&self) -> Written {
        Written::new(self.shared.progress.clone())
    }

    /// Decides something whose answer promises nothing, such as the script of a
    /// machine, and waits for nothing. An answer that tells somebody of a change
    /// must go through [`Self::decide`].
    pub fn note<Answer>(&self, decision: impl FnOnce(&State) -> Decision<Answer>) -> Answer {
        self.decide_now(decision).0
    }

    /// What the state says now. It may show a change that is not yet on disk:
    /// for answers that nobody acts on outside.
    pub fn look<Answer>(&self, question: impl FnOnce(&State) -> Answer) -> Answer {
        question(&self.together().state)
    }

    /// What the state says now, told only when all of it is on disk: for
    /// answers that somebody acts on, such as a controller that counts.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] if the disk refuses.
    pub async fn look_durably<Answer>(
        &self,
        question: impl FnOnce(&State) -> Answer,
    ) -> Result<Answer, Unwritable> {
        let (answer, number) = {
            let inner = self.together();
            inner.hurry();
            (question(&inner.state), inner.handed)
        };
        self.is_written(number).await?;
        Ok(answer)
    }

    /// Waits until the state answers the question. It is asked now, and again when
    /// decisions have changed something, perhaps once for several; as with
    /// [`Self::look`], what it sees may not be on disk yet.
    pub async fn look_until<Answer>(
        &self,
        mut question: impl FnMut(&State) -> Option<Answer>,
    ) -> Answer {
        // Subscribed before the first look, so that no change falls between.
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(answer) = self.look(&mut question) {
                return answer;
            }
            // It has not ended: its sender is in this store.
            let _ = changed.changed().await;
        }
    }

    /// Where every change is told as it is applied, and where the rooms tell what
    /// changes nothing. An event may be ahead of the disk by the time of one
    /// commit, as what [`Self::look`] shows.
    #[must_use]
    pub fn events(&self) -> &Bus {
        &self.shared.events
    }

    /// Ends when the disk has refused a change, with the reason: the daemon
    /// must stop then, since it could only forget.
    pub async fn failed(&self) -> Unwritable {
        let mut failure = self.shared.failure.clone();
        let failed = failure.wait_for(Option::is_some).await.map(|reason| reason.clone());
        match failed {
            Ok(Some(reason)) => reason,
            // The writer has ended because the store was closed.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Writes what is still to be written, folds the log into the tables and closes
    /// the file. Decisions after this are refused.
    pub fn close(&self) {
        self.alone().end();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }

    /// The decision and its changes under one lock, and its number if the answer
    /// must wait for it. The changes of one decision are on disk all or none.
    fn decide_now<Answer>(
        &self,
        decision: impl FnOnce(&State) -> Decision<Answer>,
    ) -> (Answer, Option<u64>) {
        let mut inner = self.alone();
        let Decision { answer, mut changes } = decision(&inner.state);
        let left: Vec<Change> =
            changes.iter().filter_map(|change| inner.state.left_behind(change)).collect();
        changes.extend(left);
        let ahead = inner.ahead(&mut changes);
        for change in &changes {
            self.shared.events.changed(&inner.state, change);
            inner.state.apply(change);
        }
        if !changes.is_empty() {
            self.shared.changed.send_replace(());
        }
        let rests_on = ahead.unwrap_or_else(|| inner.promises.rests_on(&changes));
        let kept: Vec<Change> = changes.into_iter().filter(is_kept).collect();
        let written = self.written_up_to().unwrap_or_default();
        inner.handed += u64::from(!kept.is_empty());
        let number = inner.handed;
        let wait_for = rests_on.of(number);
        let is_waited_for = wait_for > Some(written);
        if !kept.is_empty() {
            inner.promises.handed(&kept, number, written);
            // That there is none shows when the answer waits for its number.
            if let Some(to_writer) = &inner.to_writer {
                to_writer.push(kept, is_waited_for);
            }
        } else if is_waited_for {
            inner.hurry();
        }
        (answer, wait_for)
    }

    /// The number of the last decision that is on disk; none when the disk has refused.
    fn written_up_to(&self) -> Option<u64> {
        match &*self.shared.progress.borrow() {
            Progress::Written(written) => Some(*written),
            Progress::Failed(_) => None,
        }
    }

    async fn is_written(&self, number: u64) -> Result<(), Unwritable> {
        let mut progress = self.shared.progress.clone();
        loop {
            match &*progress.borrow_and_update() {
                Progress::Failed(reason) => return Err(reason.clone()),
                Progress::Written(written) if *written >= number => return Ok(()),
                Progress::Written(_) => {}
            }
            if progress.changed().await.is_err() {
                return Err(Unwritable("the store is closed".into()));
            }
        }
    }

    fn together(&self) -> RwLockReadGuard<'_, Inner> {
        // A decision that panicked has applied nothing: changes are applied
        // after it, and applying does not panic.
        self.shared.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Inner> {
        // As above.
        self.shared.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the change is written at all: an offer dies with the process.
fn is_kept(change: &Change) -> bool {
    match change {
        Change::Lease(lease) => !lease.is_passing(),
        Change::Lease6(lease) => !lease.is_passing(),
        Change::Kept(_) | Change::Slots(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Lease, LeaseState, Mac, Timestamp};

    fn lease(last: u8, state: LeaseState) -> Change {
        Change::Lease(Lease {
            address: Ipv4Addr::new(10, 0, 0, last),
            mac: Mac::new([2, 0, 0, 0, 0, last]),
            state,
            expires: Timestamp(1000),
        })
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[tokio::test]
    async fn what_was_decided_is_there_after_opening_again() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        for last in 1..20 {
            store
                .decide(|_| Decision::with((), lease(last, LeaseState::Bound)))
                .await
                .expect("written");
        }
        let before = store.look(State::clone);
        store.close();
        drop(store);
        let store = Store::open(directory.path(), None).expect("the same store");
        assert_eq!(store.look(State::clone), before);
        assert_eq!(store.look(|state| state.addresses.leases().count()), 19);
    }

    #[tokio::test]
    async fn an_ipv6_lease_is_there_after_opening_again_and_an_offer_is_not() {
        let directory = directory();
        let lease = |last, state| {
            Change::Lease6(crate::model::Lease6 {
                address: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last),
                holder: crate::model::Holder::Machine(Mac::new([2, 0, 0, 0, 0, 1])),
                association: 7,
                state,
                expires: Timestamp(1000),
            })
        };
        let store = Store::open(directory.path(), None).expect("a new store");
        for change in [lease(1, LeaseState::Bound), lease(2, LeaseState::Offered)] {
            store.decide(|_| Decision::with((), change)).await.expect("written");
        }
        store.close();
        drop(store);
        let store = Store::open(directory.path(), None).expect("the same store");
        let kept = |state: &State| state.addresses6.leases().cloned().collect::<Vec<_>>();
        let kept = store.look(kept).into_iter().map(Change::Lease6).collect::<Vec<_>>();
        assert_eq!(kept, [lease(1, LeaseState::Bound)]);
    }

    /// The directory as a power cut at this moment would leave it.
    fn after_a_crash(directory: &Path) -> tempfile::TempDir {
        let copy = self::directory();
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
        }
        copy
    }

    fn logs(directory: &Path) -> Vec<std::path::PathBuf> {
        let files = log::files(directory).expect("a directory");
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// A store that was not closed, with these many leases, each in a batch of its own.
    async fn crashed(leases: u8) -> tempfile::TempDir {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        for last in 1..=leases {
            let change = lease(last, LeaseState::Bound);
            store.decide(|_| Decision::with((), change)).await.expect("written");
        }
        let copy = after_a_crash(directory.path());
        store.close();
        assert_eq!(logs(directory.path()).len(), 0, "a store that was closed has no log");
        copy
    }

    fn leases_in(directory: &Path) -> usize {
        let store = Store::open(directory, None).expect("a torn log is no damage");
        let count = store.look(|state| {
            let count = state.addresses.leases().count();
            let last = u8::try_from(count).expect("few");
            let has = |last| state.addresses.lease(Ipv4Addr::new(10, 0, 0, last)).is_some();
            assert!((1..=last).all(has), "they are the first ones");
            count
        });
        store.close();
        count
    }

    #[tokio::test]
    async fn a_crash_loses_nothing_that_was_answered_and_its_log_is_read_once() {
        let directory = crashed(20).await;
        assert_eq!(logs(directory.path()).len(), 1);
        let store = Store::open(directory.path(), None).expect("a torn log is no damage");
        let again = after_a_crash(directory.path());
        store.close();
        for directory in [directory, again] {
            assert_eq!(leases_in(directory.path()), 20);
        }
    }

    /// The fold ends with the removal of the file. Whatever came meanwhile, one that
    /// is still there is not read a second time.
    #[tokio::test]
    async fn a_log_that_came_back_after_its_fold_takes_nothing_back() {
        let directory = directory();
        let (mac, now) = (Mac::new([2, 0, 0, 0, 0, 1]), Timestamp(5));
        let instance = crate::model::testing::instance(1, mac);
        let (id, report) = (instance.id, instance.secrets.report);
        let progress = instance.progress.script(true, Timestamp(3));
        let first = [
            Change::Machine(crate::model::testing::held(mac, now)),
            Change::Instance(instance),
            Change::Progress(id, progress),
            lease(1, LeaseState::Bound),
        ];
        let reason = crate::model::Reason::RollingUpdate;
        let then = [
            Change::Destroyed(crate::model::Destroyed { id, at: now, reason, mac, report }),
            Change::Forgotten(mac),
            lease(1, LeaseState::Released),
        ];
        let store = Store::open(directory.path(), None).expect("a new store");
        for change in first {
            store.decide(|_| Decision::with((), change)).await.expect("written");
        }
        let before = store.look(State::clone);
        let crashed = after_a_crash(directory.path());
        store.close();
        let [log] = logs(crashed.path()).try_into().expect("one file");
        let kept = std::fs::read(&log).expect("there");
        let store = Store::open(crashed.path(), None).expect("a torn log is no damage");
        assert_eq!(store.look(State::clone), before, "what the log has");
        std::fs::write(&log, &kept).expect("written");
        for change in then {
            store.decide(|_| Decision::with((), change)).await.expect("written");
        }
        let after = store.look(State::clone);
        let again = after_a_crash(crashed.path());
        assert_eq!(logs(again.path()).len(), 2, "the old one and the new one");
        store.close();
        std::fs::write(&log, &kept).expect("written");
        for directory in [crashed, again] {
            let store = Store::open(directory.path(), None).expect("the same store");
            assert_eq!(store.look(State::clone), after, "nothing came back");
        }
    }

    #[tokio::test]
    async fn only_the_owner_reads_what_is_on_disk() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = directory();
        let inner = outer.path().join("a/state");
        let _store = Store::open(&inner, None).expect("a new store");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        let files: Vec<_> = std::fs::read_dir(&inner).expect("there").flatten().collect();
        assert_eq!(files.len(), 2, "the tables and the log");
        assert!(files.iter().all(|file| mode(&file.path()) == 0o600));
    }

    #[tokio::test]
    async fn a_log_that_is_cut_anywhere_is_read_as_the_first_decisions() {
        let directory = crashed(5).await;
        let [log] = logs(directory.path()).try_into().expect("one file");
        let whole = std::fs::read(log).expect("there");
        let used = whole.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
        let mut before = 0;
        for length in (0..=used).step_by(17).chain([used]) {
            let cut = after_a_crash(directory.path());
            let [log] = logs(cut.path()).try_into().expect("one file");
            std::fs::write(log, &whole[..length]).expect("written");
            let count = leases_in(cut.path());
            assert!(count >= before, "{count} of {length} octets");
            before = count;
        }
        assert_eq!(before, 5, "and the whole one as all");
    }

    #[tokio::test]
    async fn damage_in_a_log_is_reported_and_left_as_it_is() {
        let directory = crashed(5).await;
        let [log] = logs(directory.path()).try_into().expect("one file");
        let mut bytes = std::fs::read(&log).expect("there");
        bytes[40] ^= 1;
        std::fs::write(&log, &bytes).expect("written");
        let error = Store::open(directory.path(), None).map(|_| ()).expect_err("damaged");
        assert!(matches!(&error, OpenError::Damaged { path, .. } if *path == log), "{error}");
        assert!(std::fs::read(&log).expect("still there") == bytes);
    }

    #[tokio::test]
    async fn a_long_log_goes_into_the_tables_while_others_are_written() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        let mut number = 0;
        let instance = |number: u64| {
            let [.., a, b] = number.to_be_bytes();
            let mut instance =
                crate::model::testing::instance(number, Mac::new([2, 0, 0, 0, a, b]));
            instance.init = "x".repeat(100_000).into();
            Change::Instance(instance)
        };
        // Until a file of the log was folded and removed.
        while logs(directory.path()).first().is_none_or(|path| path.ends_with("state.log.1")) {
            number += 1;
            store.decide(|_| Decision::with((), instance(number))).await.expect("written");
            assert!(number < 10_000, "it is never folded");
        }
        let before = store.look(State::clone);
        store.close();
        let store = Store::open(directory.path(), None).expect("the same store");
        assert!(store.look(|state| *state == before), "all of it is there");
    }

    #[tokio::test]
    async fn an_offer_is_not_kept_over_a_restart() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        store.decide(|_| Decision::with((), lease(1, LeaseState::Offered))).await.expect("no wait");
        store.close();
        drop(store);
        let store = Store::open(directory.path(), None).expect("the same store");
        assert_eq!(store.look(|state| state.addresses.leases().count()), 0);
    }

    #[tokio::test]
    async fn a_second_opener_is_refused() {
        let directory = directory();
        let _first = Store::open(directory.path(), None).expect("a new store");
        let second = Store::open(directory.path(), None).map(|_| ()).expect_err("it is in use");
        assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    }

    #[tokio::test]
    async fn a_closed_store_promises_nothing() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        store.close();
        let answer = store.decide(|_| Decision::with((), lease(1, LeaseState::Bound))).await;
        assert!(answer.is_err());
    }

    #[tokio::test]
    async fn who_waits_for_something_sees_it_once_it_was_decided() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let waits = store.look_until(|state| {
            looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (state.addresses.leases().count() == 3).then_some(())
        });
        let decides = async {
            for last in 1..=3 {
                store
                    .decide(|_| Decision::with((), lease(last, LeaseState::Bound)))
                    .await
                    .expect("written");
                // What changes nothing wakes nobody.
                store.note(|_| Decision::only(()));
            }
        };
        tokio::join!(waits, decides);
        assert!(looks.into_inner() <= 4, "it looks no more often than something changes");
        store.look_until(|_| Some(())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_changes_nothing_is_decided_by_several_at_the_same_time() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        let inside = Arc::new(std::sync::Barrier::new(2));
        let tasks: Vec<_> = (0..2)
            .map(|number| {
                let (store, inside) = (store.clone(), Arc::clone(&inside));
                let decision = move |_: &State| {
                    // Alone, neither would ever come past it.
                    inside.wait();
                    Decision::only(number)
                };
                tokio::spawn(async move { store.look_or_decide(decision).await })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.expect("no panic").expect("nothing to write"), number);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_changes_something_is_decided_one_after_the_other_after_a_look_too() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        let take_next = |state: &State| {
            let next = u8::try_from(state.addresses.leases().count()).expect("few") + 1;
            if next > 100 {
                return Decision::only(None);
            }
            Decision::with(Some(next), lease(next, LeaseState::Bound))
        };
        let taken = sorted((0..101).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.look_or_decide(take_next).await.expect("written") })
        }));
        let each_once = std::iter::once(None).chain((1..=100).map(Some)).collect::<Vec<_>>();
        assert_eq!(taken.await, each_once);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn decisions_at_the_same_time_see_one_state_after_the_other() {
        let directory = directory();
        let store = Store::open(directory.path(), None).expect("a new store");
        let take_next = |state: &State| {
            let next = u8::try_from(state.addresses.leases().count()).expect("few") + 1;
            Decision::with(next, lease(next, LeaseState::Bound))
        };
        let taken = sorted((0..100).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.decide(take_next).await.expect("written") })
        }));
        assert_eq!(taken.await, (1..=100).collect::<Vec<u8>>());
    }

    /// What all these tasks say, in its order, when all have begun.
    async fn sorted<Answer: Ord>(
        tasks: impl Iterator<Item = tokio::task::JoinHandle<Answer>>,
    ) -> Vec<Answer> {
        let mut said = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            said.push(task.await.expect("no panic"));
        }
        said.sort_unstable();
        said
    }
}
