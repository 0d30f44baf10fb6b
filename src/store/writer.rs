//! The thread that writes: takes what waits, appends it to the log in one batch, and
//! says so. When a file of the log is long enough, a second thread folds it into the
//! tables, while the first goes on with the next file.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
};

use tokio::sync::watch;

use super::{Progress, Unwritable, disk::Disk, log::Log, queue::Queue};

/// So many octets of log are folded at once: some 30,000 leases, which are read
/// in a quarter of a second when the daemon was killed.
const FOLD_AT: u64 = 4 << 20;

/// Starts the thread; it ends when `decisions` are closed, and leaves no log then.
pub(super) fn start(
    disk: Disk,
    log: Log,
    decisions: Arc<Queue>,
    (report, fail): (watch::Sender<Progress>, watch::Sender<Option<Unwritable>>),
) -> io::Result<thread::JoinHandle<()>> {
    let folding = Folding::start(Arc::new(disk))?;
    thread::Builder::new().name("store".to_owned()).spawn(move || {
        if let Err(reason) = write_all(log, folding, &decisions, &report) {
            tracing::error!(%reason, "the state cannot be written to disk");
            let reason = Unwritable(reason.into());
            report.send_replace(Progress::Failed(reason.clone()));
            fail.send_replace(Some(reason));
        }
    })
}

fn write_all(
    mut log: Log,
    mut folding: Folding,
    decisions: &Queue,
    report: &watch::Sender<Progress>,
) -> Result<(), String> {
    let mut written = 0;
    while let Some(batch) = decisions.take() {
        log.append(batch.iter().flatten()).map_err(|error| error.to_string())?;
        written += batch.len() as u64;
        report.send_replace(Progress::Written(written));
        if log.len() >= FOLD_AT && folding.is_idle()? {
            let full = log.turn().map_err(|error| error.to_string())?;
            folding.begin(full)?;
        }
    }
    folding.begin(log.into_path())?;
    folding.finish()
}

/// The second thread, as the first one sees it.
struct Folding {
    to_fold: Sender<PathBuf>,
    folded: Receiver<Result<(), String>>,
    under_way: usize,
    thread: thread::JoinHandle<()>,
}

impl Folding {
    fn start(disk: Arc<Disk>) -> io::Result<Self> {
        let (to_fold, files) = channel::<PathBuf>();
        let (report, folded) = channel();
        let thread = thread::Builder::new().name("store-fold".to_owned()).spawn(move || {
            for file in files {
                let done = disk.fold(&file).map_err(|error| error.to_string());
                let done = done.and_then(|()| fs::remove_file(&file).map_err(|e| e.to_string()));
                // Nobody is there to hear it when the first thread has failed.
                let _ = report.send(done);
            }
        })?;
        Ok(Self { to_fold, folded, under_way: 0, thread })
    }

    fn begin(&mut self, file: PathBuf) -> Result<(), String> {
        self.under_way += 1;
        self.to_fold.send(file).map_err(|_| "the thread that folds has ended".to_owned())
    }

    /// Whether nothing is being folded.
    fn is_idle(&mut self) -> Result<bool, String> {
        match self.folded.try_recv() {
            Ok(done) => {
                done?;
                self.under_way -= 1;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err("the thread that folds has ended".to_owned());
            }
        }
        Ok(self.under_way == 0)
    }

    /// Waits until all is folded, and for the end of the thread, which closes the file.
    fn finish(self) -> Result<(), String> {
        drop(self.to_fold);
        let done = self.folded.iter().collect();
        // The tables are closed when it has ended.
        self.thread.join().map_err(|_| "the thread that folds has panicked".to_owned())?;
        done
    }
}
