//! The threads that have the connections, one for each processor, each with a runtime of its
//! own: what a connection asks for is heard, answered and sent by one thread, and no
//! other is woken for it. A common runtime hands tasks from one thread to another.

use std::{io, sync::Arc, thread};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};
use tracing::dispatcher;

/// So many threads are there at least: one may wait for the disk.
const FEWEST: usize = 2;

/// The threads; they end with this value.
pub(super) struct Crew {
    hands: Vec<Hand>,
}

struct Hand {
    runtime: Handle,
    /// Each of its connections has one, too.
    load: Arc<()>,
    /// Dropped, it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Crew {
    /// Starts a thread for each processor.
    ///
    /// # Errors
    ///
    /// The system has no thread or no epoll to give.
    pub(super) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let hands =
            (0..processors.max(FEWEST)).map(|_| Hand::start()).collect::<io::Result<_>>()?;
        Ok(Self { hands })
    }

    /// Has the thread with the fewest connections serve this one, as one of `connections`.
    ///
    /// # Errors
    ///
    /// The stream cannot be taken from the runtime that has it.
    pub(super) fn serve<Serving>(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        serving: impl FnOnce(TcpStream) -> Serving + Send + 'static,
    ) -> io::Result<()>
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let stream = stream.into_std()?;
        let least = self.hands.iter().min_by_key(|hand| Arc::strong_count(&hand.load));
        let Some(hand) = least else { return Err(io::ErrorKind::NotFound.into()) };
        let load = Arc::clone(&hand.load);
        let served = async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serving(stream).await,
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
            drop(load);
        };
        connections.spawn_on(served, &hand.runtime);
        Ok(())
    }
}

impl Hand {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        // Its lines go where those of the caller go.
        let log = dispatcher::get_default(Clone::clone);
        let work = move || {
            dispatcher::with_default(&log, || {
                // Nothing is sent: it is dropped.
                let _dropped = runtime.block_on(ended);
            });
        };
        thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(Self { runtime: handle, load: Arc::new(()), _running: running })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, future::pending};

    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (theirs, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
        (theirs.expect("connected"), ours.expect("accepted").0)
    }

    #[tokio::test]
    async fn each_thread_has_as_many_connections_as_the_others() {
        let crew = Crew::start().expect("threads");
        let mut connections = JoinSet::new();
        let (tell, mut told) = mpsc::unbounded_channel();
        let count = 3 * crew.hands.len();
        let mut clients = Vec::new();
        for _ in 0..count {
            let (theirs, ours) = connection().await;
            clients.push(theirs);
            let tell = tell.clone();
            let serving = async move |stream: TcpStream| {
                // At the thread's own runtime it has something to say.
                stream.writable().await.expect("open");
                tell.send(thread::current().id()).expect("somebody listens");
                pending::<()>().await;
            };
            crew.serve(&mut connections, ours, serving).expect("served");
        }
        let mut of_threads = HashMap::new();
        for _ in 0..count {
            *of_threads.entry(told.recv().await.expect("one more")).or_insert(0) += 1;
        }
        assert!(crew.hands.len() >= FEWEST && of_threads.len() == crew.hands.len());
        assert!(of_threads.values().all(|own| *own == 3), "{of_threads:?}");
    }

    #[tokio::test]
    async fn its_threads_and_their_connections_end_with_it() {
        let crew = Crew::start().expect("threads");
        let mut connections = JoinSet::new();
        let (theirs, ours) = connection().await;
        let serving = async move |_stream: TcpStream| pending::<()>().await;
        crew.serve(&mut connections, ours, serving).expect("served");
        drop(crew);
        let ended = connections.join_next().await.expect("there was one");
        assert!(ended.expect_err("it was waiting").is_cancelled());
        theirs.readable().await.expect("closed");
        assert_eq!(theirs.try_read(&mut [0]).expect("closed in order"), 0);
    }
}
